#include "engine/model_export.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "engine/program/program_file.hpp"
#include "engine/weight_source.hpp"
#include "io/atomic_file.hpp"
#include "io/convert.hpp"
#include "io/error.hpp"
#include "io/hashing_file.hpp"

namespace hadal::engine {
namespace {

namespace fs = std::filesystem;

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// Calls write(a path beside `output`) and renames.
template <class Write>
void write_whole(const fs::path& output, Write write) {
  io::create_folders(folder_of(output));
  const fs::path beside = output.string() + fmt::format(".tmp-{}", ::getpid());
  write(beside);
  std::error_code failure;
  fs::rename(beside, output, failure);
  if (failure) {
    throw io::Error(io::ErrorKind::storage,
                    fmt::format("cannot rename onto {}: {}", output.string(), failure.message()));
  }
  io::sync_folder(folder_of(output));
}

std::string quoted(const fs::path& path) {
  return nlohmann::json(fs::absolute(path).lexically_normal().string()).dump();
}

}  // namespace

void export_safetensors(const fs::path& weights, const fs::path& output) {
  const WeightSource source(weights, {});
  std::vector<io::TensorEntry> entries;
  for (const std::string& name : source.names()) {
    const io::TensorEntry& entry = *source.find(name);
    entries.push_back({.name = name, .dtype = entry.dtype, .shape = entry.shape});
  }
  write_whole(output, [&](const fs::path& path) {
    io::HashingFile file(path);
    std::vector<io::TensorEntry> places = entries;
    const std::string header = io::layout_safetensors(places, {{"format", "pt"}});
    file.append(std::as_bytes(std::span(header)));
    for (const io::TensorEntry& entry : entries) file.append(source.read(entry.name));
    static_cast<void>(file.close());
  });
}

void export_program(const fs::path& program, const fs::path& weights, const fs::path& output) {
  const ProgramFile file(program);
  const WeightSource source(weights, {});
  std::map<std::string, std::vector<std::byte>> values;
  for (const Payload& payload : file.weights()) {
    const io::TensorEntry* entry = source.find(payload.name);
    if (entry == nullptr || entry->shape != payload.shape || entry->dtype != payload.dtype) {
      throw io::Error(io::ErrorKind::checkpoint,
                      fmt::format("{} has no {} {} {}: it is not of the program {}",
                                  weights.string(), payload.name, io::name_of(payload.dtype),
                                  io::to_string(payload.shape), program.string()));
    }
    values[payload.name] = source.read(payload.name);
  }
  write_whole(output, [&](const fs::path& path) { file.copy_with(path, values); });
}

void export_onnx_helper(const fs::path& program, const fs::path& weights, const fs::path& output) {
  // Reads both, so that a mistake shows here and not in Python.
  const fs::path updated = output.string() + ".pt2";
  export_program(program, weights, updated);
  io::write_file_atomically(
      output, fmt::format("# Run with Python where torch, onnx and onnxscript are installed.\n"
                          "import torch\n\n"
                          "program = torch.export.load({})\n"
                          "torch.onnx.export(program.run_decompositions(), dynamo=True)"
                          ".save({})\n",
                          quoted(updated), quoted(fs::path(output).replace_extension(".onnx"))));
}

}  // namespace hadal::engine
