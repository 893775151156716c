#pragma once
// Between two collective calls no rank may leave alone, or the others wait for ever. Work that can
// fail on one rank runs inside run_collectively: the ranks agree on the outcome, and on failure
// every rank throws the same error, the root cause's, with its rank and host.

#include <functional>
#include <optional>
#include <string_view>

#include "engine/comm/communicator.hpp"
#include "io/error.hpp"

namespace hadal::engine {

// An error that every rank has thrown at the same point: they can still end together. Any other
// error belongs to one rank, and the others may be waiting for it.
class AgreedError : public io::Error {
 public:
  using io::Error::Error;
};

// Collective. `what` says which phase failed, in messages.
void run_collectively(Communicator& comm, std::string_view what, const std::function<void()>& body);

// Collective. Throws the agreed error on every rank where any rank passes one; a peer error never
// wins over a cause, otherwise the lowest rank does.
void agree_on_failure(Communicator& comm, std::string_view what,
                      const std::optional<io::Error>& mine);

// Collective. The smallest of all ranks' values.
std::int32_t least_of_all(Communicator& comm, std::int32_t mine);

}  // namespace hadal::engine
