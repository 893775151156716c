#include "engine/checkpoint_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "engine/comm/collectively.hpp"
#include "engine/model_file.hpp"
#include "io/error.hpp"

namespace hadal::engine {
namespace {

namespace fs = std::filesystem;

// Blocks that a host has in memory at a time: few enough to stay in the processor's caches.
constexpr std::int64_t kWindowLength = 32;

io::Error unusable(const io::StoredCheckpoint& checkpoint, const std::string& why) {
  return io::Error(io::ErrorKind::checkpoint,
                   fmt::format("checkpoint {}: {}", checkpoint.folder.string(), why));
}

const io::FileDigest& digest_of(const io::StoredCheckpoint& checkpoint, const std::string& name) {
  for (const io::FileDigest& digest : checkpoint.manifest.files) {
    if (digest.name == name) return digest;
  }
  throw unusable(checkpoint, "its manifest.json does not name " + name);
}

// What is wrong with the tensors of a file, or nothing.
std::string misfit(const CheckpointFile& wanted, const io::SafetensorsHeader& stored) {
  for (const io::TensorEntry& tensor : wanted.tensors) {
    const io::TensorEntry* found = stored.find(tensor.name);
    if (found == nullptr || found->shape != tensor.shape || found->dtype != tensor.dtype) {
      return fmt::format("{} has no {} with the shape {}", wanted.name, tensor.name,
                         io::to_string(tensor.shape));
    }
    if (found->begin != tensor.begin) {
      return fmt::format("{} has its tensors in another order", wanted.name);
    }
  }
  if (stored.tensors.size() == wanted.tensors.size()) return {};
  return fmt::format("{} holds {} tensors, {} are needed", wanted.name, stored.tensors.size(),
                     wanted.tensors.size());
}

class Reader {
 public:
  Reader(Communicator& comm, CheckpointMemory& memory, const io::StoredCheckpoint& checkpoint,
         ThreadTeam& team)
      : comm_(comm), memory_(memory), checkpoint_(checkpoint), team_(team) {
    for (const CheckpointFile& file : memory.layout.files()) {
      const fs::path path = checkpoint.folder / file.name;
      const io::FileDigest& digest = digest_of(checkpoint, file.name);
      std::string fault = io::size_difference(checkpoint.folder, digest);
      // Of files with blocks of another size this program writes none any more.
      if (fault.empty() && digest.block_bytes != io::kFileBlockBytes) {
        fault = fmt::format("{} is hashed by blocks of {} bytes, this program needs {}", file.name,
                            digest.block_bytes, io::kFileBlockBytes);
      }
      if (fault.empty()) fault = header_fault(path, file);
      if (!fault.empty()) throw unusable(checkpoint, fault);
      files_.push_back(io::open_for_reading(path));
      digests_.push_back(&digest);
    }
  }

  // Collective. What has failed is kept: the others need this rank's messages.
  std::optional<io::Error> run() {
    std::int64_t most = 0;
    for (std::size_t h = 0; h < memory_.hosts().size(); ++h) {
      lists_.push_back(list_of(h));
      most = std::max<std::int64_t>(most, std::ssize(lists_.back()));
    }
    const std::vector<std::int64_t>& own =
        lists_[static_cast<std::size_t>(memory_.image.host().host())];
    const std::int64_t each = std::min(memory_.image.capacity(), kWindowLength);
    for (std::int64_t first = 0; first < most; first += each) {
      const auto begin = std::min<std::int64_t>(first, std::ssize(own));
      const auto end = std::min<std::int64_t>(first + each, std::ssize(own));
      window_.assign(own.begin() + begin, own.begin() + end);
      read();
      memory_.image.barrier();
      hand_out();
      exchange(first, each);
      memory_.image.barrier();
    }
    return failure_;
  }

 private:
  // A damaged header is told as damage, not as a misfit.
  std::string header_fault(const fs::path& path, const CheckpointFile& file) const {
    const io::FileDigest& digest = digest_of(checkpoint_, file.name);
    const io::UniqueFd fd = io::open_for_reading(path);
    std::vector<std::byte> block;
    const auto header_blocks = static_cast<std::size_t>(
        (std::ssize(file.header) + io::kFileBlockBytes - 1) / io::kFileBlockBytes);
    for (std::size_t b = 0; b < std::min(header_blocks, digest.blocks.size()); ++b) {
      const std::int64_t offset = static_cast<std::int64_t>(b) * io::kFileBlockBytes;
      block.resize(static_cast<std::size_t>(std::min(io::kFileBlockBytes, digest.bytes - offset)));
      io::read_at(fd.get(), block, offset, path);
      if (io::hash_bytes(block) != digest.blocks[b]) return io::damage(digest, b);
    }
    return misfit(file, io::read_safetensors_header(path));
  }

