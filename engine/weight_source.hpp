#pragma once
// Weights as somebody stored them: one safetensors file, several under an index
// (`model.safetensors.index.json`), or a folder with either; their names rewritten to the model's.

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/atomic_file.hpp"
#include "io/safetensors.hpp"

namespace hadal::engine {

class WeightSource {
 public:
  // `key_map`: pairs of a regular expression (ECMAScript, searched for anywhere in the name) and
  // its replacement ($1 for a group), applied in order to every stored name. Throws a checkpoint
  // error for what is no usable file and for two tensors that end under one name, a config error
  // for a bad expression.
  WeightSource(const std::filesystem::path& path,
               const std::vector<std::pair<std::string, std::string>>& key_map);

  // The tensor under a name of the model, or nothing.
  const io::TensorEntry* find(const std::string& name) const;
  std::vector<std::string> names() const;

  // The tensor's bytes as stored.
  std::vector<std::byte> read(const std::string& name) const;

 private:
  struct File {
    std::filesystem::path path;
    io::UniqueFd fd;
  };
  struct Place {
    const File* file = nullptr;
    io::TensorEntry entry;
  };

  void add_file(const std::filesystem::path& path,
                const std::vector<std::pair<std::string, std::string>>& key_map);

  std::vector<std::unique_ptr<File>> files_;
  std::map<std::string, Place> places_;
};

}  // namespace hadal::engine
