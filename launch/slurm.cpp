#include "launch/slurm.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#if __has_include(<slurm/slurm.h>)
#include <slurm/slurm.h>
#endif

#include <cstdlib>
#include <ctime>
#include <string>
#include <type_traits>

#include "io/error.hpp"
#include "io/log.hpp"
#include "launch/job/command.hpp"

namespace hadal::launch {
namespace {

// Plain values in and out: layouts of Slurm's structures change from release to release.
using AskEnd = int (*)(std::uint32_t, std::time_t*);
#ifdef SLURM_VERSION_NUMBER
static_assert(std::is_same_v<decltype(&::slurm_get_end_time), AskEnd>);
#endif

// The numbers of libslurm.so, the newest first: 50 is years ahead, 35 is Slurm 20.02.
constexpr int kNewest = 50;
constexpr int kOldest = 35;

// For all to see: its own plugins look for its functions.
void* open_library() {
  if (void* library = ::dlopen("libslurm.so", RTLD_NOW | RTLD_GLOBAL)) return library;
  for (int number = kNewest; number >= kOldest; --number) {
    const std::string name = fmt::format("libslurm.so.{}", number);
    if (void* library = ::dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL)) return library;
  }
  return nullptr;
}

}  // namespace

double slurm_end_time(std::uint32_t job) {
  std::string why;
  try {
    const CommandResult told = run_command({"/proc/self/exe", "slurm-end", fmt::format("{}", job)});
    const double end = std::strtod(told.out.c_str(), nullptr);
    if (told.code == 0 && end > 0) return end;
    why = told.err.substr(0, told.err.find('\n'));
  } catch (const io::Error& error) {
    why = error.what();
  }
  io::log_warning(
      fmt::format("the end of Slurm's job {} is not known here ({}): set run.deadline, or "
                  "HADAL_END_TIME in the job",
                  job, why));
  return 0;
}

int tell_slurm_end(std::uint32_t job) {
  const auto unknown = [](const char* why) {
    fmt::print(stderr, "{}\n", why);
    return static_cast<int>(io::ErrorKind::launch);
  };
  void* const library = open_library();
  if (library == nullptr) return unknown("libslurm.so is not found");
  // From Slurm 22.05 on the library has to be told first (slurm.h).
  if (auto* const init = reinterpret_cast<void (*)(const char*)>(::dlsym(library, "slurm_init"))) {
    init(nullptr);
  }
  auto* const ask = reinterpret_cast<AskEnd>(::dlsym(library, "slurm_get_end_time"));
  if (ask == nullptr) return unknown("libslurm.so has no slurm_get_end_time");
  std::time_t end = 0;
  if (ask(job, &end) != 0 || end <= 0) return unknown("Slurm does not tell");
  fmt::print("{}\n", end);
  return 0;
}

}  // namespace hadal::launch
