#pragma once
// Arguments of an exported graph against the schema of the operator that takes them: what Python
// converts on its way into an operator is converted here, once. Throws std::invalid_argument with
// the reason, and json exceptions for what is no argument at all.

#include <ATen/core/function_schema.h>

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "engine/program/graph.hpp"

namespace hadal::engine {

// `names` are the values known so far.
Operand operand_of(const nlohmann::json& argument, const c10::Argument& schema,
                   const std::map<std::string, int>& names);

// An int, float or bool, given or computed: for arithmetic on shapes.
Operand number_operand(const nlohmann::json& argument, const std::map<std::string, int>& names);

bool is_generator(const c10::Argument& argument);

// The export's own numbering (ScalarType of schema.py) to ATen's.
at::ScalarType scalar_type_of_export(std::int64_t number);

}  // namespace hadal::engine
