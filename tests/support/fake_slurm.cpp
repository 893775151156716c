// The one function of libslurm that hadal calls, with an answer from the environment.

#include <cstdint>
#include <cstdlib>
#include <ctime>

extern "C" int slurm_get_end_time(std::uint32_t job, std::time_t* end) {
  const char* seconds = std::getenv("FAKE_SLURM_SECONDS");
  if (job != 4711 || seconds == nullptr) return -1;
  *end = std::time(nullptr) + std::atol(seconds);
  return 0;
}
