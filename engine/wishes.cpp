#include "engine/wishes.hpp"

#include <algorithm>
#include <span>
#include <vector>

namespace hadal::engine {

std::string name_of(StopReason reason) {
  switch (reason) {
    case StopReason::none:
      return "none";
    case StopReason::usr1:
      return "usr1";
    case StopReason::time:
      return "time";
    case StopReason::term:
      return "term";
    case StopReason::usr2:
      return "usr2";
    case StopReason::stop_file:
      return "stop";
  }
  return "none";
}

StopReason agree_on_stop(Communicator& comm, StopReason mine) {
  std::vector<StopReason> all(static_cast<std::size_t>(comm.size()));
  comm.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  return *std::max_element(all.begin(), all.end());
}

}  // namespace hadal::engine
