#pragma once
// Where updates travel in bfloat16, what is updated are masters in float32, and parameters follow
// them (kernels/bfloat16.hpp, follow()). Around an update in device memory, of all blocks of a
// table:

#include <cstdint>

#include "kernels/blocks.hpp"
#include "kernels/stream.hpp"

namespace hadal::kernels {

// By an element's place in the arena: param, change. By its place in the states: the rest.
struct MasterMemory {
  float* param = nullptr;
  std::uint16_t* change = nullptr;
  float* master = nullptr;
  float* used = nullptr;  // the parameters in the meantime
};

// used = param, then param = master: the update finds the master in the parameter's place.
void take_masters(Stream stream, BlockTable table, const MasterMemory& memory);

// master = param, then param = used, and change = master - param as the nearest bfloat16: whoever
// adds it to the parameters follows, this device too.
void put_masters(Stream stream, BlockTable table, const MasterMemory& memory);

}  // namespace hadal::kernels
