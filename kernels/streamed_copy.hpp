#pragma once
// Copies that leave the caches to others: what is written is not read soon by this processor.

#include <cstddef>
#include <span>

namespace hadal::kernels {

// to = from, past the caches where the memory of `to` starts at 64 bytes. Equal sizes; distinct
// memory. Whoever is told afterwards that it is there, sees it.
void streamed_copy(std::span<std::byte> to, std::span<const std::byte> from);

}  // namespace hadal::kernels
