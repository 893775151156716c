#include "engine/checkpoint_layout.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "engine/model_file.hpp"

namespace hadal::engine {
namespace {

constexpr std::size_t kModelFile = 0, kOptimizerFile = 1;

// Of the optimizer, then of the rounding.
std::vector<std::string> state_names(const TrainingState& state) {
  std::vector<std::string> names = state.optimizer.state_names();
  for (std::int64_t part = 0; state.rounding && part < state.rounding->part_count(); ++part) {
    names.push_back(fmt::format("wire_rounding.{}", part));
  }
  return names;
}

}  // namespace

CheckpointLayout::CheckpointLayout(const Model& model, TrainingState& state, int rank, int ranks)
    : state_(state), rank_(rank), ranks_(ranks) {
  std::vector<io::TensorEntry> tensors;
  for_each_tensor(model, state.weights, [&](io::TensorEntry tensor, std::span<std::byte>) {
    tensors.push_back(std::move(tensor));
  });
  add("model.safetensors", std::move(tensors));
  tensors.clear();
  for (const std::string& name : state_names(state)) {
    for (const ArenaEntry& entry : state.weights.layout.entries()) {
      tensors.push_back(
          {.name = name + "/" + entry.name, .dtype = io::DType::f32, .shape = entry.shape});
    }
  }
  add("optimizer.safetensors", std::move(tensors));
  const std::span<const std::byte> arena = std::as_bytes(state.weights.parameters);
  const std::span<const std::byte> frozen = std::as_bytes(state.weights.frozen);
  const auto lies_in = [](std::span<const std::byte> whole, std::span<const std::byte> bytes) {
    return !whole.empty() && bytes.data() >= whole.data() && bytes.data() < &whole.back() + 1;
  };
  for (std::size_t f = 0; f < files_.size(); ++f) {
    CheckpointFile& file = files_[f];
    const auto header = std::as_writable_bytes(std::span(file.header));
    cut(common_, CheckpointPart::Of::header, f, 0, std::ssize(header), header.data());
    if (f != kModelFile) continue;
    std::size_t next = 0;
    for_each_tensor(model, state.weights, [&](const io::TensorEntry&, std::span<std::byte> bytes) {
      const io::TensorEntry& tensor = file.tensors[next++];
      const bool is_parameter = lies_in(arena, bytes) || lies_in(frozen, bytes);
      cut(common_, is_parameter ? CheckpointPart::Of::arena : CheckpointPart::Of::buffer, f,
          tensor.begin, tensor.bytes(), bytes.data());
    });
  }
}

void CheckpointLayout::add(std::string name, std::vector<io::TensorEntry> tensors) {
  CheckpointFile file{.name = std::move(name), .header = {}, .tensors = std::move(tensors)};
  file.header = io::layout_safetensors(file.tensors, {{"format", "pt"}});
  file.bytes = io::file_bytes(file.header, file.tensors);
  first_blocks_.push_back(std::ssize(blocks_));
  for (std::int64_t offset = 0; offset < file.bytes; offset += io::kFileBlockBytes) {
    blocks_.push_back({.file = files_.size(),
                       .offset = offset,
                       .bytes = std::min(io::kFileBlockBytes, file.bytes - offset)});
  }
  files_.push_back(std::move(file));
}

std::int64_t CheckpointLayout::bytes() const {
  std::int64_t sum = 0;
  for (const CheckpointFile& file : files_) sum += file.bytes;
  return sum;
}

Share CheckpointLayout::blocks_of(int host, int hosts) const {
  const std::int64_t all = std::ssize(blocks_);
  return {all * host / hosts, all * (host + 1) / hosts};
}

std::int64_t CheckpointLayout::first_block(std::size_t file) const { return first_blocks_[file]; }

void CheckpointLayout::cut(CheckpointParts& parts, CheckpointPart::Of of, std::size_t file,
                           std::int64_t offset, std::int64_t bytes, std::byte* memory) const {
  while (bytes > 0) {
    const std::int64_t in_block = offset % io::kFileBlockBytes;
    const std::int64_t taken = std::min(bytes, io::kFileBlockBytes - in_block);
    parts.push_back({.memory = memory,
                     .block = first_blocks_[file] + offset / io::kFileBlockBytes,
                     .offset = in_block,
                     .bytes = taken,
                     .of = of});
    offset += taken;
    bytes -= taken;
    if (memory != nullptr) memory += taken;
  }
}

// Padding between parameters is in memory, not in the file.
void CheckpointLayout::cut_slice(CheckpointParts& parts, std::size_t state, const ArenaSlice& slice,
                                 float* memory) const {
  const ArenaLayout& layout = state_.weights.layout;
  for (std::size_t k = slice.first_block; k < slice.last_block;) {
    const ArenaBlock& first = layout.blocks()[k];
    std::int64_t count = 0;
    for (; k < slice.last_block && layout.blocks()[k].entry == first.entry; ++k) {
      count += layout.blocks()[k].count;
    }
    const io::TensorEntry& tensor =
        files_[kOptimizerFile].tensors[state * layout.entries().size() + first.entry];
    constexpr auto kBytes = static_cast<std::int64_t>(sizeof(float));
    const std::int64_t into = first.offset - layout.entries()[first.entry].offset;
    cut(parts, CheckpointPart::Of::state, kOptimizerFile, tensor.begin + into * kBytes,
        count * kBytes,
        memory == nullptr ? nullptr
                          : reinterpret_cast<std::byte*>(memory + (first.offset - slice.begin)));
  }
}

CheckpointParts CheckpointLayout::own(int rank) const {
  const ArenaLayout& layout = state_.weights.layout;
  const bool mine = rank == rank_;
  const std::size_t states = state_.optimizer.state_names().size();
  CheckpointParts parts;
  for (std::size_t s = 0; s < states; ++s) {
    for (std::size_t b = 0; b < layout.bucket_count(); ++b) {
      cut_slice(parts, s, layout.slice(b, rank, ranks_),
                mine ? state_.optimizer.state(s, b).data() : nullptr);
    }
  }
  for (std::int64_t part = 0; state_.rounding && part < state_.rounding->part_count(); ++part) {
    if (state_.rounding->speaker(part) != rank) continue;
    float* const left_out = mine ? state_.rounding->left_out(part).data() : nullptr;
    for (std::size_t b = 0; b < layout.bucket_count(); ++b) {
      const ArenaSlice whole = layout.slice(b, 0, 1);
      cut_slice(parts, states + static_cast<std::size_t>(part), whole,
                mine ? left_out + whole.begin : nullptr);
    }
  }
  return parts;
}

}  // namespace hadal::engine
