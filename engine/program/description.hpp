#pragma once
// What a torch.export archive holds, for people who look at it.

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

namespace hadal::engine {

// {"torch", "schema", "mode", "batch", "inputs", "outputs", "parameters", "weights", "operators",
// "evaluation", "faults"}: faults are reasons against training or evaluating it, as sentences.
// Throws a checkpoint error for what is no such archive.
nlohmann::ordered_json describe_program(const std::filesystem::path& path);

}  // namespace hadal::engine
