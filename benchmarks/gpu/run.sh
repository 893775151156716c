#!/usr/bin/env bash
# In a bundle of bundle.sh: proves the program on this machine's GPU, then times it. Prints one line a proof, and ends
# with 1 where one failed. A machine without a GPU runs what its twin can prove.
#   run.sh           both
#   run.sh proofs    and no times
#   run.sh times     alone: of a program that has been proven before
set -uo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
OUT="${OUT:-$HERE/out}"
mkdir -p "$OUT"
PYTHON="${PYTHON:-python3}"
TORCH="$("$PYTHON" -c 'import os, torch; print(os.path.dirname(torch.__file__))')" || { echo "no torch for $PYTHON" >&2; exit 69; }
NVIDIA="$(find "$TORCH/../nvidia" -maxdepth 3 -type d -name lib 2>/dev/null | paste -sd:)"
export PATH="$HERE/bin:$PATH" LD_LIBRARY_PATH="$HERE/lib:$TORCH/lib:$NVIDIA${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export OPAL_PREFIX="$HERE" OPAL_LIBDIR="$HERE/lib" OPAL_PKGLIBDIR="$HERE/openmpi" OPAL_PKGDATADIR="$HERE/share/openmpi"
export OPAL_BINDIR="$HERE/bin" OPAL_SYSCONFDIR="$HERE/share" OMPI_MCA_mca_base_component_path="$HERE/openmpi"
export PMIX_INSTALL_PREFIX="$HERE" PMIX_PKGLIBDIR="$HERE/pmix" PMIX_MCA_mca_base_component_path="$HERE/pmix"
export OMPI_MCA_plm_rsh_agent=/bin/true OMPI_MCA_btl=self,vader,tcp
# Several ranks on one GPU talk as if they were far apart; none of it says anything about speed.
export NCCL_SOCKET_IFNAME=lo NCCL_IB_DISABLE=1 NCCL_NET=Socket NCCL_RAS_ENABLE=0 NCCL_MAX_CTAS=4
failed=0
PARTS="${*:-proofs times}"
DEVICE=cuda
[ -e /dev/nvidiactl ] || DEVICE=twin

ranks() {
  local count="$1" root=()
  shift
  [ "$(id -u)" != 0 ] || root=(--allow-run-as-root)
  mpirun --oversubscribe --bind-to none "${root[@]}" -n "$count" "$@"
}
prove() {
  local name="$1" start=$SECONDS
  shift
  if "$@" >"$OUT/$name.log" 2>&1; then
    echo "ok    $name ($((SECONDS - start)) s)"
  else
    echo "FAIL  $name ($((SECONDS - start)) s): $(tail -n 3 "$OUT/$name.log" | tr '\n' ' ')"
    failed=1
  fi
}
hash_of() { sha256sum "$1/model/model.safetensors" | cut -d' ' -f1; }

