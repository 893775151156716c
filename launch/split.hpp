#pragma once
// The split that a verb's --data names.

#include <fmt/format.h>

#include <string>

#include "engine/dataset.hpp"
#include "io/error.hpp"

namespace hadal::launch {

// "train", "valid" or "test". Throws a config error where the config names no files for it.
inline engine::Split chosen_split(const engine::DataOptions& data, const std::string& name) {
  const engine::Split split = name == "train"   ? engine::Split::train
                              : name == "valid" ? engine::Split::valid
                                                : engine::Split::test;
  if (engine::has_split(data, split)) return split;
  throw io::Error(
      io::ErrorKind::config,
      fmt::format("data.{} is not set; choose the split with --data train, valid or test", name));
}

}  // namespace hadal::launch
