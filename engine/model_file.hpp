#pragma once
// Weights in and out as safetensors under the model's state-dict names: parameters in the arena's
// own order, then buffers. Nothing in the file depends on time, host or number of ranks.

#include <filesystem>

#include "engine/arena.hpp"
#include "engine/buffers.hpp"
#include "engine/model.hpp"
#include "io/hashing_file.hpp"
#include "io/safetensors.hpp"

namespace hadal::engine {

// Appends the arena's entries without their padding, blocks [first, last).
void append_blocks(io::HashingFile& file, const ArenaLayout& layout, std::span<const float> arena,
                   std::size_t first, std::size_t last, std::int64_t arena_begin);

// Writes a whole model file (synced, not renamed) and returns its digest.
io::FileDigest write_model(const std::filesystem::path& path, const Model& model,
                           const ArenaLayout& layout, std::span<const float> parameters,
                           const BufferValues& buffers);

// The same under its final name, atomically.
void write_model_atomically(const std::filesystem::path& path, const Model& model,
                            const ArenaLayout& layout, std::span<const float> parameters,
                            const BufferValues& buffers);

// Reads weights by name into the arena and the buffers. float16, bfloat16 and float64 tensors are
// converted. With `strict`, names must match both ways. Throws a checkpoint error that lists every
// missing, unexpected or misshapen tensor.
void read_model(const std::filesystem::path& path, bool strict, const Model& model,
                const ArenaLayout& layout, std::span<float> parameters, BufferValues& buffers);

}  // namespace hadal::engine
