#pragma once
// All tensors of a model in memory, the same on all ranks: the arena of what is trained, a second
// one of what is frozen, buffers and constants.

#include "engine/aligned_buffer.hpp"
#include "engine/arena.hpp"
#include "engine/model.hpp"

namespace hadal::engine {

struct Weights {
  explicit Weights(const Model& model)
      : layout(model.parameters(), ArenaLayout::Holds::trained),
        parameters(layout.size()),
        frozen_layout(model.parameters(), ArenaLayout::Holds::frozen),
        frozen(frozen_layout.size()) {}

  // First values; see Model::initialise.
  void initialise(const Model& model, std::uint64_t seed) {
    std::vector<std::span<float>> values(model.parameters().size());
    for_each_parameter(
        [&](const ArenaEntry& entry, std::span<float> span) { values[entry.parameter] = span; });
    model.initialise(seed, values, buffers, constants);
  }

  // visit(entry, its values): the arena in its order, then what is frozen.
  template <class Visit>
  void for_each_parameter(Visit visit) {
    for (const ArenaEntry& entry : layout.entries()) {
      visit(entry, parameters.subspan(entry.offset, entry.offset + entry.count));
    }
    for (const ArenaEntry& entry : frozen_layout.entries()) {
      visit(entry, frozen.subspan(entry.offset, entry.offset + entry.count));
    }
  }

  ArenaLayout layout;
  AlignedBuffer parameters;
  ArenaLayout frozen_layout;
  AlignedBuffer frozen;
  BufferValues buffers;
  BufferValues constants;
};

}  // namespace hadal::engine