  // What a host reads, in this order: all of the model, and of the states what it would write.
  std::vector<std::int64_t> list_of(std::size_t host) const {
    const std::int64_t states = memory_.layout.first_block(1);
    const Share blocks = memory_.blocks_of(host);
    std::vector<std::int64_t> list;
    for (std::int64_t b = 0; b < states; ++b) list.push_back(b);
    for (std::int64_t b = std::max(states, blocks.begin); b < blocks.end; ++b) list.push_back(b);
    return list;
  }

  // The parts of a window's blocks, and perhaps of some between them.
  static std::span<const CheckpointPart> parts_of(const CheckpointParts& parts,
                                                  const std::vector<std::int64_t>& window) {
    if (window.empty()) return {};
    const auto before = [](const CheckpointPart& part, std::int64_t block) {
      return part.block < block;
    };
    const auto first = std::lower_bound(parts.begin(), parts.end(), window.front(), before);
    return {first, std::lower_bound(first, parts.end(), window.back() + 1, before)};
  }

  const CheckpointBlock& block_of(std::int64_t number) const {
    return memory_.layout.blocks()[static_cast<std::size_t>(number)];
  }

  // Its place in the window, or -1.
  static std::int64_t place_of(const std::vector<std::int64_t>& window, std::int64_t block) {
    const auto found = std::lower_bound(window.begin(), window.end(), block);
    return found != window.end() && *found == block ? found - window.begin() : -1;
  }

  void read() {
    const HostMemory& host = memory_.image.host();
    team_.run(0, std::ssize(window_), [&](int, std::int64_t place) {
      if (place % host.size() != host.rank()) return;
      const std::int64_t number = window_[static_cast<std::size_t>(place)];
      const CheckpointBlock& block = block_of(number);
      const io::FileDigest& digest = *digests_[block.file];
      const auto in_file =
          static_cast<std::size_t>(number - memory_.layout.first_block(block.file));
      const std::span<std::byte> bytes =
          memory_.image.block(place).first(static_cast<std::size_t>(block.bytes));
      try {
        io::read_at(files_[block.file].get(), bytes, block.offset,
                    checkpoint_.folder / digest.name);
        if (io::hash_bytes(bytes) != digest.blocks[in_file]) {
          throw unusable(checkpoint_, io::damage(digest, in_file));
        }
      } catch (const std::exception& exception) {
        const std::lock_guard lock(mutex_);
        if (!failure_) failure_ = io::as_error(exception);
      }
    });
  }

  void hand_out() {
    const HostMemory& arena = memory_.arena;
    std::vector<std::pair<const CheckpointPart*, std::int64_t>> copies;
    const auto add = [&](const CheckpointParts& parts, auto&& is_mine) {
      for (const CheckpointPart& part : parts_of(parts, window_)) {
        const std::int64_t place = place_of(window_, part.block);
        if (place >= 0 && is_mine(part)) copies.push_back({&part, place});
      }
    };
    add(memory_.layout.common(), [&](const CheckpointPart& part) {
      if (part.of == CheckpointPart::Of::buffer) return true;
      return part.of == CheckpointPart::Of::arena && part.block % arena.size() == arena.rank();
    });
    add(memory_.local,
        [](const CheckpointPart& part) { return part.of == CheckpointPart::Of::state; });
    team_.run(0, std::ssize(copies), [&](int, std::int64_t i) {
      const auto& [part, place] = copies[static_cast<std::size_t>(i)];
      std::memcpy(part->memory, memory_.image.block(place).data() + part->offset,
                  static_cast<std::size_t>(part->bytes));
    });
  }

