#include "engine/staging.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>

#include "engine/comm/collectively.hpp"
#include "engine/stopwatch.hpp"
#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/hashing_file.hpp"
#include "io/log.hpp"

namespace hadal::engine {
namespace {

namespace fs = std::filesystem;

// What a rank holds of others' pieces at a time, and the most of one.
constexpr std::int64_t kHeldBytes = std::int64_t{64} << 20;
constexpr std::int64_t kMostPiece = std::int64_t{8} << 20;
constexpr std::int64_t kLeastPiece = std::int64_t{64} << 10;
constexpr std::int64_t kHashBytes = sizeof(std::uint64_t);
// Left on a host's storage for others.
constexpr double kFreeShare = 0.05;
// Beside the copies, once all are whole.
constexpr const char* kWhole = "whole";

struct File {
  std::string path;
  std::int64_t bytes = 0;
};

struct Piece {
  std::size_t file = 0;
  std::int64_t offset = 0;
  std::int64_t bytes = 0;
};

// Ranks by host, hosts in the order of their first ranks; and which of them take a copy.
struct Hosts {
  std::vector<std::vector<int>> ranks;
  std::vector<bool> takes;
  std::size_t mine = 0;
};

std::vector<File> files_of(const std::vector<io::DataIndex*>& indices) {
  std::set<std::string> paths;
  for (const io::DataIndex* index : indices) {
    for (const io::FieldIndex& field : index->fields) {
      for (const io::ScannedDataset& part : field.parts) {
        paths.insert(part.file);
        if (!part.stored.extents.file.empty()) paths.insert(part.stored.extents.file);
      }
    }
  }
  std::vector<File> files;
  for (const std::string& path : paths) {
    std::error_code failure;
    const auto bytes = fs::file_size(path, failure);
    if (failure) {
      throw io::Error(io::ErrorKind::storage,
                      fmt::format("cannot stage {}: {}", path, failure.message()));
    }
    files.push_back({path, static_cast<std::int64_t>(bytes)});
  }
  return files;
}

// The name of a host's copies: of these files, as they are.
std::string folder_name(const std::vector<File>& files, const std::string& host) {
  std::uint64_t hash = 0;
  for (const File& file : files) {
    std::error_code ignored;
    const auto changed = fs::last_write_time(file.path, ignored).time_since_epoch().count();
    const std::string line = fmt::format("{}|{}|{}", file.path, file.bytes, changed);
    hash = io::hash_bytes(std::as_bytes(std::span(line)), hash);
  }
  return fmt::format("hadal-{}-{}", host, io::hash_text(hash));
}

fs::path copy_of(const fs::path& folder, std::size_t file) {
  return folder / fmt::format("{:06}.h5", file);
}

bool has_room(const fs::path& folder, std::int64_t bytes) {
  std::error_code failure;
  const fs::space_info space = fs::space(folder, failure);
  if (failure) return false;
  const double left = static_cast<double>(space.available) - static_cast<double>(bytes);
  return left > kFreeShare * static_cast<double>(space.capacity);
}

// Makes the copies' files in their full sizes, empty. By one rank of a host.
void make_files(const fs::path& folder, const std::vector<File>& files) {
  for (std::size_t f = 0; f < files.size(); ++f) {
    const fs::path path = copy_of(folder, f);
    const io::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    const int failure = !fd                   ? errno
                        : files[f].bytes == 0 ? 0
                                              : ::posix_fallocate(fd.get(), 0, files[f].bytes);
    if (failure != 0) {
      throw io::system_error(io::ErrorKind::storage, "cannot make room for", path.string(),
                             failure);
    }
  }
}

Hosts group_hosts(Communicator& comm) {
  Hosts hosts;
  std::map<std::string, std::size_t> known;
  const std::vector<std::string> names = all_gather_text(comm, comm.host());
  for (int r = 0; r < comm.size(); ++r) {
    const auto [at, fresh] = known.emplace(names[static_cast<std::size_t>(r)], hosts.ranks.size());
    if (fresh) hosts.ranks.emplace_back();
    hosts.ranks[at->second].push_back(r);
  }
  hosts.mine = known.at(comm.host());
  return hosts;
}

std::vector<Piece> cut(const std::vector<File>& files, std::int64_t piece) {
  std::vector<Piece> pieces;
  for (std::size_t f = 0; f < files.size(); ++f) {
    for (std::int64_t at = 0; at < files[f].bytes; at += piece) {
      pieces.push_back({f, at, std::min(piece, files[f].bytes - at)});
    }
  }
  return pieces;
}

class Stager {
 public:
  Stager(Communicator& comm, const Hosts& hosts, const std::vector<File>& files, fs::path folder)
      : comm_(comm), hosts_(hosts), files_(files), folder_(std::move(folder)) {}

