#include "launch/command_line.hpp"

int main(int argc, char** argv) { return hadal::launch::run_command_line(argc, argv); }
