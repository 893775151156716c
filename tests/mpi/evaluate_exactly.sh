#!/usr/bin/env bash
# The same count, loss and accuracy to the last bit on 1 to 5 ranks, for all 1,797 digits and for 21.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
write_configs
train 2 mlp.toml run >log.txt 2>&1 || { cat log.txt; fail train; }
# The best model evaluates to what the log said when it was written.
step="$("$HADAL" train mlp.toml --set "run.dir=\"$WORK/run\"" 2>/dev/null | sed -n 's/.*(step \([0-9]*\)).*/\1/p')"
logged="$(grep "\"kind\":\"valid\",\"step\":$step," run/metrics.jsonl | sed 's/.*"loss":\([^,]*\),.*/\1/')"
again="$(mpi_run 3 "$HADAL" evaluate mlp.toml --data valid --set "run.dir=\"$WORK/run\"" 2>/dev/null | sed -n 's/.*loss \([^,]*\),.*/\1/p')"
[ -n "$logged" ] && [ "$logged" = "$again" ] || fail "the log says $logged, evaluate $again"

head -n 21 <(gzip -dc "$ROOT/.deps/digits.csv.gz") >few.csv
"$HADAL" pack few.csv --output few --input 0-63 --target 64 --shape 1,8,8 --valid 0 >/dev/null
for files in "[\"$ROOT/data/digits/*.h5\"]" '["few/train-0000.h5"]'; do
  expected=
  for ranks in 1 2 3 4 5; do
    line="$(mpi_run "$ranks" "$HADAL" evaluate mlp.toml --data test --set "data.test=$files" \
      --checkpoint run/model/model.safetensors 2>log.txt | tail -n 1)" || { cat log.txt; fail "$ranks ranks"; }
    [ "${expected:=$line}" = "$line" ] || fail "$ranks ranks: $line instead of $expected"
  done
  echo "$expected"
  case "$expected" in
    "evaluated: 1797 samples, loss "*", accuracy "* | "evaluated: 21 samples, loss "*", accuracy "*) ;;
    *) fail "not every sample once: $expected" ;;
  esac
done
