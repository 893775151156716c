#pragma once
// Lists of numbers on the command line.

#include <cstdint>
#include <string>
#include <vector>

namespace hadal::launch {

// Whole numbers from 1, "1,8,8". Throws a usage error that names the option.
std::vector<std::int64_t> number_list(const std::string& text, const std::string& option);

}  // namespace hadal::launch
