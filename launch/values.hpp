#pragma once
// The value types of the config: what each accepts, in words for messages, and how its text becomes
// a number. One place for checking, for defaults and for the JSON Schema.

#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/run_config.hpp"

namespace hadal::launch {

enum class ValueKind {
  text,
  path,
  boolean,
  integer,
  number,
  texts,    // list of strings
  paths,    // list of paths; one string is a list of one
  numbers,  // list of numbers; one number is a list of one
  numbers_or_auto,
  pairs,   // list of pairs of strings
  tables,  // list of tables, each of one of `forms`
  choice,
  size,      // bytes: "64MiB" or a whole number
  span,      // "10ep", "500st" or a whole number of steps
  duration,  // "30s", "10m", "2h", "hh:mm:ss" or a number of seconds
  interval,  // a span, a duration, or "auto"
  spans,     // list of spans
  any        // checked by whoever uses it
};

// One key of a table in a list of tables.
struct MemberType;

// What a table in a list may be, by its member `kind`.
struct TableForm {
  std::string kind;
  std::string help;
  std::vector<MemberType> members;
};

struct ValueType {
  ValueKind kind = ValueKind::text;
  std::vector<std::string> choices;
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  bool above_least = false;  // `least` itself is out
  std::vector<TableForm> forms;
};

struct MemberType {
  std::string name;
  ValueType type;
  std::string help;
};

// Why `value` does not fit the type, as "must be …", or nothing.
std::optional<std::string> fault_of(const ValueType& type, const nlohmann::json& value);

// The type in JSON Schema (draft 2020-12).
nlohmann::ordered_json json_schema_of(const ValueType& type);

std::optional<std::int64_t> parse_size(const nlohmann::json& value);
std::optional<engine::Span> parse_span(const nlohmann::json& value);
std::optional<double> parse_duration(const nlohmann::json& value);

}  // namespace hadal::launch
