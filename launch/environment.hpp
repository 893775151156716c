#pragma once
// The one place that reads environment variables.

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace hadal::launch {

std::optional<std::string> environment_variable(const std::string& name);

// All variables whose name starts with a prefix, sorted.
std::vector<std::pair<std::string, std::string>> variables_with_prefix(const std::string& prefix);

// Sets a variable that has no value yet.
void set_default(const std::string& name, const std::string& value);

// Replaces ${NAME} by its value. Throws a config error for a name that is not set.
std::string expand_variables(const std::string& text);

// Pins what oneDNN, MKL and ATen may use ("avx2", "avx512"; "native" leaves them alone). Call
// before the first tensor operation.
void pin_isa(const std::string& isa);

// Settings of the MPI library that training wants, where the user has none of their own. Call
// before MPI starts.
void tune_mpi();

// As many open files as the system lets this process have: a run has a descriptor for each file in
// use, and the HDF5 library takes a virtual dataset's source for zeros where it cannot open it.
void raise_file_limit();

}  // namespace hadal::launch
