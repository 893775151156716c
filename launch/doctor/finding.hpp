#pragma once
// What the doctor says: one line a thing looked at.

#include <string>
#include <vector>

namespace hadal::launch {

enum class Verdict { ok, warn, fail };

struct Finding {
  Verdict verdict = Verdict::ok;
  std::string what;  // "cores", "network", …
  std::string text;
  std::string cure;  // empty where nothing is to be done
};
using Findings = std::vector<Finding>;

std::string name_of(Verdict verdict);

}  // namespace hadal::launch
