#!/usr/bin/env bash
# Sourced by launch/quickstart.sh and tests/run.sh: brings what a build needs and is not there yet.
# After `hadal_setup`, $VENV/bin/python and cmake work; nothing is installed twice.
# An MPI, HDF5 or libtorch from environment modules is used where CMAKE_PREFIX_PATH or PATH shows it.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.deps/venv"
TORCH="torch==2.11.0"

DEBIAN_PACKAGES=(g++ cmake ninja-build ccache pkg-config git ca-certificates python3 python3-venv
  libhwy-dev libcli11-dev libtomlplusplus-dev libspdlog-dev libfmt-dev nlohmann-json3-dev
  libxxhash-dev zlib1g-dev libdeflate-dev liblz4-dev libzstd-dev libblosc-dev libaec-dev liburing-dev
  libturbojpeg0-dev libpng-dev libsndfile1-dev libcurl4-openssl-dev)
FEDORA_PACKAGES="gcc-c++ cmake ninja-build ccache git python3 openmpi-devel hdf5-devel highway-devel
  cli11-devel tomlplusplus-devel spdlog-devel fmt-devel json-devel xxhash-devel zlib-devel
  libdeflate-devel lz4-devel libzstd-devel blosc-devel blosc2-devel libaec-devel liburing-devel
  turbojpeg-devel libpng-devel libsndfile-devel libcurl-devel"

say() { printf '== %s\n' "$*"; }

# Packages of a list that Debian's package manager does not have installed.
missing_packages() {
  local package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok' || printf '%s\n' "$package"
  done
}

install_packages() {
  local wanted=("$@") missing
  # Not in every release.
  apt-cache show libblosc2-dev >/dev/null 2>&1 && wanted+=(libblosc2-dev)
  command -v mpicc >/dev/null && command -v mpirun >/dev/null || wanted+=(libopenmpi-dev openmpi-bin)
  command -v h5cc >/dev/null || [ -n "${HDF5_ROOT:-}" ] || wanted+=(libhdf5-dev)
  if ! command -v dpkg-query >/dev/null; then
    for tool in g++ cmake ninja mpicc mpirun python3; do
      command -v "$tool" >/dev/null || missing+=" $tool"
    done
    [ -z "${missing:-}" ] || stop_with_advice "missing:$missing"
    return 0
  fi
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  [ "${#missing[@]}" -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || stop_with_advice "missing packages: ${missing[*]}"
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

stop_with_advice() {
  cat >&2 <<EOF
hadal: $1

Install them as an administrator:
  Debian, Ubuntu:  apt-get install ${DEBIAN_PACKAGES[*]} libopenmpi-dev openmpi-bin libhdf5-dev catch2 clang-format procps strace iproute2 \
                   shellcheck libslurm-dev slurmctld slurmd slurm-client slurmrestd
  Fedora, RHEL:    dnf install $(echo $FEDORA_PACKAGES) catch-devel

or use environment modules: load MPI, HDF5 and CMake, and name the places of other libraries:
  export CMAKE_PREFIX_PATH=/path/to/libtorch:/path/to/hdf5
  cmake --preset release && cmake --build --preset release && cmake --install build/release
EOF
  exit 69
}

# A libtorch that the user names wins over the wheel.
has_libtorch() {
  local folder
  local IFS=:
  for folder in ${CMAKE_PREFIX_PATH:-}; do
    [ -e "$folder/lib/libtorch_cpu.so" ] && return 0
  done
  return 1
}

make_venv() {
  [ -x "$VENV/bin/python" ] || python3 -m venv "$VENV"
}

install_torch() {
  has_libtorch && return 0
  make_venv
  local site
  site="$("$VENV/bin/python" -c 'import site; print(site.getsitepackages()[0])')"
  [ -e "$site/torch/lib/libtorch_cpu.so" ] && return 0
  say "bringing $TORCH into .deps/venv (500 MB)"
  # A CPU program needs two libraries of the wheel and the two small CUDA runtimes they name.
  "$VENV/bin/python" -m pip install -q --no-deps "$TORCH" \
    'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cupti==13.0.*'
}

# What a program for GPUs needs: the libraries that libtorch names for them, NCCL among them, and a
# compiler where no CUDA toolkit is installed.
install_cuda() {
  make_venv
  local site
  site="$("$VENV/bin/python" -c 'import site; print(site.getsitepackages()[0])')"
  if ! has_libtorch && [ ! -e "$site/nvidia/nccl" ]; then
    say "bringing the GPU libraries of $TORCH into .deps/venv (2 GB)"
    "$VENV/bin/python" -m pip install -q "$TORCH"
  fi
  if ! command -v nvcc >/dev/null && [ ! -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ] && [ ! -x "$site/nvidia/cu13/bin/nvcc" ]; then
    say "bringing nvcc into .deps/venv"
    "$VENV/bin/python" -m pip install -q --no-deps 'nvidia-cuda-nvcc==13.0.*' 'nvidia-cuda-crt==13.0.*' \
      'nvidia-nvvm==13.0.*' 'nvidia-cuda-cccl==13.0.*'
    ln -sf libcudart.so.13 "$site/nvidia/cu13/lib/libcudart.so"
  fi
}

require_cmake() {
  local version
  version="$(cmake --version | sed -n 's/^cmake version //p')"
  if [ "$(printf '%s\n3.25\n' "$version" | sort -V | head -n 1)" != 3.25 ]; then
    make_venv
    "$VENV/bin/python" -m pip install -q 'cmake>=3.25'
    export PATH="$VENV/bin:$PATH"
  fi
}

hadal_setup() {
  install_packages "${DEBIAN_PACKAGES[@]}" "$@"
  install_torch
  require_cmake
}

# mpirun with what a shared or single machine needs; Open MPI asks root for an extra word.
mpi_run() {
  local ranks="$1" options=()
  shift
  if mpirun --version 2>/dev/null | grep -q 'Open MPI'; then
    options+=(--oversubscribe --bind-to none)
    [ "$(id -u)" != 0 ] || options+=(--allow-run-as-root)
  fi
  mpirun "${options[@]}" -n "$ranks" "$@"
}
