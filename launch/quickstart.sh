#!/usr/bin/env bash
# quickstart.sh [cuda]
# From a fresh clone to a trained network: brings what is missing, builds, packs real data, trains on two
# MPI ranks, interrupts the run on purpose, resumes it, and evaluates it exactly. With "cuda" the program also
# computes on NVIDIA GPUs, where there are some.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh
source launch/digits.sh

PRESET="${1:-release}"
hadal_setup
[ "$PRESET" != cuda ] || install_cuda
say "building"
cmake --preset "$PRESET" >/dev/null
cmake --build --preset "$PRESET"
HADAL="$ROOT/build/$PRESET/bin/hadal"
CONFIG="$ROOT/configs/digits-mlp.toml"
RUN="$ROOT/runs/digits-mlp"

make_digits "$HADAL"
"$HADAL" inspect data/digits/train-0000.h5

if [ ! -e "$RUN/status.json" ]; then
  say "training on two ranks; interrupted on purpose after a moment"
  mpi_run 2 "$HADAL" train "$CONFIG" &
  launcher=$!
  until grep -q '"kind":"valid"' "$RUN/metrics.jsonl" 2>/dev/null || ! kill -0 "$launcher" 2>/dev/null; do
    sleep 0.1
  done
  touch "$RUN/STOP"
  wait "$launcher" || [ $? = 75 ]
  rm "$RUN/STOP"
fi

say "the same command again goes on where it stopped"
mpi_run 2 "$HADAL" train "$CONFIG"

say "exact evaluation of the best model"
mpi_run 2 "$HADAL" evaluate "$CONFIG" --data valid

cat <<EOF

The model    $RUN/model/model.safetensors   (opens with safetensors.torch.load_file)
The metrics  $RUN/metrics.jsonl
The run      $RUN/status.json, and checkpoints/ beside it
Next         look at it:             "$HADAL" inspect "$RUN"
             what a run would do:    "$HADAL" plan "$CONFIG" --ranks 1,2,4
             a ResNet-18:            mpirun -n 2 "$HADAL" train configs/digits-resnet18.toml
             your own data:          "$HADAL" pack --help, then copy a config; configs/reference.toml has every key
EOF
