#pragma once
// The rows of the schema as its sections write them, and the short names they write them with.

#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "launch/schema.hpp"

namespace hadal::launch {

enum class Bound { free, identity };

class Table {
 public:
  using Apply =
      std::function<void(engine::RunConfig&, const std::string& name, const nlohmann::json&)>;

  // A row; the reference stays good until the next one.
  KeySpec& add(std::string key, ValueType type, nlohmann::json otherwise, Bound bound,
               std::string help, Apply apply) {
    rows.push_back(
        {.key = std::move(key),
         .type = std::move(type),
         .otherwise = std::move(otherwise),
         .identity = bound == Bound::identity,
         .help = std::move(help),
         .apply = [apply = std::move(apply)](const Settings& s, const std::string& name,
                                             const nlohmann::json& v) { apply(s.run, name, v); }});
    return rows.back();
  }
  // For keys without a name in them.
  KeySpec& set(std::string key, ValueType type, nlohmann::json otherwise, Bound bound,
               std::string help,
               std::function<void(engine::RunConfig&, const nlohmann::json&)> apply) {
    return add(std::move(key), std::move(type), std::move(otherwise), bound, std::move(help),
               [apply = std::move(apply)](engine::RunConfig& c, const std::string&,
                                          const nlohmann::json& v) { apply(c, v); });
  }
  // For keys of the job, which are all free.
  KeySpec& job(std::string key, ValueType type, nlohmann::json otherwise, std::string help,
               std::function<void(JobOptions&, const nlohmann::json&)> apply) {
    KeySpec& row = add(std::move(key), std::move(type), std::move(otherwise), Bound::free,
                       std::move(help), {});
    row.apply = [apply = std::move(apply)](const Settings& s, const std::string&,
                                           const nlohmann::json& v) { apply(s.job, v); };
    return row;
  }

  std::vector<KeySpec> rows;
};

// One function a section of the config, in the order of the reference.
void add_run(Table& table);
void add_data(Table& table);
void add_fields(Table& table, const std::string& prefix, io::FieldRole role, const char* dtype);
void add_sample_fields(Table& table);
// The random transforms of inputs and targets: what the config may say, and what it becomes.
ValueType transforms_type();
// Extents from 1. Throws a config error.
io::Shape as_size(const nlohmann::json& value);
std::vector<io::Transform> as_transforms(const nlohmann::json& value);
void add_model(Table& table);
void add_objective(Table& table);
void add_train(Table& table);
void add_optimizer(Table& table);
void add_schedule(Table& table);
void add_checkpoint(Table& table);
void add_job(Table& table);

constexpr double kUnbounded = std::numeric_limits<double>::infinity();

inline ValueType integer(double least, double most = kUnbounded) {
  return {.kind = ValueKind::integer, .choices = {}, .least = least, .most = most, .forms = {}};
}
inline ValueType number(double least, double most = kUnbounded) {
  return {.kind = ValueKind::number, .choices = {}, .least = least, .most = most, .forms = {}};
}
inline ValueType positive() {
  return {.kind = ValueKind::number, .choices = {}, .least = 0, .above_least = true, .forms = {}};
}
inline ValueType choice(std::vector<std::string> choices) {
  return {.kind = ValueKind::choice, .choices = std::move(choices), .forms = {}};
}
inline ValueType plain(ValueKind kind) { return {.kind = kind, .choices = {}, .forms = {}}; }

template <class Enum>
Enum pick(const nlohmann::json& value, const std::map<std::string, Enum>& table) {
  return table.at(value.get<std::string>());
}

inline std::vector<std::string> as_list(const nlohmann::json& value) {
  return value.is_array() ? value.get<std::vector<std::string>>()
                          : std::vector<std::string>{value.get<std::string>()};
}
inline std::vector<double> as_numbers(const nlohmann::json& value) {
  return value.is_array() ? value.get<std::vector<double>>()
                          : std::vector<double>{value.get<double>()};
}

}  // namespace hadal::launch
