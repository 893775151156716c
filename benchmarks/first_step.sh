#!/usr/bin/env bash
# From exec to the end of step 1 of the digits run on two ranks: mpirun hadal against torchrun with
# DistributedDataParallel, in turn. The time ends when the first step's line appears.
# Usage: benchmarks/first_step.sh [ROUNDS]; needs tests/run.sh to have brought PyTorch and the digits.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../launch/setup.sh"
HADAL="$ROOT/build/dev/bin/hadal" PEER="$ROOT/benchmarks/peers/first_step.py"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

mkfifo "$work/output"

# seconds PATTERN COMMAND …: until a line of its output matches; the rest of the run is not waited for.
seconds() {
  local pattern="$1" start end command
  shift
  start="$(date +%s.%N)"
  "$@" >"$work/output" 2>&1 &
  command=$!
  exec 3<"$work/output"
  grep -m 1 -q "$pattern" <&3
  end="$(date +%s.%N)"
  cat <&3 >/dev/null &
  wait "$command" || true
  exec 3<&-
  echo "$end $start" | awk '{ printf "%.3f\n", $1 - $2 }'
}

median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)], v[1], v[NR] }'; }

for round in $(seq "${1:-10}"); do
  rm -rf "$work/run"
  seconds '^step 1/' mpi_run 2 "$HADAL" train "$ROOT/configs/digits-mlp.toml" \
    --set "run.dir=\"$work/run\"" --set data.drop_last=true --set train.epochs=1 >>"$work/hadal"
  seconds '^rank [01]: loss' "$VENV/bin/python" -m torch.distributed.run --nproc-per-node 2 "$PEER" \
    "$ROOT/data/digits/train-*.h5" >>"$work/peer"
done
read -r ours least most < <(median "$work/hadal")
read -r theirs peer_least peer_most < <(median "$work/peer")
echo "mpirun hadal      median $ours s  (min $least, max $most)"
echo "torchrun DDP      median $theirs s  (min $peer_least, max $peer_most)"
awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "hadal takes %.3f of the time\n", a / b }'
