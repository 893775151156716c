// Loaded before everything else: a process that takes its time to leave, after its last word.

#include <unistd.h>

namespace {

struct SlowExit {
  ~SlowExit() { ::sleep(2); }
} slow_exit;

}  // namespace
