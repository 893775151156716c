#include "launch/environment.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>

#include "io/error.hpp"

extern char** environ;

namespace hadal::launch {

std::optional<std::string> environment_variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

std::vector<std::pair<std::string, std::string>> variables_with_prefix(const std::string& prefix) {
  std::vector<std::pair<std::string, std::string>> found;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::size_t equals = text.find('=');
    if (text.starts_with(prefix) && equals != std::string::npos) {
      found.emplace_back(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string expand_variables(const std::string& text) {
  std::string expanded;
  std::size_t at = 0;
  for (;;) {
    const std::size_t begin = text.find("${", at);
    const std::size_t end = begin == std::string::npos ? begin : text.find('}', begin);
    expanded += text.substr(at, end == std::string::npos ? std::string::npos : begin - at);
    if (end == std::string::npos) return expanded;
    const std::string name = text.substr(begin + 2, end - begin - 2);
    const auto value = environment_variable(name);
    if (!value) {
      throw io::Error(io::ErrorKind::config,
                      fmt::format("the variable {} of the path \"{}\" is not set", name, text));
    }
    expanded += *value;
    at = end + 1;
  }
}

void pin_isa(const std::string& isa) {
  if (isa == "native") return;
  const bool wide = isa == "avx512";
  ::setenv("MKL_CBWR", wide ? "AVX512" : "AVX2", 1);
  ::setenv("ATEN_CPU_CAPABILITY", wide ? "avx512" : "avx2", 1);
  ::setenv("ONEDNN_MAX_CPU_ISA", wide ? "AVX512_CORE" : "AVX2", 1);
}

void set_default(const std::string& name, const std::string& value) {
  ::setenv(name.c_str(), value.c_str(), 0);
}

void tune_mpi() {
  // Open MPI over TCP: with "put" an answer to the other side waits behind a whole message, so that
  // two hosts take turns instead of sending at once: half the speed for large messages both ways
  // (Open MPI 4.1.4, benchmarks/network.py).
  set_default("OMPI_MCA_btl_tcp_flags", "send");
}

void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace hadal::launch
