#pragma once
// The log: one line per event on standard error and, once a run folder exists, in its log file.
// Every line names rank and host. Safe from any thread.

#include <filesystem>
#include <string>
#include <string_view>

namespace hadal::io {

enum class LogLevel { debug, info, warning, error };

// Names this process in every line and sets the lowest level that standard error shows. Ranks other
// than 0 show warnings and errors only.
void start_log(int rank, const std::string& host, LogLevel level);

// Adds a file (appended to) that receives every line from `debug` up.
void add_log_file(const std::filesystem::path& path);

void log(LogLevel level, std::string_view message);
inline void log_info(std::string_view message) { log(LogLevel::info, message); }
inline void log_warning(std::string_view message) { log(LogLevel::warning, message); }

// Once per process and text: for facts that would repeat every batch.
void log_once(LogLevel level, const std::string& message);

void flush_log();

}  // namespace hadal::io
