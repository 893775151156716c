#!/usr/bin/env bash
# One config, 1 to 5 ranks, 1 and 2 workers each: one model file, byte for byte.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
write_configs
for config in mlp resnet18; do
  expected=
  for ranks in 1 2 3 4 5; do
    for workers in 1 2; do
      run="$config-$ranks-$workers"
      train "$ranks" "$config.toml" "$run" --set run.workers="$workers" >log.txt 2>&1 || { cat log.txt; fail "$run"; }
      hash="$(model_hash "$run")"
      [ "${expected:=$hash}" = "$hash" ] || fail "$run gives $hash instead of $expected"
    done
  done
  echo "$config: $expected"
done
