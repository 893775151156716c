#pragma once
// USR1, USR2 and TERM ask the run to save and end; the handler only notes which came.

#include "engine/trainer.hpp"

namespace hadal::launch {

void install_signal_handlers();

// The strongest request so far on this rank.
engine::StopReason requested_stop();

}  // namespace hadal::launch
