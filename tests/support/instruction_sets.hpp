#pragma once
// Kernels on every instruction set that this processor has.

#include <hwy/targets.h>

#include "tests/support/catch.hpp"

namespace hadal::tests {

template <class Body>
void on_every_target(Body body) {
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    CAPTURE(hwy::TargetName(target));
    body();
    hwy::SetSupportedTargetsForTest(0);
  }
}

}  // namespace hadal::tests
