#include "engine/checkpoint_writer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <thread>

#include "engine/comm/collectively.hpp"
#include "engine/stopwatch.hpp"

namespace hadal::engine {
namespace {

constexpr std::int32_t kFailed = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t kNothing = std::numeric_limits<std::int32_t>::max();
// Blocks of one call: enough that the calls cost nothing and a network file system has work for
// several servers.
constexpr std::int64_t kBlocksAtOnce = 8;
constexpr std::chrono::microseconds kPause(200);
// Of another host's blocks that are read back.
constexpr std::int64_t kSamples = 16;

}  // namespace

CheckpointWriter::CheckpointWriter(Communicator& comm, CheckpointMemory& memory, int copiers,
                                   Options options)
    : comm_(comm),
      memory_(memory),
      options_(std::move(options)),
      store_(options_.folder),
      assembly_(comm, memory, copiers) {
  if (is_writer()) worker_.add();
}

// A save that lacks nothing is brought to its end; one that waits for ranks that will not come is
// given up.
CheckpointWriter::~CheckpointWriter() { ends_ = true; }

void CheckpointWriter::begin(std::int64_t step, nlohmann::json run) {
  manifest_ = {.step = step, .files = {}, .run = std::move(run)};
  failure_.reset();
  seconds_ = 0;
  hashes_.assign(memory_.layout.blocks().size(), 0);
  released_ = 0;
  phase_ = kPrepare;
  start_phase();
  assembly_.begin();
}

void CheckpointWriter::copy() {
  if (busy()) assembly_.copy();
}

std::int32_t CheckpointWriter::progress() {
  if (!busy()) return kNothing;
  const bool assembled = assembly_.done();
  if (job_ && !worker_.busy()) {
    try {
      seconds_ += job_->finish();
    } catch (const std::exception& exception) {
      failure_ = io::as_error(exception);
    }
    job_.reset();
  }
  if (failure_) return kFailed;
  return phase_ + (assembled && !job_ ? 1 : 0);
}

std::optional<std::filesystem::path> CheckpointWriter::advance(std::int32_t agreed) {
  if (!busy()) return std::nullopt;
  if (agreed == kFailed) give_up();
  if (agreed <= phase_) return std::nullopt;
  phase_ = one_host() ? std::int32_t{kDone} : phase_ + 1;
  if (phase_ != kDone) {
    if (phase_ == kVerify) gather_hashes();
    start_phase();
    return std::nullopt;
  }
  phase_ = kIdle;
  return options_.folder / io::checkpoint_name(manifest_.step);
}

std::filesystem::path CheckpointWriter::finish() {
  for (;;) {
    copy();
    const bool takes_parts = one_host() ? phase_ == kPrepare : phase_ == kWrite;
    if (takes_parts) assembly_.fill_by_windows();
    std::int32_t mine = progress();
    while (mine == phase_) {
      std::this_thread::sleep_for(kPause);
      mine = progress();
    }
    if (auto folder = advance(least_of_all(comm_, mine))) return *folder;
  }
}

void CheckpointWriter::start_phase() {
  const bool first = comm_.rank() == 0;
  std::function<void()> body;
  if (one_host()) {
    if (first) {
      body = [this] {
        std::optional<io::Error> failure;
        try {
          prepare();
        } catch (const std::exception& exception) {
          failure = io::as_error(exception);
        }
        write(failure);
        commit();
      };
    }
  } else if (phase_ == kPrepare && first) {
    body = [this] { prepare(); };
  } else if (phase_ == kWrite && is_writer()) {
    body = [this] { write({}); };
  } else if (phase_ == kVerify && is_writer()) {
    body = [this] { verify(); };
  } else if (phase_ == kCommit && first) {
    body = [this] { commit(); };
  }
  if (body) job_.emplace(worker_.start(0, 1, [body](int, std::int64_t) { body(); }));
}

void CheckpointWriter::prepare() {
  const std::filesystem::path folder = store_.begin(manifest_.step);
  for (const CheckpointFile& file : memory_.layout.files()) {
    io::BlockFile::create(folder / file.name, file.bytes);
  }
}

// False where this process ends and nobody is left to fill it.
bool CheckpointWriter::wait_until_whole(std::int64_t number) const {
  constexpr double kPatience = 2;
  std::optional<Stopwatch> since;
  while (!memory_.image.is_whole(number)) {
    if (ends_ && !since) since.emplace();
    if (since && since->seconds() > kPatience) return false;
    std::this_thread::sleep_for(kPause);
  }
  return true;
}

// This host's blocks, in their order. Each file is synced when it is through. After a failure they
// are let go: others may wait for room in the image.
void CheckpointWriter::write(std::optional<io::Error> failure) {
  const std::int64_t count = memory_.blocks.count();
  const auto block = [&](std::int64_t number) -> const CheckpointBlock& {
    return memory_.layout.blocks()[static_cast<std::size_t>(memory_.blocks.begin + number)];
  };
  std::optional<io::BlockFile> file;
  while (released_ < count) {
    if (!wait_until_whole(released_)) {
      throw io::Error(io::ErrorKind::peer, "a save was not finished");
    }
    const CheckpointBlock& first = block(released_);
    std::int64_t end = released_ + 1, bytes = first.bytes;
    // Those that are whole by now and lie behind it, in the file and in memory.
    while (end < count && end - released_ < kBlocksAtOnce && block(end).file == first.file &&
           end % memory_.image.capacity() != 0 && memory_.image.is_whole(end)) {
      bytes += block(end++).bytes;
    }
    try {
      if (!failure) {
        const CheckpointFile& its = memory_.layout.files()[first.file];
        if (!file) file.emplace(partial() / its.name);
        file->write({memory_.image.block(released_).data(), static_cast<std::size_t>(bytes)},
                    first.offset);
        if (end == count || block(end).file != first.file) {
          file->close();
          file.reset();
        }
      }
    } catch (const std::exception& exception) {
      failure = io::as_error(exception);
    }
    for (; released_ < end; ++released_) {
      hashes_[static_cast<std::size_t>(memory_.blocks.begin + released_)] =
          memory_.image.hash(released_);
      memory_.image.release(released_);
    }
  }
  if (failure) throw io::Error(*failure);
}

// Collective.
void CheckpointWriter::gather_hashes() {
  const auto bytes_of_hashes = [&](const Share& blocks) {
    return std::as_writable_bytes(std::span(hashes_).subspan(
        static_cast<std::size_t>(blocks.begin), static_cast<std::size_t>(blocks.count())));
  };
  const auto mine = bytes_of_hashes(memory_.blocks);
  const std::vector<std::string> all = all_gather_text(
      comm_,
      is_writer() ? std::string(reinterpret_cast<const char*>(mine.data()), mine.size()) : "");
  for (std::size_t h = 0; h < memory_.hosts().size(); ++h) {
    const std::string& theirs = all[static_cast<std::size_t>(memory_.writer(h))];
    std::memcpy(bytes_of_hashes(memory_.blocks_of(h)).data(), theirs.data(), theirs.size());
  }
}

// Some of what the next host has written: this one's system has it from the servers.
void CheckpointWriter::verify() {
  const std::size_t hosts = memory_.hosts().size();
  const Share theirs =
      memory_.blocks_of((static_cast<std::size_t>(memory_.image.host().host()) + 1) % hosts);
  std::vector<std::byte> bytes;
  const std::int64_t samples = std::min(kSamples, theirs.count());
  for (std::int64_t s = 0; s < samples; ++s) {
    const auto number = static_cast<std::size_t>(
        theirs.begin + (samples == 1 ? 0 : s * (theirs.count() - 1) / (samples - 1)));
    const CheckpointBlock& block = memory_.layout.blocks()[number];
    const std::filesystem::path path = partial() / memory_.layout.files()[block.file].name;
    bytes.resize(static_cast<std::size_t>(block.bytes));
    const io::UniqueFd fd = io::open_for_reading(path);
    io::read_at(fd.get(), bytes, block.offset, path);
    if (io::hash_bytes(bytes) == hashes_[number]) continue;
    throw io::Error(io::ErrorKind::storage,
                    fmt::format("{} reads back other bytes at {} than another node has written; "
                                "its file system is not the same on all nodes, or damages files",
                                path.string(), block.offset));
  }
}

void CheckpointWriter::commit() {
  for (std::size_t f = 0; f < memory_.layout.files().size(); ++f) {
    const CheckpointFile& file = memory_.layout.files()[f];
    const auto first = hashes_.begin() + memory_.layout.first_block(f);
    const auto count = (file.bytes + io::kFileBlockBytes - 1) / io::kFileBlockBytes;
    manifest_.files.push_back({.name = file.name,
                               .bytes = file.bytes,
                               .blocks = {first, first + count},
                               .block_bytes = io::kFileBlockBytes});
  }
  store_.commit(manifest_);
  store_.prune(options_.keep, options_.stays);
}

void CheckpointWriter::give_up() {
  // Nothing of the image may be in use when it is emptied. Where parts are put in by windows, they
  // have been, or none will.
  copy();
  while (job_ || (memory_.is_whole() && !assembly_.done())) {
    progress();
    std::this_thread::sleep_for(kPause);
  }
  comm_.barrier();
  if (is_writer()) {
    for (; released_ < memory_.blocks.count(); ++released_) memory_.image.release(released_);
  }
  if (comm_.rank() == 0) store_.abandon(manifest_.step);
  phase_ = kIdle;
  const std::optional<io::Error> mine = std::move(failure_);
  failure_.reset();
  agree_on_failure(comm_, "saving a checkpoint", mine);
  throw io::Error(io::ErrorKind::bug, "a save has failed on no rank");
}

}  // namespace hadal::engine
