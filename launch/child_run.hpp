#pragma once
// A run started from here: the launcher's process, and the ranks that it starts on this host.

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace hadal::launch {

class ChildRun {
 public:
  // Starts the command, which is not waited for; all that it says goes to `log`. Its ranks are the
  // processes of this program whose command line holds `mark`. Throws a launch error.
  ChildRun(const std::vector<std::string>& command, const std::filesystem::path& log,
           std::string mark);
  // Ends what is left.
  ~ChildRun();
  ChildRun(const ChildRun&) = delete;
  ChildRun& operator=(const ChildRun&) = delete;

  // Waits for its end, but no longer. Then its exit code, 128 + the number where a signal ended it.
  std::optional<int> wait(double seconds);

  std::vector<pid_t> ranks() const;
  void signal_ranks(int signal) const;
  // Kills what started the ranks.
  void end_launcher() const;

 private:
  std::string mark_;
  pid_t launcher_ = -1;
  std::optional<int> code_;
};

}  // namespace hadal::launch
