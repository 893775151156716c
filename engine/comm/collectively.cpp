#include "engine/comm/collectively.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace hadal::engine {

void run_collectively(Communicator& comm, std::string_view what,
                      const std::function<void()>& body) {
  std::optional<io::Error> failure;
  try {
    body();
  } catch (const std::exception& exception) {
    failure = io::as_error(exception);
  }
  agree_on_failure(comm, what, failure);
}

void agree_on_failure(Communicator& comm, std::string_view what,
                      const std::optional<io::Error>& mine) {
  if (comm.size() == 1) {
    if (mine) throw AgreedError(mine->kind(), mine->what());
    return;
  }
  const int code = mine ? mine->exit_code() : 0;
  std::vector<int> codes(static_cast<std::size_t>(comm.size()));
  comm.all_gather(std::as_bytes(std::span(&code, 1)), std::as_writable_bytes(std::span(codes)));
  int cause = -1;
  for (int rank = 0; rank < comm.size(); ++rank) {
    const int theirs = codes[static_cast<std::size_t>(rank)];
    if (theirs == 0) continue;
    const bool better = cause < 0 || codes[static_cast<std::size_t>(cause)] ==
                                         static_cast<int>(io::ErrorKind::peer);
    if (better) cause = rank;
  }
  if (cause < 0) return;
  const std::string text = broadcast_text(
      comm,
      comm.rank() == cause
          ? fmt::format("{} (rank {} on {}, {})", mine->what(), cause, comm.host(), what)
          : "",
      cause);
  throw AgreedError(static_cast<io::ErrorKind>(codes[static_cast<std::size_t>(cause)]), text);
}

std::int32_t least_of_all(Communicator& comm, std::int32_t mine) {
  std::vector<std::int32_t> all(static_cast<std::size_t>(comm.size()));
  comm.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  return *std::min_element(all.begin(), all.end());
}

}  // namespace hadal::engine
