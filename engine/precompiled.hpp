#pragma once
// A file costs 13 s without libtorch's operators here and 3 s without the JSON library.
#include <ATen/ATen.h>

#include <nlohmann/json.hpp>