  // The states' parts that other hosts read, against the routes of a save.
  void exchange(std::int64_t first, std::int64_t each) {
    if (memory_.hosts().size() == 1) return;
    const auto count_in = [](const CheckpointParts& parts,
                             const std::vector<std::int64_t>& window) {
      std::int64_t bytes = 0;
      for (const CheckpointPart& part : parts_of(parts, window)) {
        if (place_of(window, part.block) >= 0) bytes += part.bytes;
      }
      return AlignedBuffer::for_overwrite(bytes / 4);
    };
    std::vector<Outgoing> out;
    std::vector<Incoming> in;
    std::vector<AlignedBuffer> sent, received;
    for (const CheckpointMemory::Route& route : memory_.incoming) {
      sent.push_back(count_in(route.parts, window_));
      auto* to = reinterpret_cast<std::byte*>(sent.back().data());
      for (const CheckpointPart& part : parts_of(route.parts, window_)) {
        const std::int64_t place = place_of(window_, part.block);
        if (place < 0) continue;
        std::memcpy(to, memory_.image.block(place).data() + part.offset,
                    static_cast<std::size_t>(part.bytes));
        to += part.bytes;
      }
      if (!sent.back().empty()) out.push_back({route.peer, std::as_bytes(sent.back().span())});
    }
    std::vector<std::vector<std::int64_t>> windows;
    for (const CheckpointMemory::Route& route : memory_.outgoing) {
      const auto holder = std::find_if(
          memory_.hosts().begin(), memory_.hosts().end(), [&](const std::vector<int>& ranks) {
            return std::find(ranks.begin(), ranks.end(), route.peer) != ranks.end();
          });
      const auto& list = lists_[static_cast<std::size_t>(holder - memory_.hosts().begin())];
      windows.emplace_back(list.begin() + std::min<std::int64_t>(first, std::ssize(list)),
                           list.begin() + std::min<std::int64_t>(first + each, std::ssize(list)));
      received.push_back(count_in(route.parts, windows.back()));
      if (!received.back().empty()) {
        in.push_back({route.peer, std::as_writable_bytes(received.back().span())});
      }
    }
    comm_.exchange(out, in);
    for (std::size_t r = 0; r < memory_.outgoing.size(); ++r) {
      const auto* from = reinterpret_cast<const std::byte*>(received[r].data());
      for (const CheckpointPart& part : parts_of(memory_.outgoing[r].parts, windows[r])) {
        if (place_of(windows[r], part.block) < 0) continue;
        std::memcpy(part.memory, from, static_cast<std::size_t>(part.bytes));
        from += part.bytes;
      }
    }
  }

  Communicator& comm_;
  CheckpointMemory& memory_;
  const io::StoredCheckpoint& checkpoint_;
  ThreadTeam& team_;
  std::vector<io::UniqueFd> files_;
  std::vector<const io::FileDigest*> digests_;
  std::vector<std::vector<std::int64_t>> lists_;  // by host
  std::vector<std::int64_t> window_;              // block numbers, by place in the image
  std::mutex mutex_;
  std::optional<io::Error> failure_;
};

}  // namespace

void load_checkpoint(Communicator& comm, CheckpointMemory& memory,
                     const io::StoredCheckpoint& checkpoint, ThreadTeam& team,
                     TrainingState& state) {
  std::optional<Reader> reader;
  run_collectively(comm, "reading a checkpoint", [&] {
    reader.emplace(comm, memory, checkpoint, team);
    state.progress = progress_from(checkpoint.manifest.run.at("progress"));
  });
  agree_on_failure(comm, "reading a checkpoint", reader->run());
}

bool load_fork(Communicator& comm, CheckpointMemory& memory, const io::StoredCheckpoint& checkpoint,
               ThreadTeam& team, const Model& model, TrainingState& state) {
  const LossScale first_scale = state.progress.loss_scale;
  bool same = false;
  run_collectively(comm, "looking at the fork's optimizer", [&] {
    const CheckpointFile& wanted = memory.layout.files()[1];
    same = misfit(wanted, io::read_safetensors_header(checkpoint.folder / wanted.name)).empty();
  });
  if (same) {
    load_checkpoint(comm, memory, checkpoint, team, state);
  } else {
    run_collectively(comm, "reading a checkpoint", [&] {
      if (comm.rank() == 0) io::open_checkpoint(checkpoint.folder);
      read_model(checkpoint.folder / "model.safetensors", {}, model, state.weights);
    });
    state.optimizer.start_from(state.weights.parameters);
  }
  // Its schedule, order and best start anew; AdamW's bias correction follows its states.
  state.progress = {.updates = same ? state.progress.updates : 0, .loss_scale = first_scale};
  return same;
}

}  // namespace hadal::engine
