#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace hadal::io {

constexpr std::size_t kAxes = 4;  // channels, depth, height, width

// A box of a sample: where it begins (outside is allowed) and how far it goes.
struct Box {
  std::array<std::int64_t, kAxes> first{};
  std::array<std::int64_t, kAxes> size{};
};

}  // namespace hadal::io
