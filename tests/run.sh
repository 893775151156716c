#!/usr/bin/env bash
# All tests: builds with warnings as errors, for CPUs and for GPUs, runs every label (unit, mpi, python, cluster;
# gpu on the twin of a GPU, and on one where there is one), the unit tests again under AddressSanitizer and
# UndefinedBehaviorSanitizer, and the fuzz targets for a minute each (HADAL_FUZZ_SECONDS changes that). Ends with
# ctest's summary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh
source launch/digits.sh

hadal_setup catch2 clang-format procps strace iproute2 shellcheck libslurm-dev slurmctld slurmd slurm-client slurmrestd
# The peers: PyTorch itself, torchvision, safetensors and h5py. Brought while the compiler works.
make_venv
bring_peers() {
  if ! "$VENV/bin/python" -c 'import torch, torchvision, safetensors, h5py, hdf5plugin, netCDF4, pandas, tables, pytest, toscaparser, yaml, jsonschema, qcg.pilotjob, importlib.util
assert importlib.util.find_spec("facenet_pytorch")' 2>/dev/null; then
    say "bringing PyTorch and its peers into .deps/venv"
    "$VENV/bin/python" -m pip install -q "$TORCH" torchvision==0.26.0 safetensors h5py hdf5plugin netCDF4 numpy pandas tables pytest tosca-parser pyyaml jsonschema qcg-pilotjob
    # Published weights to load; its own dependencies are not needed for that.
    "$VENV/bin/python" -m pip install -q --no-deps facenet-pytorch==2.6.0
  fi
}
bring_peers &
peers=$!
trap 'kill "$peers" 2>/dev/null || true' EXIT

say "formatting"
git ls-files '*.hpp' '*.cpp' '*.h' | xargs clang-format --dry-run --Werror

say "building"
cmake --preset dev >/dev/null
cmake --build --preset dev
wait "$peers"
make_digits "$ROOT/build/dev/bin/hadal"

say "unit tests under sanitizers"
cmake --preset asan -DHADAL_FUZZ_SECONDS="${HADAL_FUZZ_SECONDS:-60}" >/dev/null
cmake --build --preset asan
ctest --preset asan

say "the program for GPUs"
install_cuda
cmake --preset cuda -DHADAL_BUILD_TESTS=ON -DHADAL_WARNINGS_AS_ERRORS=ON >/dev/null
cmake --build build/cuda --target hadal device_tests mpi_tests
ctest --test-dir build/cuda --label-regex gpu --output-on-failure

say "all tests"
ctest --preset dev
