#include "engine/shared_scan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "engine/comm/host_memory.hpp"
#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/log.hpp"

namespace hadal::engine {
namespace {

using nlohmann::json;

struct ScannedFile {
  std::size_t number = 0;
  std::optional<io::FileState> state;
  io::FileScans scans;
  bool is_known = false;
};

// Whether the library finds in one of the files, another one at each start, what is known of it.
bool still_holds(std::span<const ScannedFile> known, const std::vector<std::string>& files,
                 const std::vector<io::DatasetQuery>& queries) {
  if (known.empty()) return true;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto turn =
      static_cast<std::size_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
  const ScannedFile& one = known[turn % known.size()];
  const std::string& file = files[one.number];
  std::vector<io::Extent> theirs, ours;
  const bool same =
      io::packed(io::scan_file(file, queries), theirs) == io::packed(one.scans, ours) &&
      std::ranges::equal(std::as_bytes(std::span(theirs)), std::as_bytes(std::span(ours)));
  if (!same) {
    io::log_warning(
        fmt::format("{} is not as the last start found it, though its size, time and ends are: "
                    "its like are scanned anew",
                    file));
  }
  return same;
}

// One file, known or not. A file that cannot be opened has no state.
ScannedFile look_at(std::size_t number, const std::string& file,
                    const std::vector<io::DatasetQuery>& queries, const io::ScanCache& before) {
  ScannedFile one;
  one.number = number;
  try {
    const io::RawFile raw(file);
    one.state = io::state_of(raw);
    const io::FileScans* known = before.find(file, queries, *one.state);
    one.is_known = known != nullptr;
    one.scans = one.is_known ? *known : io::scan_file(raw, *one.state, queries);
  } catch (const io::Error&) {
    one.scans = io::scan_file(file, queries);  // says why
  }
  return one;
}

// Collective. This rank's share of the files. Throws Stopped.
std::vector<ScannedFile> scan_own(Communicator& comm, const std::vector<std::string>& files,
                                  const std::vector<io::DatasetQuery>& queries,
                                  const KnownScans& given) {
  std::vector<ScannedFile> scanned;
  Meetings meetings(comm, given.ask_stop);
  auto next = static_cast<std::size_t>(comm.rank());
  for (bool all_done = false; !all_done;) {
    for (std::int64_t k = 0; k < meetings.items() && next < files.size(); ++k) {
      scanned.push_back(look_at(next, files[next], queries, given.before));
      next += static_cast<std::size_t>(comm.size());
    }
    const Meetings::Agreed agreed = meetings.meet(false, next >= files.size());
    if (agreed.stop != StopReason::none) throw Stopped{agreed.stop};
    all_done = agreed.all_done;
  }
  const auto fresh = std::stable_partition(scanned.begin(), scanned.end(),
                                           [](const ScannedFile& one) { return one.is_known; });
  if (still_holds({scanned.begin(), fresh}, files, queries)) return scanned;
  for (auto one = scanned.begin(); one != fresh; ++one) {
    one->is_known = false;
    one->scans = io::scan_file(files[one->number], queries);
  }
  return scanned;
}

// Compact.
std::string bytes_of(const json& document) {
  std::string bytes;
  json::to_cbor(document, bytes);
  return bytes;
}

// Every rank's chunk tables, one behind the other, in memory of the host. `lengths`: by rank.
io::ChunkTable share_tables(Communicator& comm, const std::vector<io::Extent>& mine,
                            const std::vector<std::size_t>& lengths) {
  std::size_t total = 0;
  std::vector<std::size_t> starts;
  for (const std::size_t length : lengths) {
    starts.push_back(total);
    total += length;
  }
  io::ChunkTable tables;
  if (total == 0) return tables;
  const auto memory = std::make_shared<HostMemory>(comm, total * sizeof(io::Extent), 0);
  const std::span<std::byte> all = memory->common();
  const std::span<const std::byte> own = std::as_bytes(std::span(mine));
  const auto place = [&](int rank) {
    const auto r = static_cast<std::size_t>(rank);
    return all.subspan(starts[r] * sizeof(io::Extent), lengths[r] * sizeof(io::Extent));
  };
  // The first rank of each host takes them all.
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for (const std::vector<int>& ranks : memory->hosts()) {
    if (ranks.front() != comm.rank()) {
      out.push_back({ranks.front(), own});
      continue;
    }
    for (int r = 0; r < comm.size(); ++r) {
      if (r != comm.rank()) in.push_back({r, place(r)});
    }
    if (!own.empty()) std::memcpy(place(comm.rank()).data(), own.data(), own.size());
  }
  comm.exchange(out, in);
  memory->barrier();
  tables.chunks = {memory, reinterpret_cast<const io::Extent*>(all.data())};
  tables.count = total;
  return tables;
}

}  // namespace

KnownScans read_known(Communicator& comm, const std::filesystem::path& cache) {
  KnownScans known;
  std::string bytes;
  if (comm.rank() == 0 && std::filesystem::exists(cache)) {
    try {
      bytes = io::read_file(cache);
    } catch (const io::Error& error) {
      io::log_warning(fmt::format("{}; all data files are scanned", error.what()));
    }
  }
  known.before = io::ScanCache(broadcast_text(comm, bytes));
  return known;
}

void write_known(const Communicator& comm, const std::filesystem::path& cache,
                 const KnownScans& known) {
  if (comm.rank() != 0 || !known.is_new) return;
  try {
    io::create_folders(cache.parent_path());
    io::write_file_atomically(cache, known.after.bytes());
  } catch (const io::Error& error) {
    io::log_warning(error.what());
  }
}

std::vector<io::FileScans> scan_together(Communicator& comm, const std::vector<std::string>& files,
                                         const std::vector<io::DatasetQuery>& queries,
                                         KnownScans& known) {
  json mine = json::array();
  std::vector<io::Extent> tables;
  for (const ScannedFile& one : scan_own(comm, files, queries, known)) {
    json state;
    if (one.state) state = {one.state->bytes, one.state->changed, one.state->content_hash};
    mine.push_back({{"file", one.number},
                    {"state", std::move(state)},
                    {"is_known", one.is_known},
                    {"found", io::packed(one.scans, tables)}});
  }
  std::vector<json> documents;
  std::vector<std::size_t> lengths;
  for (const std::string& theirs :
       all_gather_text(comm, bytes_of({{"files", std::move(mine)}, {"tables", tables.size()}}))) {
    documents.push_back(json::from_cbor(theirs));
    lengths.push_back(documents.back().at("tables").get<std::size_t>());
  }
  const io::ChunkTable shared = share_tables(comm, tables, lengths);
  std::vector<io::FileScans> by_file(files.size());
  std::size_t next = 0;
  for (const json& document : documents) {
    for (const json& one : document.at("files")) {
      const auto number = one.at("file").get<std::size_t>();
      by_file[number] = io::unpacked(one.at("found"), shared, next);
      if (!one.at("is_known").get<bool>()) known.is_new = true;
      const json& state = one.at("state");
      if (comm.rank() != 0 || state.is_null()) continue;
      known.after.put(files[number], queries, {state.at(0), state.at(1), state.at(2)},
                      by_file[number]);
    }
  }
  return by_file;
}

}  // namespace hadal::engine