# train FOLDER RANKS CONFIG [ARGUMENT …]
train() {
  local folder="$OUT/runs/$1" count="$2" config="$3"
  shift 3
  ranks "$count" hadal train "$HERE/data/$config.toml" --set run.dir="$folder" --set run.share_gpus=true \
    --set run.device=$DEVICE --set train.epochs=3 "$@"
}
# Any number of ranks gives one rank's bits.
same_bits() {
  local config="$1" expected count
  shift
  for count in 1 2 4; do
    rm -rf "$OUT/runs/$config-$count"
    train "$config-$count" "$count" "$config" "$@" || return 1
    echo "$count ranks: $(hash_of "$OUT/runs/$config-$count")"
    [ "$(hash_of "$OUT/runs/$config-$count")" = "${expected:=$(hash_of "$OUT/runs/$config-1")}" ] || return 1
  done
}
# waits_for_steps SEEN FOLDER LAUNCHER: until the run has logged more steps than that; 1 where it ends before.
waits_for_steps() {
  local seen="$1" metrics="$OUT/runs/$2/metrics.jsonl"
  until [ "$(grep -c '"kind":"train"' "$metrics" 2>/dev/null || true)" -gt "$seen" ]; do
    sleep 0.2
    kill -0 "$3" 2>/dev/null || return 1
  done
}
# What is recorded and replayed gives the bits of what is queued one by one: of the last run of same_bits.
without_graphs() {
  rm -rf "$OUT/runs/queued"
  train queued 1 "$@" --set run.graphs=false || return 1
  [ "$(hash_of "$OUT/runs/queued")" = "$(hash_of "$OUT/runs/$1-1")" ]
}
ranks_of() { pgrep -f "^hadal train .*runs/$1"; }
# A run goes from the GPU to the CPU and back, stopped in between.
moves() {
  rm -rf "$OUT/runs/moves"
  local device launcher seen code
  for device in $DEVICE cpu $DEVICE; do
    seen="$(grep -c '"kind":"train"' "$OUT/runs/moves/metrics.jsonl" 2>/dev/null || true)"
    train moves 2 digits-mlp --set train.epochs=300 --set log.every=0.2s --set run.device=$device &
    launcher=$!
    waits_for_steps "${seen:-0}" moves $launcher || return 1
    ranks_of moves | xargs kill -USR1
    wait $launcher
    code=$?
    [ $code = 75 ] || { echo "$device: exit $code"; return 1; }
  done
}
# Whoever is stopped or killed is named, and all are gone soon.
loses_a_rank() {
  local signal="$1" launcher victim code
  rm -rf "$OUT/runs/lost"
  train lost 2 digits-resnet18 --set train.epochs=1000 --set run.collective_timeout=5s --set log.every=1s &
  launcher=$!
  waits_for_steps 0 lost $launcher || return 1
  victim="$(ranks_of lost | tail -n 1)"
  kill "-$signal" "$victim"
  local start=$SECONDS
  wait $launcher
  code=$?
  kill -KILL "$victim" 2>/dev/null
  echo "exit $code after $((SECONDS - start)) s"
  [ $((SECONDS - start)) -lt 30 ] && [ $code -ne 0 ]
}

echo "$(hadal --version); $(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || echo 'no GPU: on its twin')"
proofs() {
  prove kernels_and_runs device_tests
  for count in 1 2 4; do prove "messages_$count" ranks $count mpi_tests; done
  for count in 1 2 3 4; do
    prove "sums_$count" ranks $count hadal bench reduce --device $DEVICE --share-gpus --sizes 4,100000,4000000 --rounds 3
  done
  prove doctor hadal doctor
  prove same_bits_mlp same_bits digits-mlp
  prove same_bits_resnet18 same_bits digits-resnet18 --set train.epochs=1
  prove without_graphs without_graphs digits-resnet18 --set train.epochs=1
  # CPUs compute convolutions in float16 too slowly for the twin.
  for precision in bfloat16 $([ $DEVICE != cuda ] || echo float16); do
    prove same_bits_$precision same_bits digits-resnet18 --set train.epochs=1 --set train.precision=$precision
    prove without_graphs_$precision without_graphs digits-resnet18 --set train.epochs=1 --set train.precision=$precision
  done
  prove moves_between_cpu_and_gpu moves
  for signal in STOP KILL; do prove "loses_a_rank_$signal" loses_a_rank $signal; done
  if [ $DEVICE = cuda ] && command -v compute-sanitizer >/dev/null; then
    prove sanitized compute-sanitizer --error-exitcode 1 device_tests '*GPU*,a program*'
  fi
}

[[ $PARTS != *proofs* ]] || proofs
[ $failed = 0 ] || { echo "not timed, for something failed; logs are in $OUT" >&2; exit 1; }
[[ $DEVICE = cuda && $PARTS = *times* ]] || exit 0

echo
hadal doctor
benchmark_device_kernels cuda | tee "$OUT/kernels.txt"
echo
for network in "resnet50 256 bfloat16" "resnet50 256 float16" "resnet50 128 float32" "resnet18 512 bfloat16" "gpt 64 bfloat16" "mlp 512 float32"; do
  read -r model batch precision <<<"$network"
  for round in 1 2 3; do
    for graphs in "" --no-graphs; do
      # shellcheck disable=SC2086
      hadal bench step --device cuda --model "$model" --micro-batch "$batch" --precision "$precision" --steps 30 --json $graphs 2>/dev/null |
        tee -a "$OUT/steps.jsonl" | "$PYTHON" -c 'import json, sys
print("hadal  {model} {micro_batch} {precision}, graphs {graphs}: {samples_per_second:.1f} samples/s".format(**json.load(sys.stdin)))'
    done
    [ "$model $precision" = "resnet50 float16" ] || [ "$model" != resnet50 ] || "$PYTHON" "$HERE/peer.py" "$batch" "$precision" | tee -a "$OUT/peers.txt"
  done
done
