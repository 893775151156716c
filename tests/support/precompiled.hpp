#pragma once
// More than half of what a test's file takes to compile.
#include <nlohmann/json.hpp>

#include "tests/support/catch.hpp"
