#include "launch/job/command.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "launch/environment.hpp"

namespace hadal::launch {
namespace {

constexpr std::chrono::seconds kPatience{120};

std::vector<std::string> clean_environment() {
  std::vector<std::string> kept;
  for (const auto& [name, value] : variables_with_prefix("")) {
    bool foreign = false;
    for (const char* prefix : {"SLURM_", "SBATCH_", "PMI", "OMPI_"}) {
      foreign = foreign || name.starts_with(prefix);
    }
    if (!foreign || name == "SLURM_CONF") kept.push_back(name + "=" + value);
  }
  return kept;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> found;
  for (std::string& text : texts) found.push_back(text.data());
  found.push_back(nullptr);
  return found;
}

struct Pipe {
  io::UniqueFd read;
  io::UniqueFd write;
};

Pipe open_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    throw io::system_error(io::ErrorKind::launch, "cannot make", "a pipe", errno);
  }
  return {io::UniqueFd(ends[0]), io::UniqueFd(ends[1])};
}

class Command {
 public:
  explicit Command(std::vector<std::string> words)
      : words_(std::move(words)), end_(Clock::now() + kPatience) {
    Pipe out = open_pipe(), err = open_pipe();
    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&files, out.write.get(), STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&files, err.write.get(), STDERR_FILENO);
    std::vector<std::string> environment = clean_environment();
    const int failure = ::posix_spawnp(&process_, words_.front().c_str(), &files, nullptr,
                                       pointers(words_).data(), pointers(environment).data());
    ::posix_spawn_file_actions_destroy(&files);
    if (failure != 0) {
      process_ = -1;
      throw io::system_error(io::ErrorKind::launch, "cannot start", words_.front(), failure);
    }
    streams_ = {std::move(out.read), std::move(err.read)};
  }
  ~Command() {
    if (process_ < 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  CommandResult finish() {
    CommandResult result;
    std::array<std::string*, 2> texts{&result.out, &result.err};
    while (streams_[0] || streams_[1]) {
      std::array<pollfd, 2> waits{pollfd{streams_[0].get(), POLLIN, 0},
                                  pollfd{streams_[1].get(), POLLIN, 0}};
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(end_ - Clock::now()).count();
      if (left <= 0) {
        throw io::Error(
            io::ErrorKind::launch,
            fmt::format("{} does not answer; is the batch system well?", words_.front()));
      }
      ::poll(waits.data(), waits.size(), static_cast<int>(left));
      for (std::size_t i = 0; i < waits.size(); ++i) {
        if (streams_[i] && waits[i].revents != 0) read_some(streams_[i], *texts[i]);
      }
    }
    int status = 0;
    ::waitpid(process_, &status, 0);
    process_ = -1;
    result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return result;
  }

 private:
  using Clock = std::chrono::steady_clock;

  static void read_some(io::UniqueFd& stream, std::string& text) {
    std::array<char, 4096> piece;
    const ssize_t count = ::read(stream.get(), piece.data(), piece.size());
    if (count > 0) {
      text.append(piece.data(), static_cast<std::size_t>(count));
    } else if (count == 0 || errno != EINTR) {
      stream = io::UniqueFd();
    }
  }

  std::vector<std::string> words_;
  Clock::time_point end_;
  pid_t process_ = -1;
  std::array<io::UniqueFd, 2> streams_;
};

}  // namespace

CommandResult run_command(const std::vector<std::string>& words) { return Command(words).finish(); }

}  // namespace hadal::launch
