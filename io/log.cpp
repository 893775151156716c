#include "io/log.hpp"

#include <fmt/format.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <mutex>
#include <set>

#include "io/error.hpp"

namespace hadal::io {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    spdlog::logger made("hadal", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made.set_pattern("hadal: %v");
    made.set_level(spdlog::level::debug);
    made.sinks()[0]->set_level(spdlog::level::info);
    return made;
  }();
  return instance;
}

std::string& pattern() {
  static std::string text = "hadal: %v";
  return text;
}

}  // namespace

void start_log(int rank, const std::string& host, LogLevel level) {
  // Percent signs would be read as pattern flags.
  std::string safe_host;
  for (const char c : host) safe_host += c == '%' ? '_' : c;
  pattern() = fmt::format("%H:%M:%S [{} {}] %^%l%$ %v", rank, safe_host);
  logger().set_pattern(pattern());
  const LogLevel shown = rank == 0 || level > LogLevel::warning ? level : LogLevel::warning;
  logger().sinks()[0]->set_level(to_spdlog(shown));
  logger().flush_on(spdlog::level::info);
}

void add_log_file(const std::filesystem::path& path) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string());
    sink->set_level(spdlog::level::debug);
    sink->set_pattern(pattern());
    logger().sinks().push_back(std::move(sink));
  } catch (const spdlog::spdlog_ex& failure) {
    throw Error(ErrorKind::storage,
                fmt::format("cannot open the log file {}: {}", path.string(), failure.what()));
  }
}

void log(LogLevel level, std::string_view message) {
  logger().log(to_spdlog(level), readable(message));
}

void log_once(LogLevel level, const std::string& message) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard lock(mutex);
  if (said.insert(message).second) log(level, message);
}

void flush_log() { logger().flush(); }

}  // namespace hadal::io
