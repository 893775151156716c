#!/usr/bin/env bash
# Sourced by the tests that drive the program: `HADAL` and a fresh folder `WORK` (with a space in its
# path), the digits, and small helpers.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../launch/setup.sh"
HADAL="$1"
WORK="$2 space"
rm -rf "$WORK"
mkdir -p "$WORK"
cd "$WORK"
[ -e "$ROOT/data/digits/valid-0000.h5" ] || { echo "no digits: run tests/run.sh" >&2; exit 1; }

fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

# train RANKS CONFIG RUN [ARGUMENT …]
train() {
  local ranks="$1" config="$2" run="$3"
  shift 3
  mpi_run "$ranks" "$HADAL" train "$config" --set "run.dir=\"$WORK/$run\"" "$@" </dev/null
}

model_hash() { sha256sum "$WORK/$1/model/model.safetensors" | cut -d ' ' -f 1; }

# expect_exit CODE TEXT COMMAND …: the code, and TEXT once on standard error.
expect_exit() {
  local code="$1" text="$2" got=0
  shift 2
  "$@" >out.txt 2>err.txt </dev/null || got=$?
  [ "$got" = "$code" ] || { cat out.txt err.txt >&2; fail "exit $got instead of $code: $*"; }
  grep -qF -- "$text" err.txt || { cat err.txt >&2; fail "no \"$text\" in: $*"; }
  [ "$(grep -c '^hadal: .* error: ' err.txt)" -le 1 ] || { cat err.txt >&2; fail "said more than once: $*"; }
}

write_configs() {
  cat >mlp.toml <<EOF
[data]
train = "$ROOT/data/digits/train-*.h5"
valid = "$ROOT/data/digits/valid-*.h5"
inputs.image.path = "x"
inputs.image.scale = 0.0625
targets.digit.path = "y"
[model]
kind = "mlp"
options = { classes = 10, hidden = [64, 32], dropout = 0.3 }
[objective]
metrics = ["accuracy"]
[train]
steps = 60
global_batch = 64
micro_batch = 8
clip_norm = 1.0
evaluate_every = "25st"
[optimizer]
kind = "adamw"
lr = 1e-3
weight_decay = 0.01
[schedule]
kind = "cosine"
warmup = 10
[checkpoint]
every = "10st"
EOF
  sed -e 's/kind = "mlp"/kind = "resnet18"/' -e 's/options = .*/options = { classes = 10 }/' \
    -e 's/steps = 60/steps = 6/' -e 's/kind = "adamw"/kind = "sgd"\nmomentum = 0.9/' \
    -e 's/lr = 1e-3/lr = 0.05/' -e 's/every = "10st"/every = "2st"/' -e 's/"25st"/"4st"/' \
    mlp.toml >resnet18.toml
}
