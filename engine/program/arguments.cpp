#include "engine/program/arguments.hpp"

#include <ATen/ATen.h>
#include <ATen/ScalarOps.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace hadal::engine {
namespace {

using nlohmann::json;

c10::TypePtr without_optional(c10::TypePtr type) {
  while (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
  return type;
}

// Nothing where the type is no list.
c10::TypePtr element_type(const c10::TypePtr& type) {
  const auto list = type->cast<c10::ListType>();
  return list ? list->getElementType() : nullptr;
}

int slot_named(const std::string& name, const std::map<std::string, int>& names) {
  const auto found = names.find(name);
  if (found == names.end())
    throw std::invalid_argument(fmt::format("the value {} is not known", name));
  return found->second;
}

int slot_of(const json& tensor, const std::map<std::string, int>& names) {
  return slot_named(tensor.at("name").get<std::string>(), names);
}

at::Tensor wrapped(const at::Scalar& number) {
  at::Tensor tensor = at::scalar_to_tensor(number);
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}

at::Scalar scalar_of(const json& number) {
  if (number.is_boolean()) return number.get<bool>();
  if (number.is_number_integer()) return number.get<std::int64_t>();
  return number.get<double>();
}

// A single number where the schema has another type.
Operand number(const json& given, const c10::Argument& schema) {
  const c10::TypePtr type = without_optional(schema.type());
  const at::Scalar scalar = scalar_of(given);
  if (type->kind() == c10::TypeKind::TensorType) return {.value = wrapped(scalar)};
  if (type->kind() == c10::TypeKind::FloatType) return {.value = scalar.toDouble()};
  if (const c10::TypePtr element = element_type(type)) {
    // One number for all axes: int[2] takes it twice.
    const auto count = static_cast<std::size_t>(schema.N().value_or(1));
    if (element->kind() == c10::TypeKind::FloatType) {
      return {.value = c10::List<double>(std::vector<double>(count, scalar.toDouble()))};
    }
    return {.value = c10::List<std::int64_t>(std::vector<std::int64_t>(count, scalar.toLong()))};
  }
  if (given.is_boolean()) return {.value = given.get<bool>()};
  if (given.is_number_integer()) return {.value = given.get<std::int64_t>()};
  return {.value = given.get<double>()};
}

template <class T>
Operand constant_list(const json& given) {
  c10::List<T> list;
  for (const json& item : given) list.push_back(item.get<T>());
  return {.value = list};
}

// A list of plain values; the schema says of what, also where it is empty.
Operand list(const json& given, const c10::Argument& schema) {
  const c10::TypePtr element = element_type(without_optional(schema.type()));
  if (!element) throw std::invalid_argument(fmt::format("{} is given as a list", schema.name()));
  switch (element->kind()) {
    case c10::TypeKind::IntType:
      return constant_list<std::int64_t>(given);
    case c10::TypeKind::FloatType:
      return constant_list<double>(given);
    case c10::TypeKind::BoolType:
      return constant_list<bool>(given);
    case c10::TypeKind::StringType:
      return constant_list<std::string>(given);
    case c10::TypeKind::TensorType:
      if (given.empty()) return {.kind = Operand::Kind::tensors};
      break;
    case c10::TypeKind::OptionalType:
      if (given.empty()) return {.kind = Operand::Kind::optional_tensors};
      break;
    case c10::TypeKind::NumberType: {
      c10::impl::GenericList scalars(c10::NumberType::get());
      for (const json& item : given) scalars.push_back(scalar_of(item));
      return {.value = scalars};
    }
    default:
      break;
  }
  throw std::invalid_argument(fmt::format("the list {} is of another type", schema.name()));
}

Operand symbolic_list(const json& given, const std::map<std::string, int>& names) {
  Operand operand{.kind = Operand::Kind::numbers};
  for (const json& item : given) {
    const bool computed = item.contains("as_name");
    operand.slots.push_back(computed ? slot_named(item.at("as_name").get<std::string>(), names)
                                     : -1);
    operand.literals.push_back(computed ? 0 : item.at("as_int").get<std::int64_t>());
  }
  return operand;
}

Operand tensor_list(const json& given, const c10::Argument& schema,
                    const std::map<std::string, int>& names) {
  const c10::TypePtr element = element_type(without_optional(schema.type()));
  if (!element) throw std::invalid_argument(fmt::format("{} is given as a list", schema.name()));
  Operand operand{.kind = element->kind() == c10::TypeKind::OptionalType
                              ? Operand::Kind::optional_tensors
                              : Operand::Kind::tensors};
  for (const json& item : given) {
    if (item.contains("as_none")) {
      operand.slots.push_back(-1);
    } else {
      operand.slots.push_back(
          slot_of(item.contains("as_tensor") ? item.at("as_tensor") : item, names));
    }
  }
  return operand;
}

c10::MemoryFormat memory_format(std::int64_t given) {
  switch (given) {
    case 1:
      return c10::MemoryFormat::Contiguous;
    case 2:
      return c10::MemoryFormat::ChannelsLast;
    case 3:
      return c10::MemoryFormat::ChannelsLast3d;
    case 4:
      return c10::MemoryFormat::Preserve;
    default:
      throw std::invalid_argument("a memory format that is not known");
  }
}

}  // namespace

at::ScalarType scalar_type_of_export(std::int64_t number) {
  switch (number) {
    case 1:
      return at::kByte;
    case 2:
      return at::kChar;
    case 3:
      return at::kShort;
    case 4:
      return at::kInt;
    case 5:
      return at::kLong;
    case 6:
      return at::kHalf;
    case 7:
      return at::kFloat;
    case 8:
      return at::kDouble;
    case 9:
      return at::kComplexHalf;
    case 10:
      return at::kComplexFloat;
    case 11:
      return at::kComplexDouble;
    case 12:
      return at::kBool;
    case 13:
      return at::kBFloat16;
    default:
      throw std::invalid_argument(fmt::format("a number type ({}) that is not supported", number));
  }
}

bool is_generator(const c10::Argument& argument) {
  return without_optional(argument.type())->kind() == c10::TypeKind::GeneratorType;
}

Operand number_operand(const json& argument, const std::map<std::string, int>& names) {
  const std::string kind = argument.begin().key();
  const json& body = argument.begin().value();
  if (kind == "as_int" || kind == "as_float" || kind == "as_bool") {
    return {.value = body.is_boolean()          ? c10::IValue(body.get<bool>())
                     : body.is_number_integer() ? c10::IValue(body.get<std::int64_t>())
                                                : c10::IValue(body.get<double>())};
  }
  if (body.is_object() && body.contains("as_name")) {
    return {.kind = Operand::Kind::slot,
            .slot = slot_named(body.at("as_name").get<std::string>(), names)};
  }
  if (body.is_object() && !body.empty()) return number_operand(body, names);
  throw std::invalid_argument(fmt::format("an argument of the kind {} in shape arithmetic", kind));
}

Operand operand_of(const json& argument, const c10::Argument& schema,
                   const std::map<std::string, int>& names) {
  const std::string kind = argument.begin().key();
  const json& body = argument.begin().value();
  if (kind == "as_none") return {};
  if (kind == "as_tensor") return {.kind = Operand::Kind::slot, .slot = slot_of(body, names)};
  if (kind == "as_optional_tensor") return operand_of(body, schema, names);
  if (kind == "as_tensors" || kind == "as_optional_tensors")
    return tensor_list(body, schema, names);
  if (kind == "as_int" || kind == "as_float" || kind == "as_bool") return number(body, schema);
  if (kind == "as_ints" || kind == "as_floats" || kind == "as_bools" || kind == "as_strings") {
    return list(body, schema);
  }
  if (kind == "as_string") return {.value = body.get<std::string>()};
  if (kind == "as_sym_int" || kind == "as_sym_float" || kind == "as_sym_bool") {
    Operand operand = number_operand(argument, names);
    const bool to_tensor = without_optional(schema.type())->kind() == c10::TypeKind::TensorType;
    if (to_tensor) operand.kind = Operand::Kind::number_as_tensor;
    return operand;
  }
  if (kind == "as_sym_ints") return symbolic_list(body, names);
  if (kind == "as_scalar_type") {
    return {.value = static_cast<std::int64_t>(scalar_type_of_export(body.get<std::int64_t>()))};
  }
  if (kind == "as_memory_format") {
    return {.value = static_cast<std::int64_t>(memory_format(body.get<std::int64_t>()))};
  }
  if (kind == "as_layout") {
    if (body.get<std::int64_t>() != 7)
      throw std::invalid_argument("only dense tensors are supported");
    return {.value = static_cast<std::int64_t>(c10::Layout::Strided)};
  }
  // A place for the device that it runs on.
  if (kind == "as_device") return {.value = c10::Device(c10::kCPU)};
  throw std::invalid_argument(
      fmt::format("the argument {} is of a kind that is not supported ({})", schema.name(), kind));
}

}  // namespace hadal::engine
