#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/program/description.hpp"
#include "io/atomic_file.hpp"
#include "io/checkpoint_store.hpp"
#include "io/error.hpp"
#include "io/hdf5_file.hpp"
#include "io/json.hpp"
#include "io/safetensors.hpp"
#include "launch/inspect_config.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

std::string size_text(std::int64_t bytes) {
  if (bytes >= std::int64_t{1} << 30)
    return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (1 << 30));
  if (bytes >= 1 << 20) return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
  if (bytes >= 1 << 10) return fmt::format("{:.1f} KiB", static_cast<double>(bytes) / (1 << 10));
  return fmt::format("{} bytes", bytes);
}

// What chunks cost a reader of rows in random order.
std::string chunk_advice(const io::Hdf5File& file, const std::string& name) {
  constexpr std::int64_t kLargest = 4 << 20;
  constexpr std::int64_t kSmallest = 4 << 10;
  try {
    const io::StoredDataset stored = file.describe(name);
    const std::int64_t bytes = stored.chunk_rows * stored.row_bytes();
    if (stored.chunk_rows > 1 && bytes > kLargest) {
      return fmt::format(
          "a sample costs a chunk of {}: repack with hadal pack --chunk {}", size_text(bytes),
          std::max<std::int64_t>(1, (256 << 10) / std::max<std::int64_t>(1, stored.row_bytes())));
    }
    if (stored.chunk_rows == 1 && bytes < kSmallest && stored.rows() > 100'000) {
      return fmt::format("many small chunks: repack with hadal pack --chunk {}",
                         (256 << 10) / std::max<std::int64_t>(1, stored.row_bytes()));
    }
  } catch (const io::Error&) {
    // The summary says what is wrong.
  }
  return {};
}

ordered_json inspect_hdf5(const fs::path& path, bool quiet) {
  const io::Hdf5File file(path);
  ordered_json document = {
      {"file", path.string()}, {"kind", "hdf5"}, {"datasets", ordered_json::array()}};
  if (!quiet)
    fmt::print("{}: HDF5, {}\n", path.string(),
               size_text(static_cast<std::int64_t>(fs::file_size(path))));
  for (const std::string& name : file.datasets()) {
    std::string summary = file.summary(name);
    const std::string advice = chunk_advice(file, name);
    if (!advice.empty()) summary += "; " + advice;
    document["datasets"].push_back({{"path", name}, {"summary", summary}});
    if (!quiet) fmt::print("  {:<24} {}\n", name, summary);
  }
  return document;
}

ordered_json inspect_safetensors(const fs::path& path, bool quiet) {
  const io::SafetensorsHeader header = io::read_safetensors_header(path);
  ordered_json document = {
      {"file", path.string()}, {"kind", "safetensors"}, {"tensors", ordered_json::array()}};
  std::int64_t elements = 0;
  for (const io::TensorEntry& entry : header.tensors) elements += io::element_count(entry.shape);
  if (!quiet) {
    fmt::print("{}: safetensors, {} tensors, {} values, {}\n", path.string(), header.tensors.size(),
               elements, size_text(header.file_bytes));
  }
  for (const io::TensorEntry& entry : header.tensors) {
    document["tensors"].push_back(
        {{"name", entry.name}, {"dtype", io::name_of(entry.dtype)}, {"shape", entry.shape}});
    if (!quiet) {
      fmt::print("  {:<40} {:<8} {}\n", entry.name, io::name_of(entry.dtype),
                 io::to_string(entry.shape));
    }
  }
  document["values"] = elements;
  document["metadata"] = header.metadata;
  return document;
}