  std::int64_t read_bytes() const { return read_bytes_; }

  // A round: every rank reads one piece and passes it on.
  void round(std::span<const Piece> pieces) {
    const auto me = static_cast<std::size_t>(comm_.rank());
    std::vector<std::byte> own;
    run_collectively(comm_, "staging", [&] {
      if (me < pieces.size()) own = read(pieces[me]);
    });
    std::vector<Outgoing> out;
    std::vector<Incoming> in;
    std::vector<std::pair<std::size_t, std::vector<std::byte>>> received;
    for (std::size_t p = 0; p < pieces.size(); ++p) {
      for (std::size_t h = 0; h < hosts_.ranks.size(); ++h) {
        if (!hosts_.takes[h]) continue;
        const int to = writer(p, h);
        if (to == static_cast<int>(p)) continue;  // it has read it itself
        if (p == me) out.push_back({to, own});
        if (to == comm_.rank()) {
          received.emplace_back(
              p, std::vector<std::byte>(static_cast<std::size_t>(pieces[p].bytes + kHashBytes)));
          in.push_back({static_cast<int>(p), received.back().second});
        }
      }
    }
    comm_.exchange(out, in);
    run_collectively(comm_, "staging", [&] {
      if (me < pieces.size() && hosts_.takes[hosts_.mine]) write(pieces[me], own);
      for (const auto& [p, bytes] : received) write(pieces[p], bytes);
    });
  }

 private:
  // Who writes piece number p of a round on host h: whoever read it, else each in turn.
  int writer(std::size_t p, std::size_t h) const {
    const std::vector<int>& ranks = hosts_.ranks[h];
    const bool is_there = std::find(ranks.begin(), ranks.end(), static_cast<int>(p)) != ranks.end();
    return is_there ? static_cast<int>(p) : ranks[p % ranks.size()];
  }

  // With its hash behind it.
  std::vector<std::byte> read(const Piece& piece) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(piece.bytes + kHashBytes));
    const std::span<std::byte> content =
        std::span(bytes).first(static_cast<std::size_t>(piece.bytes));
    const std::string& path = files_[piece.file].path;
    io::read_at(io::open_for_reading(path).get(), content, piece.offset, path);
    const std::uint64_t hash = io::hash_bytes(content);
    std::memcpy(bytes.data() + piece.bytes, &hash, sizeof hash);
    read_bytes_ += piece.bytes;
    return bytes;
  }

  void write(const Piece& piece, std::span<const std::byte> bytes) const {
    const auto content = bytes.first(static_cast<std::size_t>(piece.bytes));
    std::uint64_t hash = 0;
    std::memcpy(&hash, bytes.data() + piece.bytes, sizeof hash);
    const fs::path path = copy_of(folder_, piece.file);
    if (io::hash_bytes(content) != hash) {
      throw io::Error(
          io::ErrorKind::storage,
          fmt::format("a part of {} was damaged on its way to this host", files_[piece.file].path));
    }
    const io::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd) throw io::system_error(io::ErrorKind::storage, "cannot write", path.string(), errno);
    io::write_at(fd.get(), content, piece.offset, path);
  }

  Communicator& comm_;
  const Hosts& hosts_;
  const std::vector<File>& files_;
  fs::path folder_;
  std::int64_t read_bytes_ = 0;
};

