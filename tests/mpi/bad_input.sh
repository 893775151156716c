#!/usr/bin/env bash
# One clear error, the right exit code, nothing written: on one rank and on three.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
write_configs

both() { # both CODE TEXT CONFIG [ARGUMENT …]
  local code="$1" text="$2" config="$3" ranks
  shift 3
  for ranks in 1 3; do
    expect_exit "$code" "$text" train "$ranks" "$config" refused "$@"
  done
}

both 78 "did you mean train.global_batch?" mlp.toml --set train.globl_batch=3
both 78 "is no file" missing.toml
both 78 "no multiple" mlp.toml --set train.micro_batch=7
printf '[data]\ntrain = = 3\n' >broken.toml
both 78 "broken.toml:2:" broken.toml
[ ! -e refused ] || fail "a faulty config made a run folder"

both 65 "no file matches" mlp.toml --set 'data.train="nothing-*.h5"'
both 65 "has no dataset /X" mlp.toml --set data.inputs.image.path=X
cp "$ROOT/data/digits/train-0000.h5" cut.h5
truncate -s -500 cut.h5
both 65 "is cut off" mlp.toml --set 'data.train=["cut.h5"]'
both 65 "has the label" mlp.toml --set model.options.classes=5
both 78 "0 steps" mlp.toml --set train.global_batch=2048 --set train.micro_batch=512
expect_exit 66 "looks like an HDF5 file" train 2 mlp.toml refused --set 'model.weights="cut.h5"'
expect_exit 66 "is no file" train 2 mlp.toml refused --set 'model.weights="gone.safetensors"'
expect_exit 78 "at most 8 ranks" train 9 mlp.toml refused
[ -z "$(ls refused/checkpoints 2>/dev/null)" ] || fail "a refused start made a checkpoint"
grep -q '"state": "failed"' refused/status.json || fail "status.json does not say failed"

# A save that the disk refuses: the checkpoints before it stay, nothing half-written does.
limited() { (ulimit -f "$1" && shift && "$@"); }
expect_exit 74 "cannot write" limited 20000 "$HADAL" train resnet18.toml --set "run.dir=\"$WORK/full\""
[ -z "$(ls full/checkpoints)" ] || fail "left behind: $(ls full/checkpoints)"
grep -q '"reason": "storage"' full/status.json || fail "status.json does not name the cause"

# The command line itself, and a folder that nobody can write.
expect_exit 64 "" "$HADAL" train
expect_exit 64 "" "$HADAL" nonsense
expect_exit 64 "key=value" "$HADAL" check mlp.toml --set novalue
expect_exit 74 "run" "$HADAL" train mlp.toml --set 'run.dir="/proc/run"'

# Damaged checkpoints: the one before, named; none left: never from zero.
train 2 mlp.toml run >/dev/null 2>&1
hash="$(model_hash run)"
last="$(ls -d run/checkpoints/step-* | tail -n 1)"
printf 'x' | dd of="$last/model.safetensors" bs=1 seek=300 conv=notrunc 2>/dev/null
train 3 mlp.toml run >/dev/null 2>err.txt || { cat err.txt; fail "falling back"; }
grep -q "passed over: checkpoint .*is damaged between bytes" err.txt || { cat err.txt; fail "did not name the damage"; }
[ "$(model_hash run)" = "$hash" ] || fail "other bits after falling back"
for folder in run/checkpoints/step-*; do rm "$folder/manifest.json"; done
expect_exit 66 "not started from zero in silence" train 2 mlp.toml run

for verb in train evaluate check plan pack inspect; do
  "$HADAL" "$verb" --help >/dev/null || fail "$verb --help"
done
"$HADAL" --version | grep -q '^hadal ' || fail version
