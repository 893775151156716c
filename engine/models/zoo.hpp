#pragma once
// The built-in models, one factory each, and the reader of their options.

#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "engine/model.hpp"

namespace hadal::engine::models {

// Takes options by name with a default and remembers which were asked for; finish() throws a config
// error for any other, naming the nearest.
class OptionReader {
 public:
  OptionReader(std::string kind, const nlohmann::json& options)
      : kind_(std::move(kind)), options_(options) {}

  std::int64_t count(const std::string& name, std::int64_t otherwise);  // at least 1
  double share(const std::string& name, double otherwise);              // in [0, 1)
  std::vector<std::int64_t> counts(const std::string& name,
                                   const std::vector<std::int64_t>& otherwise);
  void finish() const;

 private:
  const nlohmann::json* find(const std::string& name);

  std::string kind_;
  const nlohmann::json& options_;
  std::set<std::string> asked_;
};

// options: hidden (list of widths, [256, 128]), dropout (0), classes.
std::unique_ptr<Model> mlp(OptionReader& options, const io::Shape& input, std::int64_t outputs);

// options: channels (list, [32, 64]), dropout (0), classes.
std::unique_ptr<Model> convnet(OptionReader& options, const io::Shape& input, std::int64_t outputs);

// `kind`: resnet18, resnet34 or resnet50, with torchvision's names. options: classes.
std::unique_ptr<Model> resnet(const std::string& kind, OptionReader& options,
                              const io::Shape& input, std::int64_t outputs);

}  // namespace hadal::engine::models
