#pragma once
// Replacing a kernel of ATen is announced with a warning; where it is done on purpose, nobody wants
// to read it.

#include <c10/util/Exception.h>

namespace hadal::engine {

// While it lives, the calling thread's warnings of libtorch go nowhere.
class QuietWarnings {
 public:
  QuietWarnings() : guard_(&nobody_) {}

 private:
  struct Nobody : public c10::WarningHandler {
    void process(const c10::Warning&) override {}
  };
  Nobody nobody_;
  c10::WarningUtils::WarningHandlerGuard guard_;
};

}  // namespace hadal::engine
