#pragma once
// libtorch's operators cost 13 s a file without this.
#include <ATen/ATen.h>
