#pragma once
// USR1, USR2 and TERM ask the run to save and end; the handler only notes which came.

#include <cstdint>
#include <string>

#include "engine/wishes.hpp"

namespace hadal::launch {

void install_signal_handlers();

// The strongest request so far on this rank.
engine::StopReason requested_stop();

// For a rank whose exit code stands: srun --kill-on-bad-exit ends the ranks that are still on their
// way out with TERM once the first is out, and would tell their 143 for the code they agreed on.
void ignore_terminate();

// A rank that crashes says so with its place, in one line, before the system ends it.
void install_crash_report(int rank, const std::string& host);

// Where this rank is, for that line. `phase` must live for good.
void note_place(const char* phase, std::int64_t step);

// "train, after step 12"
std::string noted_place();

}  // namespace hadal::launch
