#!/usr/bin/env bash
# Every process killed at random instants, started again each time, on 1 to 4 ranks: the bits of a run
# that nobody touched. The number of kills is 30; the instants come from a seed.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
write_configs
RANDOM=20260131

# Long enough to be killed 30 times, saving often.
sed -e 's/steps = 60/steps = 4000/' -e 's/every = "10st"/every = "40st"/' -e 's/"25st"/"500st"/' mlp.toml >long.toml
start="$(date +%s%N)"
train 2 long.toml reference >log.txt 2>&1 &
launcher=$!
until compgen -G "reference/checkpoints/step-*/manifest.json" >/dev/null; do
  kill -0 "$launcher" 2>/dev/null || { cat log.txt; fail "reference ended early"; }
  sleep 0.02
done
# How long a start takes to its first checkpoint here and now: kills fall before it and after it.
first_ms=$((($(date +%s%N) - start) / 1000000))
wait "$launcher" || { cat log.txt; fail reference; }
expected="$(model_hash reference)"

kills=0 resumed=0
while [ "$kills" -lt 30 ]; do
  ranks=$((RANDOM % 4 + 1))
  train "$ranks" long.toml killed >log.txt 2>&1 &
  launcher=$!
  pause=$((RANDOM % (2 * first_ms + 200)))
  sleep "$((pause / 1000)).$(printf '%03d' $((pause % 1000)))"
  # All ranks at once, as a node's power failure would; mpirun follows.
  pkill -KILL -f "$HADAL train long.toml.*$WORK/killed" || true
  wait "$launcher" 2>/dev/null || true
  kills=$((kills + 1))
  if grep -q "resuming at step" log.txt; then resumed=$((resumed + 1)); fi
  # A run that got through is begun anew.
  if [ -e killed/status.json ] && grep -q '"state": "done"' killed/status.json; then
    [ "$(model_hash killed)" = "$expected" ] || fail "other bits after $kills kills"
    rm -rf killed
  fi
done
train 3 long.toml killed >log.txt 2>&1 || { cat log.txt; fail "the last start"; }
[ "$(model_hash killed)" = "$expected" ] || fail "other bits after $kills kills"

# Cut on four ranks, resumed on three; batch norm and momentum this time.
train 2 resnet18.toml r18-reference >log.txt 2>&1
train 4 resnet18.toml r18-cut >log.txt 2>&1 &
launcher=$!
until [ -e r18-cut/checkpoints/step-000000002/manifest.json ]; do
  kill -0 "$launcher" 2>/dev/null || fail "ended before it was cut"
  sleep 0.02
done
pkill -KILL -f "$HADAL train resnet18.toml.*$WORK/r18-cut" || fail "nothing to kill"
wait "$launcher" 2>/dev/null || true
train 3 resnet18.toml r18-cut >log.txt 2>&1 || { cat log.txt; fail "resume on three"; }
grep -q "resuming at step" log.txt || fail "did not resume"
[ "$(model_hash r18-cut)" = "$(model_hash r18-reference)" ] || fail "resnet18: other bits"
[ "$resumed" -ge 10 ] || fail "only $resumed of the starts resumed: the kills came too early"
echo "$kills kills, $resumed resumed starts, the same bits: $expected"
