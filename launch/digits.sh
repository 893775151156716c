#!/usr/bin/env bash
# Sourced: the UCI handwritten digits as HDF5 shards in data/digits, out of the scikit-learn wheel.

make_digits() {
  local hadal="$1" target="$ROOT/data/digits" wheels="$ROOT/.deps/wheels"
  [ -e "$target/valid-0000.h5" ] && return 0
  if [ ! -e "$ROOT/.deps/digits.csv.gz" ]; then
    say "fetching the digits"
    make_venv
    mkdir -p "$wheels"
    "$VENV/bin/python" -m pip download -q --no-deps -d "$wheels" scikit-learn
    "$VENV/bin/python" - "$wheels" "$ROOT/.deps" <<'PY'
import pathlib, sys, zipfile
wheel = next(pathlib.Path(sys.argv[1]).glob("scikit_learn-*.whl"))
with zipfile.ZipFile(wheel) as archive:
    content = archive.read("sklearn/datasets/data/digits.csv.gz")
pathlib.Path(sys.argv[2], "digits.csv.gz").write_bytes(content)
PY
  fi
  # 1,797 rows of 64 pixels from 0 to 16 and the digit.
  "$hadal" pack --single "$ROOT/.deps/digits.csv.gz" --output "$target" \
    --input 0-63 --target 64 --shape 1,8,8 --shards 3 --valid 0.2
}
