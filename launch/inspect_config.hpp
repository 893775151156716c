#pragma once
// What a config's training data are like.

#include <filesystem>
#include <nlohmann/json.hpp>

namespace hadal::launch {

// Samples, fields, how often each label is there; with `samples`, a PNG of the first images as a
// network is trained on them. Prints it too, unless `quiet`. Throws config, data and usage errors.
nlohmann::ordered_json inspect_config(const std::filesystem::path& path,
                                      const std::filesystem::path& samples, bool quiet);

}  // namespace hadal::launch
