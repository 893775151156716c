#include "launch/values.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "io/nearest.hpp"

namespace hadal::launch {
namespace {

using nlohmann::json;

// A number and the unit behind it: "64MiB" -> 64, "MiB".
std::optional<std::pair<double, std::string>> split_unit(const std::string& text) {
  double number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc{} || !std::isfinite(number) || number < 0) return std::nullopt;
  std::string unit(parsed.ptr, text.data() + text.size());
  unit.erase(0, unit.find_first_not_of(' '));
  return std::pair{number, unit};
}

std::string range_text(const ValueType& type, const std::string& what) {
  if (std::isfinite(type.least) && std::isfinite(type.most)) {
    return fmt::format("must be {} from {}{} to {}", what, type.above_least ? "above " : "",
                       type.least, type.most);
  }
  if (std::isfinite(type.least)) {
    return fmt::format("must be {} {} {}", what, type.above_least ? "above" : "of at least",
                       type.least);
  }
  return "must be " + what;
}

bool in_range(const ValueType& type, double value) {
  return value <= type.most && (type.above_least ? value > type.least : value >= type.least);
}

template <class Test>
bool all_of_list(const json& value, Test test) {
  return value.is_array() && std::all_of(value.begin(), value.end(), test);
}

bool is_text(const json& value) { return value.is_string(); }
bool is_finite_number(const json& value) {
  return value.is_number() && std::isfinite(value.get<double>());
}

// "a, b and c"
std::string in_words(std::vector<std::string> words) {
  if (words.size() < 2) return fmt::format("{}", fmt::join(words, ""));
  const std::string last = words.back();
  words.pop_back();
  return fmt::format("{} and {}", fmt::join(words, ", "), last);
}

std::optional<std::string> fault_of_table(const std::vector<TableForm>& forms, const json& table) {
  std::vector<std::string> kinds;
  for (const TableForm& form : forms) kinds.push_back(form.kind);
  const bool has_kind = table.is_object() && table.contains("kind") && table["kind"].is_string();
  const auto form = std::find_if(forms.begin(), forms.end(), [&](const TableForm& f) {
    return has_kind && f.kind == table["kind"].get<std::string>();
  });
  if (form == forms.end()) {
    return fmt::format("must have tables {{ kind = … }}, the kind one of \"{}\"",
                       fmt::join(kinds, "\", \""));
  }
  std::vector<std::string> names;
  for (const MemberType& member : form->members) names.push_back(member.name);
  for (const auto& [name, member] : table.items()) {
    if (name == "kind") continue;
    const auto type = std::find(names.begin(), names.end(), name);
    if (type == names.end()) {
      const std::string near = io::nearest(name, names);
      return fmt::format("has {} in {}, which knows {}{}", name, form->kind,
                         names.empty() ? "nothing more" : in_words(names),
                         near.empty() ? "" : fmt::format("; did you mean {}?", near));
    }
    const auto& found = form->members[static_cast<std::size_t>(type - names.begin())];
    if (const auto fault = fault_of(found.type, member)) {
      return fmt::format("has {} = {} in {}, which {}", name, member.dump(), form->kind, *fault);
    }
  }
  return std::nullopt;
}

std::optional<std::string> fault_of_tables(const std::vector<TableForm>& forms, const json& value) {
  if (!value.is_array()) return "must be a list of tables, [{ kind = \"…\" }]";
  for (const json& table : value) {
    if (const auto fault = fault_of_table(forms, table)) return fault;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::int64_t> parse_size(const json& value) {
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (!value.is_string()) return std::nullopt;
  const auto split = split_unit(value.get<std::string>());
  if (!split) return std::nullopt;
  const auto& [number, unit] = *split;
  int shift = unit == "KiB" ? 10 : unit == "MiB" ? 20 : unit == "GiB" ? 30 : unit.empty() ? 0 : -1;
  if (shift < 0) return std::nullopt;
  return static_cast<std::int64_t>(number * static_cast<double>(std::int64_t{1} << shift));
}

std::optional<engine::Span> parse_span(const json& value) {
  using Unit = engine::Span::Unit;
  if (value.is_number_integer() && value.get<std::int64_t>() >= 0) {
    return engine::Span{value.get<double>(), Unit::steps};
  }
  if (!value.is_string()) return std::nullopt;
  const auto split = split_unit(value.get<std::string>());
  if (!split) return std::nullopt;
  if (split->second == "ep") return engine::Span{split->first, Unit::epochs};
  if (split->second == "st" && split->first == std::floor(split->first)) {
    return engine::Span{split->first, Unit::steps};
  }
  return std::nullopt;
}

std::optional<double> parse_duration(const json& value) {
  if (value.is_number() && value.get<double>() >= 0) return value.get<double>();
  if (!value.is_string()) return std::nullopt;
  const std::string text = value.get<std::string>();
  if (std::count(text.begin(), text.end(), ':') == 2) {
    int h = 0, m = 0, s = 0;
    char tail = 0;
    if (std::sscanf(text.c_str(), "%d:%2d:%2d%c", &h, &m, &s, &tail) != 3 || m > 59 || s > 59) {
      return std::nullopt;
    }
    return h * 3600.0 + m * 60.0 + s;
  }
  const auto split = split_unit(text);
  if (!split) return std::nullopt;
  if (split->second == "s") return split->first;
  if (split->second == "m") return split->first * 60;
  if (split->second == "h") return split->first * 3600;
  return std::nullopt;
}

std::optional<std::string> fault_of(const ValueType& type, const json& value) {
  const auto need = [](bool good, const std::string& text) {
    return good ? std::nullopt : std::optional<std::string>(text);
  };
  switch (type.kind) {
    case ValueKind::text:
    case ValueKind::path:
      return need(is_text(value), "must be a string in quotes");
    case ValueKind::boolean:
      return need(value.is_boolean(), "must be true or false");
    case ValueKind::integer:
      return need(value.is_number_integer() && in_range(type, value.get<double>()),
                  range_text(type, "a whole number"));
    case ValueKind::number:
      return need(is_finite_number(value) && in_range(type, value.get<double>()),
                  range_text(type, "a number"));
    case ValueKind::texts:
      return need(all_of_list(value, is_text), "must be a list of strings");
    case ValueKind::paths:
      return need(is_text(value) || all_of_list(value, is_text),
                  "must be a path or a list of paths");
    case ValueKind::numbers:
      return need(is_finite_number(value) || all_of_list(value, is_finite_number),
                  "must be a number or a list of numbers");
    case ValueKind::numbers_or_auto:
      return need(
          value == "auto" || is_finite_number(value) || all_of_list(value, is_finite_number),
          "must be \"auto\", a number or a list of numbers");
    case ValueKind::tables:
      return fault_of_tables(type.forms, value);
    case ValueKind::pairs:
      return need(
          all_of_list(value,
                      [](const json& v) { return v.size() == 2 && all_of_list(v, is_text); }),
          "must be a list of pairs of strings, [[\"from\", \"to\"]]");
    case ValueKind::choice:
      return need(is_text(value) && std::find(type.choices.begin(), type.choices.end(),
                                              value.get<std::string>()) != type.choices.end(),
                  fmt::format("must be one of \"{}\"", fmt::join(type.choices, "\", \"")));
    case ValueKind::size:
      return need(parse_size(value).value_or(-1) >= 0,
                  "must be a size such as \"64MiB\" or \"1GiB\"");
    case ValueKind::span:
      return need(parse_span(value).has_value(), "must be a length such as \"10ep\" or \"500st\"");
    case ValueKind::duration:
      return need(parse_duration(value).has_value(),
                  "must be a time such as \"30s\", \"10m\", \"2h\"");
    case ValueKind::interval:
      return need(value == "auto" || parse_span(value) || parse_duration(value),
                  "must be \"auto\", a length such as \"1ep\" or a time such as \"10m\"");
    case ValueKind::spans:
      return need(all_of_list(value, [](const json& v) { return parse_span(v).has_value(); }),
                  "must be a list of lengths such as [\"30ep\", \"60ep\"]");
    case ValueKind::any:
      return std::nullopt;
  }
  return std::nullopt;
}

nlohmann::ordered_json json_schema_of(const ValueType& type) {
  nlohmann::ordered_json schema = nlohmann::ordered_json::object();
  const auto range = [&](const char* name) {
    schema["type"] = name;
    if (std::isfinite(type.least))
      schema[type.above_least ? "exclusiveMinimum" : "minimum"] = type.least;
    if (std::isfinite(type.most)) schema["maximum"] = type.most;
  };
  switch (type.kind) {
    case ValueKind::text:
    case ValueKind::path:
      schema["type"] = "string";
      break;
    case ValueKind::boolean:
      schema["type"] = "boolean";
      break;
    case ValueKind::integer:
      range("integer");
      break;
    case ValueKind::number:
      range("number");
      break;
    case ValueKind::texts:
      schema = {{"type", "array"}, {"items", {{"type", "string"}}}};
      break;
    case ValueKind::paths:
      schema = {{"type", {"string", "array"}}, {"items", {{"type", "string"}}}};
      break;
    case ValueKind::numbers:
      schema = {{"type", {"number", "array"}}, {"items", {{"type", "number"}}}};
      break;
    case ValueKind::numbers_or_auto:
      schema = {{"type", {"number", "array", "string"}},
                {"items", {{"type", "number"}}},
                {"pattern", "^auto$"}};
      break;
    case ValueKind::tables: {
      auto forms = nlohmann::ordered_json::array();
      for (const TableForm& form : type.forms) {
        auto& made = forms.emplace_back();
        made = {{"type", "object"},
                {"description", form.help},
                {"additionalProperties", false},
                {"required", {"kind"}},
                {"properties", {{"kind", {{"const", form.kind}}}}}};
        for (const MemberType& member : form.members) {
          auto& own = made["properties"][member.name];
          own = json_schema_of(member.type);
          own["description"] = member.help;
        }
      }
      schema = {{"type", "array"}, {"items", {{"anyOf", forms}}}};
      break;
    }
    case ValueKind::pairs:
      schema = {
          {"type", "array"},
          {"items",
           {{"type", "array"}, {"items", {{"type", "string"}}}, {"minItems", 2}, {"maxItems", 2}}}};
      break;
    case ValueKind::choice:
      schema["enum"] = type.choices;
      break;
    case ValueKind::size:
      schema = {{"type", {"string", "integer"}}, {"pattern", "^[0-9.]+ *(KiB|MiB|GiB)?$"}};
      break;
    case ValueKind::span:
      schema = {{"type", {"string", "integer"}}, {"pattern", "^[0-9.]+ *(ep|st)$"}};
      break;
    case ValueKind::duration:
      schema = {{"type", {"string", "number"}},
                {"pattern", "^([0-9.]+ *[smh]|[0-9]+:[0-9]{2}:[0-9]{2})$"}};
      break;
    case ValueKind::interval:
      schema["type"] = {"string", "number"};
      break;
    case ValueKind::spans:
      schema = {{"type", "array"}, {"items", {{"type", {"string", "integer"}}}}};
      break;
    case ValueKind::any:
      break;
  }
  return schema;
}

}  // namespace hadal::launch
