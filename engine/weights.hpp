#pragma once
// All tensors of a model in memory, the same on all ranks: the arena of what is trained, a second
// one of what is frozen, both once a host; buffers and constants, which are small, once a rank.

#include "engine/arena.hpp"
#include "engine/comm/host_memory.hpp"
#include "engine/model.hpp"

namespace hadal::engine {

struct Weights {
  // Whether what is trained also lies in memory rounded to bfloat16, for forward passes in lower
  // precision: each value is rounded once, by the update, not once a forward pass.
  enum class RoundedCopy { no, yes };

  // Where the parameters lie in memory.
  struct Layouts {
    explicit Layouts(const Model& model)
        : trained(model.parameters(), ArenaLayout::Holds::trained),
          frozen(model.parameters(), ArenaLayout::Holds::frozen) {}
    // Of the host's common memory, a multiple of 32.
    std::size_t bytes(RoundedCopy copy) const {
      const auto elements = static_cast<std::size_t>(trained.size() + frozen.size());
      const auto rounded = copy == RoundedCopy::yes ? static_cast<std::size_t>(trained.size()) : 0;
      return elements * sizeof(float) + rounded * sizeof(std::uint16_t);
    }
    ArenaLayout trained;
    ArenaLayout frozen;
  };

  // The parameters lie in the host's common memory, which must outlive this.
  Weights(Layouts layouts, const HostMemory& host, RoundedCopy copy)
      : layout(std::move(layouts.trained)),
        frozen_layout(std::move(layouts.frozen)),
        first_on_host(host.rank() == 0) {
    auto* const values = reinterpret_cast<float*>(host.common().data());
    parameters = {values, static_cast<std::size_t>(layout.size())};
    frozen = {values + layout.size(), static_cast<std::size_t>(frozen_layout.size())};
    if (copy == RoundedCopy::no) return;
    auto* const copies = reinterpret_cast<std::uint16_t*>(values + layout.size() + frozen.size());
    rounded = {copies, static_cast<std::size_t>(layout.size())};
  }

  // First values; see Model::initialise.
  void initialise(const Model& model, std::uint64_t seed) {
    std::vector<std::span<float>> values(model.parameters().size());
    for_each_parameter([&](const ArenaEntry& entry, std::span<float> span) {
      if (first_on_host) values[entry.parameter] = span;
    });
    model.initialise(seed, values, buffers, constants);
  }

  // visit(entry, its values): the arena in its order, then what is frozen.
  template <class Visit>
  void for_each_parameter(Visit visit) {
    for (const ArenaEntry& entry : layout.entries()) visit(entry, cut(parameters, entry));
    for (const ArenaEntry& entry : frozen_layout.entries()) visit(entry, cut(frozen, entry));
  }

  ArenaLayout layout;
  std::span<float> parameters;
  // Their rounded copy, or empty. Whoever changes parameters rounds them again.
  std::span<std::uint16_t> rounded;
  // Whether the copy has been filled: until then nobody reads it.
  bool rounded_is_filled = false;
  ArenaLayout frozen_layout;
  std::span<float> frozen;
  BufferValues buffers;
  BufferValues constants;
  // True on the one rank of a host that fills the parameters from files and from the seed. The
  // others may read them after the next collective call.
  bool first_on_host;

 private:
  static std::span<float> cut(std::span<float> arena, const ArenaEntry& entry) {
    return arena.subspan(static_cast<std::size_t>(entry.offset),
                         static_cast<std::size_t>(entry.count));
  }
};

}  // namespace hadal::engine
