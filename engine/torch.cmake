# Imported targets torch::cpu from the PyTorch wheel or a libtorch archive. The wheel's own CMake
# package asks for a CUDA toolkit; a CPU program needs two libraries and the headers only.
# Looked for in CMAKE_PREFIX_PATH (…/site-packages/torch or …/libtorch), then in .deps/venv.
file(GLOB hadal_wheel LIST_DIRECTORIES true
  "${PROJECT_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/torch")
find_path(TORCH_INCLUDE_DIR ATen/ATen.h HINTS ${hadal_wheel} PATH_SUFFIXES include)
find_library(TORCH_CPU_LIBRARY torch_cpu HINTS ${hadal_wheel} PATH_SUFFIXES lib)
find_library(TORCH_C10_LIBRARY c10 HINTS ${hadal_wheel} PATH_SUFFIXES lib)
if(NOT TORCH_INCLUDE_DIR OR NOT TORCH_CPU_LIBRARY OR NOT TORCH_C10_LIBRARY)
  message(FATAL_ERROR
    "libtorch was not found. Run launch/quickstart.sh, which brings the PyTorch wheel, or point to "
    "one: -DCMAKE_PREFIX_PATH=\"$(python3 -c 'import torch; print(torch.__path__[0])')\"")
endif()
file(READ "${TORCH_INCLUDE_DIR}/torch/headeronly/version.h" hadal_torch_version)
string(REGEX MATCH "TORCH_VERSION_MAJOR ([0-9]+)" _ "${hadal_torch_version}")
set(hadal_torch_major ${CMAKE_MATCH_1})
string(REGEX MATCH "TORCH_VERSION_MINOR ([0-9]+)" _ "${hadal_torch_version}")
set(TORCH_VERSION "${hadal_torch_major}.${CMAKE_MATCH_1}" CACHE INTERNAL "")
message(STATUS "libtorch ${TORCH_VERSION}: ${TORCH_CPU_LIBRARY}")

get_filename_component(hadal_torch_lib "${TORCH_CPU_LIBRARY}" DIRECTORY)
add_library(torch::c10 SHARED IMPORTED GLOBAL)
set_target_properties(torch::c10 PROPERTIES IMPORTED_LOCATION "${TORCH_C10_LIBRARY}")
add_library(torch::cpu SHARED IMPORTED GLOBAL)
set_target_properties(torch::cpu PROPERTIES
  IMPORTED_LOCATION "${TORCH_CPU_LIBRARY}"
  INTERFACE_LINK_LIBRARIES torch::c10)
# Behind the system's own folders: the wheel carries copies of other libraries' headers (fmt), which
# must not win over the ones that are linked. Warnings in its headers are not ours to fix.
target_compile_options(torch::cpu INTERFACE
  "SHELL:-idirafter \"${TORCH_INCLUDE_DIR}\""
  "SHELL:-idirafter \"${TORCH_INCLUDE_DIR}/torch/csrc/api/include\"")
# The wheel's libtorch_cpu needs libcudart and libcupti, found through its own run path; the linker
# is told where, or not to look.
target_link_options(torch::cpu INTERFACE -Wl,--allow-shlib-undefined
  "-Wl,-rpath-link,${hadal_torch_lib}/../../nvidia/cu13/lib")

if(HADAL_CUDA)
  find_library(TORCH_CUDA_LIBRARY torch_cuda HINTS "${hadal_torch_lib}")
  find_library(TORCH_C10_CUDA_LIBRARY c10_cuda HINTS "${hadal_torch_lib}")
  if(NOT TORCH_CUDA_LIBRARY OR NOT TORCH_C10_CUDA_LIBRARY)
    message(FATAL_ERROR "this libtorch has no CUDA: ${hadal_torch_lib}")
  endif()
  add_library(torch::c10_cuda SHARED IMPORTED GLOBAL)
  set_target_properties(torch::c10_cuda PROPERTIES IMPORTED_LOCATION "${TORCH_C10_CUDA_LIBRARY}"
    INTERFACE_LINK_LIBRARIES "torch::c10;CUDA::cudart")
  add_library(torch::cuda SHARED IMPORTED GLOBAL)
  set_target_properties(torch::cuda PROPERTIES IMPORTED_LOCATION "${TORCH_CUDA_LIBRARY}"
    INTERFACE_LINK_LIBRARIES "torch::cpu;torch::c10_cuda")
endif()
if(HADAL_NCCL)
  # The wheel's own, which its libtorch is made for, or the system's.
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS "${hadal_torch_lib}/../../nvidia/nccl/include"
    ${CUDAToolkit_INCLUDE_DIRS})
  find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS "${hadal_torch_lib}/../../nvidia/nccl/lib"
    "${CUDAToolkit_LIBRARY_DIR}")
  if(NOT NCCL_INCLUDE_DIR OR NOT NCCL_LIBRARY)
    message(FATAL_ERROR "NCCL was not found; name it (-DNCCL_INCLUDE_DIR=… -DNCCL_LIBRARY=…), or set HADAL_NCCL=OFF")
  endif()
  add_library(nccl::nccl SHARED IMPORTED GLOBAL)
  set_target_properties(nccl::nccl PROPERTIES IMPORTED_LOCATION "${NCCL_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${NCCL_INCLUDE_DIR}")
endif()
