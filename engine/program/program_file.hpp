#pragma once
// A `torch.export` archive (.pt2) as torch 2.9 to 2.15 write it: the graphs as JSON, weights and
// constants as raw bytes. Everything in it is checked against the archive before it is used;
// pickled content is never read. Format: torch/_export/serde/schema.py and
// torch/csrc/export/pt2_archive_constants.h of PyTorch 2.11.

#include <cstddef>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "io/dtype.hpp"
#include "io/zip_archive.hpp"

namespace hadal::engine {

// A weight, buffer or constant of the archive.
struct Payload {
  std::string name;    // in the state dict, or of the constant
  std::string record;  // entry of the archive; tied weights share one
  io::DType dtype = io::DType::f32;
  io::Shape shape;
  io::Shape strides;  // elements
  std::int64_t offset = 0;
  bool requires_grad = false;
  std::string inlined;  // bytes that stand in the export helper's record instead

  bool is_contiguous() const;
  // True where both are the same values of the same memory.
  bool is_tied_to(const Payload& other) const;
};

class ProgramFile {
 public:
  // Throws a checkpoint error that names the file, what is wrong and the line that exports it
  // right: no archive, pickled weights (torch 2.8 and older), another schema major, damage.
  explicit ProgramFile(const std::filesystem::path& path);
  // From memory, for tests of damaged archives.
  ProgramFile(io::ZipArchive archive);

  const std::string& name() const { return archive_.name(); }
  const std::string& torch_version() const { return torch_version_; }
  // "8.17"
  const std::string& schema_version() const { return schema_version_; }

  // The program as exported; and, where the export helper made the archive, its evaluation mode.
  const nlohmann::json& program() const { return program_; }
  const nlohmann::json* evaluation() const { return evaluation_ ? &*evaluation_ : nullptr; }
  // What the export helper notes: {"mode": "train", "inputs": […], "outputs": […]}; or null.
  const nlohmann::json& notes() const { return notes_; }

  const Payload* weight(const std::string& name) const;
  const Payload* constant(const std::string& name) const;
  const std::vector<Payload>& weights() const { return weights_; }

  // A payload's values in C order.
  std::vector<std::byte> read(const Payload& payload) const;

  // Copies the archive to `target` with new values (C order) for weights, by name. Throws a storage
  // error.
  void copy_with(const std::filesystem::path& target,
                 const std::map<std::string, std::vector<std::byte>>& values) const;

 private:
  void parse();
  nlohmann::json parse_json(const std::string& entry) const;
  std::vector<Payload> parse_payloads(const std::string& folder, const std::string& config) const;
  void parse_extras();

  std::filesystem::path path_;
  io::ZipArchive archive_;
  std::string torch_version_;
  std::string schema_version_;
  nlohmann::json program_;
  std::optional<nlohmann::json> evaluation_;
  nlohmann::json notes_;
  std::vector<Payload> weights_;
  std::vector<Payload> constants_;
};

// The export's own numbering of scalar types (ScalarType of schema.py). Nothing for complex,
// quantised and 8-bit float types.
std::optional<io::DType> dtype_of_export(std::int64_t number);

}  // namespace hadal::engine
