#!/usr/bin/env bash
# How runs start, stop and say so: signals, STOP, finished runs, a second start, what the environment
# claims about ranks.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
write_configs
sed -e 's/steps = 60/steps = 100000/' mlp.toml >endless.toml

# One rank is told to stop: all save the same step and end with 75.
for signal in USR1 USR2 TERM; do
  train 3 endless.toml "stopped-$signal" >out.txt 2>err.txt &
  launcher=$!
  until [ -s "stopped-$signal/metrics.jsonl" ]; do sleep 0.05; done
  pkill -"$signal" -f "$HADAL train endless.toml.*$WORK/stopped-$signal" -n
  code=0
  wait "$launcher" || code=$?
  [ "$code" = 75 ] || { cat err.txt; fail "$signal: exit $code"; }
  grep -q "^stopped: step .*, checkpoint .*stopped-$signal/checkpoints/step-" out.txt || fail "$signal: last line"
  grep -qi "\"reason\": \"$signal\"" "stopped-$signal/status.json" || fail "$signal: reason"
  grep -qi "^75 $signal [0-9]* 0$" "stopped-$signal/log/exit-local" || fail "$signal: exit file"
done

# A second start in the folder of a live run.
train 2 endless.toml live >out1.txt 2>err1.txt &
launcher=$!
until [ -s live/metrics.jsonl ]; do sleep 0.05; done
before="$(sha256sum live/config.resolved.toml)"
expect_exit 69 "a live run owns" "$HADAL" train endless.toml --set "run.dir=\"$WORK/live\"" --set log.every=1
[ "$before" = "$(sha256sum live/config.resolved.toml)" ] || fail "the second start wrote in the run folder"
touch live/STOP
code=0
wait "$launcher" || code=$?
[ "$code" = 75 ] && grep -q '"reason": "stop"' live/status.json || fail "STOP: exit $code"

# A run that is done says so again.
train 2 mlp.toml done >out1.txt 2>err1.txt
train 1 mlp.toml done >out2.txt 2>err2.txt
[ "$(tail -n 1 out1.txt)" = "$(tail -n 1 out2.txt)" ] || fail "a finished run says something else"

# A changed identity, with both values; free keys may change; a fork is a run of its own.
expect_exit 78 "optimizer.lr: was 0.001, is 0.01" "$HADAL" train mlp.toml --set "run.dir=\"$WORK/done\"" --set optimizer.lr=0.01
"$HADAL" train mlp.toml --set "run.dir=\"$WORK/done\"" --set checkpoint.keep=1 >/dev/null 2>&1
"$HADAL" train mlp.toml --set "run.dir=\"$WORK/done\"" --set optimizer.lr=0.01 --fork "$WORK/forked" >/dev/null 2>&1
grep -q '"state": "done"' forked/status.json || fail fork

# What claims to be several ranks and is one.
for claim in "SLURM_JOB_ID=7 SLURM_NTASKS=2 SLURM_PROCID=0" "SLURM_JOB_ID=7 SLURM_NTASKS=2 SLURM_PROCID=1" \
  "SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=1" "OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1" \
  "PMI_RANK=1 PMI_SIZE=2" "PMIX_RANK=1" "QCG_PM_NTASKS=2" "SLURM_NTASKS=2"; do
  # shellcheck disable=SC2086
  expect_exit 69 "" env $claim "$HADAL" train mlp.toml --set "run.dir=\"$WORK/claim\""
  [ ! -e claim ] || fail "wrote before it looked: $claim"
done
expect_exit 69 "environment says 2 tasks" env SLURM_NTASKS=2 "$HADAL" train mlp.toml --set "run.dir=\"$WORK/claim\""
env SLURM_NTASKS=2 "$HADAL" train mlp.toml --single --set "run.dir=\"$WORK/single\"" >/dev/null 2>&1 || fail "--single"
expect_exit 69 "contradicts SLURM_NTASKS_PER_NODE" env SLURM_NTASKS=1 SLURM_NTASKS_PER_NODE=2 "$HADAL" train mlp.toml --set "run.dir=\"$WORK/claim\""

# What a pilot job's manager writes: plain lists; nodes that are in no list here. And what contradicts the ranks.
pilot=(SLURM_JOB_ID=7 SLURM_NTASKS=3 SLURM_NTASKS_PER_NODE=2,1 SLURM_NNODES=2 SLURM_JOB_NODELIST=n2,n1 SLURM_NODELIST=n2,n1)
mpi_run 3 env "${pilot[@]}" QCG_PM_NTASKS=3 "$HADAL" train mlp.toml --set "run.dir=\"$WORK/pilot\"" >pilot.txt 2>&1 </dev/null ||
  { cat pilot.txt; fail "a pilot job's variables"; }
expect_exit 69 "environment says 4 tasks (QCG_PM_NTASKS), MPI says 3" \
  mpi_run 3 env "${pilot[@]}" QCG_PM_NTASKS=4 "$HADAL" train mlp.toml --set "run.dir=\"$WORK/contradicted\""
[ ! -e contradicted ] || fail "wrote before it looked"
