#include "io/pack.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/comm/collectively.hpp"
#include "io/json.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {

int pack(const io::PackOptions& options, engine::Communicator& comm) {
  io::PackResult all;
  engine::run_collectively(comm, "packing", [&] {
    all = io::pack(options, {.rank = comm.rank(), .ranks = comm.size()});
  });
  nlohmann::json mine = nlohmann::json::array();
  for (const io::PackedFile& file : all.files) {
    mine.push_back({file.path.string(), file.rows, file.bytes, file.checksum, file.kept});
  }
  all.files.clear();
  for (const std::string& text : engine::all_gather_text(comm, io::json_text(mine))) {
    for (const nlohmann::json& file : io::parse_json(text)) {
      all.files.push_back({file[0].get<std::string>(), file[1], file[2], file[3], file[4]});
    }
  }
  engine::run_collectively(comm, "listing the shards", [&] {
    if (comm.rank() == 0) io::write_pack_list(options.output, all);
  });
  if (comm.rank() != 0) return 0;
  for (const io::PackedFile& file : all.files) {
    fmt::print("{}{}\n", file.path.string(), file.kept ? " (was there)" : "");
  }
  if (!all.classes.empty()) fmt::print("{} classes: ", all.classes.size());
  for (std::size_t c = 0; c < std::min<std::size_t>(all.classes.size(), 20); ++c) {
    fmt::print("{} {}{}", c, all.classes[c], c + 1 < all.classes.size() ? ", " : "\n");
  }
  if (all.classes.size() > 20) fmt::print("…\n");
  fmt::print("packed: {} training and {} validation samples, {} files in {}\n", all.train_samples,
             all.valid_samples, all.files.size(), options.output.string());
  return 0;
}

}  // namespace hadal::launch
