#include "engine/block_sums.hpp"

#include <cstring>

namespace hadal::engine {

std::vector<double> in_block_order(Communicator& comm, const ArenaLayout& layout,
                                   std::span<const double> mine, std::size_t width) {
  const std::vector<std::string> all =
      all_gather_text(comm, {reinterpret_cast<const char*>(mine.data()), mine.size_bytes()});
  std::vector<double> ordered(width * layout.blocks().size());
  std::vector<std::size_t> read(all.size(), 0);
  for (std::size_t b = 0; b < layout.bucket_count(); ++b) {
    for (std::size_t r = 0; r < all.size(); ++r) {
      const ArenaSlice slice = layout.slice(b, static_cast<int>(r), comm.size());
      const std::size_t bytes = (slice.last_block - slice.first_block) * width * sizeof(double);
      if (bytes == 0) continue;
      std::memcpy(ordered.data() + slice.first_block * width, all[r].data() + read[r], bytes);
      read[r] += bytes;
    }
  }
  return ordered;
}

}  // namespace hadal::engine