// What a host does about its copy; its first rank decides.
enum class Copy : char { none = 'n', taken = 't', there = 'h' };

Copy prepare(const fs::path& folder, const std::vector<File>& files, std::int64_t bytes,
             const std::string& host) {
  if (fs::exists(folder / kWhole)) return Copy::there;
  io::create_folders(folder);
  if (!has_room(folder, bytes)) {
    io::log_warning(
        fmt::format("{} on {} has no room for the data's {} MiB: they are read from "
                    "where they are",
                    folder.parent_path().string(), host, bytes >> 20));
    std::error_code ignored;
    fs::remove(folder, ignored);
    return Copy::none;
  }
  make_files(folder, files);
  return Copy::taken;
}

}  // namespace

StagedCopies::~StagedCopies() {
  if (folder_.empty()) return;
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

StagingReport stage(Communicator& comm, const fs::path& place,
                    const std::vector<io::DataIndex*>& indices, const AskStop& ask_stop) {
  const Stopwatch watch;
  Hosts hosts = group_hosts(comm);
  std::vector<File> files;
  fs::path folder;
  StagingReport report;
  Copy copy = Copy::none;
  run_collectively(comm, "preparing the staging", [&] {
    files = files_of(indices);
    folder = place / folder_name(files, comm.host());
    for (const File& file : files) report.bytes += file.bytes;
    if (hosts.ranks[hosts.mine].front() == comm.rank()) {
      copy = prepare(folder, files, report.bytes, comm.host());
    }
  });
  const std::vector<std::string> decided =
      all_gather_text(comm, std::string(1, static_cast<char>(copy)));
  std::vector<Copy> copies;
  for (const std::vector<int>& ranks : hosts.ranks) {
    copies.push_back(static_cast<Copy>(decided[static_cast<std::size_t>(ranks.front())][0]));
    hosts.takes.push_back(copies.back() == Copy::taken);
    if (copies.back() != Copy::none) ++report.hosts;
  }
  if (std::find(hosts.takes.begin(), hosts.takes.end(), true) != hosts.takes.end()) {
    const auto others = std::max<std::int64_t>(1, std::ssize(hosts.ranks) - 1);
    const std::vector<Piece> pieces =
        cut(files, std::clamp(kHeldBytes / others, kLeastPiece, kMostPiece));
    Stager stager(comm, hosts, files, folder);
    const auto wide = static_cast<std::size_t>(comm.size());
    for (std::size_t first = 0; first < pieces.size(); first += wide) {
      const StopReason stop = agree_on_stop(comm, ask_stop ? ask_stop() : StopReason::none);
      if (stop != StopReason::none) {
        // A copy that is not whole is of no use to the next start.
        if (hosts.ranks[hosts.mine].front() == comm.rank()) fs::remove_all(folder);
        throw Stopped{stop};
      }
      stager.round(std::span(pieces).subspan(first, std::min(wide, pieces.size() - first)));
    }
    report.read_bytes = stager.read_bytes();
    run_collectively(comm, "ending the staging", [&] {
      const bool first = hosts.ranks[hosts.mine].front() == comm.rank();
      if (first && hosts.takes[hosts.mine]) io::write_file_atomically(folder / kWhole, "");
    });
  }
  if (copies[hosts.mine] != Copy::none) {
    if (hosts.ranks[hosts.mine].front() == comm.rank()) report.copies = StagedCopies(folder);
    std::map<std::string, std::string> staged;
    for (std::size_t f = 0; f < files.size(); ++f) {
      staged[files[f].path] = copy_of(folder, f).string();
    }
    for (io::DataIndex* index : indices) index->staged = staged;
  }
  report.seconds = watch.seconds();
  return report;
}

}  // namespace hadal::engine
