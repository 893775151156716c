#pragma once
// What the optimizers' kernels work on. All pointers are device memory.

#include <cstdint>

#include "kernels/blocks.hpp"

namespace hadal::kernels {

// By an element's place in the arena: param, grad, rounded. By its place in the states: the rest.
struct UpdateMemory {
  float* param = nullptr;
  const float* grad = nullptr;
  float* first = nullptr;   // moment, or momentum buffer
  float* second = nullptr;  // moment
  // Behind the update, in the same pass; null: there is none.
  float* average = nullptr;          // moves towards the parameter (kernels/average.hpp)
  float average_rate = 0;            // by this part of the way
  std::uint16_t* rounded = nullptr;  // the parameter's copy in bfloat16
};

// How one parameter is updated in one step: a row of a table, by the parameter's number.
template <class Step>
struct UpdateRow {
  Step step;
  float factor = 0;  // of LAMB: -lr * ratio
  bool trains = true;
};

}  // namespace hadal::kernels
