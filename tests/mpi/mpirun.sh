#!/usr/bin/env bash
# mpirun.sh RANKS PROGRAM [ARGUMENT …]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../launch/setup.sh"
mpi_run "$@"
