#!/usr/bin/env bash
# The run under 60 faults of many kinds, on 1 to 4 ranks: the bits of a run that nobody touched. The
# same faults each time. Then a defect on purpose, which chaos must find.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
write_configs

# Long enough to be hit, saving often.
sed -e 's/steps = 60/steps = 1500/' -e 's/every = "10st"/every = "75st"/' -e 's/"25st"/"500st"/' \
  -e '1i [run]\ndir = "run"' mlp.toml >long.toml
"$HADAL" chaos long.toml --faults 60 --minutes 20 --seed 20261126 --folder chaos </dev/null >out.txt 2>err.txt ||
  { cat out.txt err.txt; tail -n 30 chaos/run.log; fail "chaos found something"; }
grep -q "^chaos: 60 faults of 1[0-4] kinds" out.txt || { cat out.txt; fail "not all faults, or of too few kinds"; }
cat out.txt

# A run whose order of sums depends on the number of ranks must not get through.
"$HADAL" chaos long.toml --faults 12 --minutes 10 --seed 5 --folder found --set 'train.order="fast"' </dev/null \
  >out.txt 2>err.txt && fail "chaos did not see other bits"
grep -q "the model has other bits than the reference's" err.txt || { cat out.txt err.txt; fail "another end"; }

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
