#pragma once
// The command line: verbs, their options, and the help that teaches them. Exit codes are those of
// io::ErrorKind; 75 says stopped on purpose, run the same command again.

namespace hadal::launch {

// Runs the program and returns its exit code.
int run_command_line(int argc, char** argv);

}  // namespace hadal::launch
