#!/usr/bin/env bash
# bundle.sh [FOLDER]
# Packs what a bare x86-64 machine with one GPU and torch 2.11 (but neither network, MPI nor HDF5) needs to prove
# and time the program: FOLDER/run.sh there does it. FOLDER: build/gpu-bundle. For sm_90, or $HADAL_CUDA_ARCHITECTURES.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source launch/setup.sh
source launch/digits.sh
TO="$(realpath -m "${1:-build/gpu-bundle}")"
BUILD=build/bundle

hadal_setup catch2
install_cuda
say "building for the bundle"
cmake --preset cuda -B "$BUILD" -DHADAL_CUDA_ARCHITECTURES="${HADAL_CUDA_ARCHITECTURES:-90-real}" \
  -DHADAL_BUILD_TESTS=ON -DHADAL_BUILD_BENCHMARKS=ON >/dev/null
cmake --build "$BUILD" --target hadal device_tests mpi_tests benchmark_device_kernels
make_digits "$ROOT/$BUILD/bin/hadal"

say "packing"
rm -rf "$TO"
mkdir -p "$TO"/{bin,lib,openmpi,pmix,share,data}
PROGRAMS=("$BUILD"/bin/hadal "$BUILD"/tests/device_tests "$BUILD"/tests/mpi_tests "$BUILD"/benchmarks/benchmark_device_kernels)
cp "${PROGRAMS[@]}" "$TO/bin"
strip "$TO"/bin/*
for program in mpirun orted; do cp "$(readlink -f "$(command -v $program)")" "$TO/bin/$program"; done
# Open MPI's components; those of networks and accelerators that one machine does not have stay here.
COMPONENTS="$(dirname "$(find / -xdev -name mca_btl_self.so -print -quit 2>/dev/null)")"
for component in "$COMPONENTS"/mca_*.so; do
  case $component in *ucx* | *ofi* | *openib* | *psm* | *oshmem* | *spml* | *scoll* | *memheap* | *sshmem* | *io_romio* | *monitoring*) ;;
    *) cp "$component" "$TO/openmpi" ;; esac
done
cp -r "$(dirname "$(find / -xdev -name 'help-mpi-runtime.txt' -print -quit 2>/dev/null)")" "$TO/share/openmpi"
PMIX="$(find / -xdev -type d -path '*pmix*/lib/pmix' -print -quit 2>/dev/null)"
[ -z "$PMIX" ] || cp "$PMIX"/*.so "$TO/pmix"
# Libraries, but for the system's, the driver's and those that torch brings.
find "$TO/bin" "$TO/openmpi" "$TO/pmix" -type f -exec ldd {} + 2>/dev/null | awk '$3 ~ /^\// {print $3}' | sort -u |
  grep -Ev '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*|libresolv|libutil)\.so|/site-packages/|/cuda[^/]*/|libcuda|libnccl' |
  while read -r library; do cp -L "$library" "$TO/lib"; done
cp -r data/digits "$TO/data/digits"
cp configs/digits-mlp.toml configs/digits-resnet18.toml "$TO/data"
sed -i 's#\.\./data/digits#digits#g; s#\.\./runs#../runs#' "$TO"/data/*.toml
cp benchmarks/gpu/run.sh benchmarks/gpu/peer.py "$TO"
say "$(du -sh "$TO" | cut -f1) in $TO"
