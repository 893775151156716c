#include "io/pack.hpp"

#include <fmt/format.h>

#include "launch/verbs.hpp"

namespace hadal::launch {

int pack(const io::PackOptions& options) {
  const io::PackResult result = io::pack(options);
  for (const auto& file : result.files) fmt::print("{}\n", file.string());
  fmt::print("packed: {} training and {} validation samples, {} files in {}\n",
             result.train_samples, result.valid_samples, result.files.size(),
             options.output.string());
  return 0;
}

}  // namespace hadal::launch
