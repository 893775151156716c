#pragma once
// Where this process is, for the line that says why others wait for it.

#include <string>

namespace hadal::launch {

// Call on the thread that talks to other ranks, once.
void install_stack_report();

// Any other thread: the functions that that thread is in, innermost first, a line each; and, a line
// each, which of all threads are in a call to the system on a file, with its path.
std::string describe_stack();

}  // namespace hadal::launch