ordered_json inspect_program(const fs::path& path, bool quiet) {
  ordered_json document = {{"file", path.string()}, {"kind", "program"}};
  document.update(engine::describe_program(path));
  if (quiet) return document;
  fmt::print("{}: torch.export program, written by torch {} (schema {})\n", path.string(),
             document["torch"].get<std::string>(), document["schema"].get<std::string>());
  if (document.contains("mode")) {
    fmt::print("  exported for {}; evaluation: {}; batch {}; {} parameters, {} operators\n",
               document["mode"].get<std::string>(), document["evaluation"].get<std::string>(),
               document["batch"].dump(), document["parameters"].get<std::int64_t>(),
               document["operators"].get<std::size_t>());
    for (const char* role : {"inputs", "outputs"}) {
      for (const ordered_json& one : document[role]) {
        fmt::print("  {:<8} {:<30} {} {}\n", role == std::string("inputs") ? "input" : "output",
                   one["name"].get<std::string>(), one.value("dtype", ""), one["sizes"].dump());
      }
    }
    for (const ordered_json& weight : document["weights"]) {
      fmt::print("  {:<40} {}{}\n", weight["name"].get<std::string>(), weight["shape"].dump(),
                 weight["frozen"].get<bool>() ? " frozen" : "");
    }
  }
  for (const ordered_json& fault : document["faults"]) {
    fmt::print("  fault: {}\n", fault.get<std::string>());
  }
  return document;
}

ordered_json last_line(const fs::path& path, const std::string& kind) {
  std::ifstream file(path);
  ordered_json last;
  for (std::string line; std::getline(file, line);) {
    const auto parsed = ordered_json::parse(line, nullptr, false);
    if (parsed.is_object() && parsed.value("kind", "") == kind) last = parsed;
  }
  return last;
}

ordered_json inspect_run(const fs::path& path, bool quiet) {
  const auto status = ordered_json::parse(io::read_file(path / "status.json"));
  ordered_json document = {{"folder", path.string()},
                           {"kind", "run"},
                           {"status", status},
                           {"checkpoints", ordered_json::array()},
                           {"valid", last_line(path / "metrics.jsonl", "valid")}};
  if (!quiet) {
    fmt::print("{}: run, {} at step {} of {}\n", path.string(), status.value("state", ""),
               status.value("step", 0), status.value("steps", 0));
    if (!status.value("message", "").empty()) fmt::print("  {}\n", status.value("message", ""));
    if (!document["valid"].is_null())
      fmt::print("  last validation: {}\n", document["valid"].dump());
  }
  std::error_code ignored;
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(path / "checkpoints", ignored))
    folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  for (const fs::path& folder : folders) {
    std::string verdict = "whole";
    try {
      io::open_checkpoint(folder);
    } catch (const io::Error& error) {
      verdict = error.what();
    }
    document["checkpoints"].push_back({{"folder", folder.string()}, {"verdict", verdict}});
    if (!quiet) fmt::print("  {}: {}\n", folder.filename().string(), verdict);
  }
  return document;
}

}  // namespace

int inspect(const InspectArguments& arguments) {
  const fs::path& path = arguments.path;
  const bool json = arguments.json;
  std::error_code ignored;
  ordered_json document;
  if (fs::is_directory(path, ignored)) {
    if (fs::exists(path / "status.json", ignored)) {
      document = inspect_run(path, json);
    } else if (fs::exists(path / "model.safetensors", ignored)) {
      document = inspect_safetensors(path / "model.safetensors", json);
    } else {
      throw io::Error(io::ErrorKind::usage,
                      fmt::format("{} is no run folder and no checkpoint", path.string()));
    }
  } else if (!fs::exists(path, ignored)) {
    throw io::Error(io::ErrorKind::usage, fmt::format("{} does not exist", path.string()));
  } else {
    char magic[4] = {};
    std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
    if (std::string_view(magic, 4) == "\x89HDF") {
      document = inspect_hdf5(path, json);
    } else if (path.extension() == ".toml") {
      document = inspect_config(path, arguments.samples, json);
    } else if (path.extension() == ".pt2") {
      document = inspect_program(path, json);
    } else {
      document = inspect_safetensors(path, json);
    }
  }
  if (json) fmt::print("{}\n", io::json_text(document, 1));
  return 0;
}

}  // namespace hadal::launch
