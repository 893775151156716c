#pragma once
// The blocks of the arena as kernels see them: a table in device memory, one entry for each block
// of at most kNormBlock elements of one parameter.

#include <cstdint>

namespace hadal::kernels {

struct Block {
  std::int64_t offset = 0;  // of its first element in the arena
  std::int64_t state = 0;   // and in the optimizer's states, which cover what a rank owns
  std::int32_t count = 0;
  std::int32_t entry = 0;  // number of the parameter: which row of a table of settings holds
};

// Device memory.
struct BlockTable {
  const Block* blocks = nullptr;
  std::int64_t count = 0;
};

}  // namespace hadal::kernels
