#pragma once
// Where everything that a checkpoint holds lies in its files: a function of the model and of the
// optimizer's states alone, not of the ranks. And who has it in memory, and which host writes it.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/training_state.hpp"
#include "io/block_file.hpp"
#include "io/safetensors.hpp"

namespace hadal::engine {

struct CheckpointFile {
  std::string name;
  std::string header;
  std::vector<io::TensorEntry> tensors;
  std::int64_t bytes = 0;
};

// What one writer writes at once, and what has a hash of its own. Blocks are counted over all
// files, in their order.
struct CheckpointBlock {
  std::size_t file = 0;
  std::int64_t offset = 0;  // in the file
  std::int64_t bytes = 0;
};

// Bytes that lie together in memory and in a block.
struct CheckpointPart {
  std::byte* memory = nullptr;  // null: another rank's
  std::int64_t block = 0;
  std::int64_t offset = 0;  // in the block
  std::int64_t bytes = 0;
  enum class Of { header, arena, buffer, state } of = Of::state;
};
using CheckpointParts = std::vector<CheckpointPart>;  // in the order of the files

class CheckpointLayout {
 public:
  // `state` must outlive it and stay where it is.
  CheckpointLayout(const Model& model, TrainingState& state, int rank, int ranks);

  const std::vector<CheckpointFile>& files() const { return files_; }
  const std::vector<CheckpointBlock>& blocks() const { return blocks_; }
  std::int64_t bytes() const;

  // The blocks that host `host` of `hosts` writes.
  Share blocks_of(int host, int hosts) const;
  // The first block of a file.
  std::int64_t first_block(std::size_t file) const;

  // What every host has: headers, parameters, buffers.
  const CheckpointParts& common() const { return common_; }
  // What a rank alone has: its slices of the optimizer's states.
  CheckpointParts own(int rank) const;

 private:
  void add(std::string name, std::vector<io::TensorEntry> tensors);
  void cut(CheckpointParts& parts, CheckpointPart::Of of, std::size_t file, std::int64_t offset,
           std::int64_t bytes, std::byte* memory) const;
  void cut_slice(CheckpointParts& parts, std::size_t state, const ArenaSlice& slice,
                 float* memory) const;

  TrainingState& state_;
  int rank_;
  int ranks_;
  std::vector<CheckpointFile> files_;
  std::vector<CheckpointBlock> blocks_;
  std::vector<std::int64_t> first_blocks_;  // by file
  CheckpointParts common_;
};

}  // namespace hadal::engine
