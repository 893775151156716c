#include "launch/child_run.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <thread>

#include "io/error.hpp"

extern char** environ;

namespace hadal::launch {

namespace fs = std::filesystem;

ChildRun::ChildRun(const std::vector<std::string>& command, const fs::path& log, std::string mark)
    : mark_(std::move(mark)) {
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log.c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0666);
  ::posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  posix_spawnattr_t options;
  ::posix_spawnattr_init(&options);
  ::posix_spawnattr_setflags(&options, POSIX_SPAWN_SETPGROUP);
  std::vector<std::string> words = command;
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const int failure =
      ::posix_spawnp(&launcher_, arguments[0], &files, &options, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  ::posix_spawnattr_destroy(&options);
  if (failure != 0) {
    launcher_ = -1;
    throw io::system_error(io::ErrorKind::launch, "cannot start", command.front(), failure);
  }
}

ChildRun::~ChildRun() {
  if (launcher_ < 0 || code_) return;
  signal_ranks(SIGKILL);
  end_launcher();
  ::waitpid(launcher_, nullptr, 0);
}

std::optional<int> ChildRun::wait(double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (!code_) {
    int status = 0;
    const pid_t ended = ::waitpid(launcher_, &status, WNOHANG);
    if (ended == launcher_) {
      code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    } else if (Clock::now() >= end) {
      break;
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  return code_;
}

void ChildRun::end_launcher() const { ::kill(-launcher_, SIGKILL); }

std::vector<pid_t> ChildRun::ranks() const {
  std::vector<pid_t> found;
  std::error_code failure;
  const fs::path program = fs::read_symlink("/proc/self/exe", failure);
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", failure)) {
    const std::string name = entry.path().filename().string();
    pid_t pid = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (parsed.ptr != name.data() + name.size() || pid == ::getpid()) continue;
    if (fs::read_symlink(entry.path() / "exe", failure) != program) continue;
    std::ifstream file(entry.path() / "cmdline", std::ios::binary);
    const std::string line{std::istreambuf_iterator<char>(file), {}};
    if (line.find(mark_) != std::string::npos) found.push_back(pid);
  }
  std::sort(found.begin(), found.end());
  return found;
}

void ChildRun::signal_ranks(int signal) const {
  for (const pid_t rank : ranks()) ::kill(rank, signal);
}

}  // namespace hadal::launch
