#pragma once
// Weights in and out as safetensors under the model's state-dict names: parameters in the arena's
// own order, what is frozen, buffers, constants. A tied weight stands under each of its names.
// Nothing in the file depends on time, host or number of ranks.

#include <filesystem>
#include <functional>

#include "engine/weights.hpp"
#include "io/hashing_file.hpp"
#include "io/safetensors.hpp"

namespace hadal::engine {

// visit(entry, its bytes): all that a model file holds, in its order. The entries have no places
// yet.
void for_each_tensor(const Model& model, Weights& weights,
                     const std::function<void(io::TensorEntry, std::span<std::byte>)>& visit);

// Writes a whole model file (synced, not renamed) and returns its digest.
io::FileDigest write_model(const std::filesystem::path& path, const Model& model, Weights& weights);

// The same under its final name, atomically.
void write_model_atomically(const std::filesystem::path& path, const Model& model,
                            Weights& weights);

struct ReadOptions {
  bool strict = true;                                        // names must match both ways
  std::vector<std::pair<std::string, std::string>> key_map;  // see WeightSource
  std::vector<std::string> reset;                            // globs of parameters to leave alone
};

// Reads weights by name from what WeightSource opens. float16, bfloat16 and float64 tensors are
// converted. Throws a checkpoint error with a table of what is missing, unexpected or misshapen;
// where not strict, what is missing or unexpected goes to the log (by the rank that tells).
enum class Tells { yes, no };
void read_model(const std::filesystem::path& path, const ReadOptions& options, const Model& model,
                Weights& weights, Tells tells = Tells::no);

}  // namespace hadal::engine
