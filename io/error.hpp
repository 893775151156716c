#pragma once
// The one error type of the program. The kind decides the exit code; the message says what is
// wrong, where, and what to do about it.

#include <stdexcept>
#include <string>
#include <string_view>

namespace hadal::io {

// The values are the exit codes (BSD sysexits where one fits).
enum class ErrorKind {
  usage = 64,       // the command line
  data = 65,        // the user's data files
  checkpoint = 66,  // a checkpoint or model that cannot be used
  launch = 69,      // launcher, ranks, environment
  bug = 70,         // a defect of the program itself
  numeric = 72,     // non-finite loss or gradient
  storage = 74,     // reading or writing failed
  peer = 76,        // another rank was lost
  config = 78       // the config file
};

// As UTF-8 that a terminal shows: other bytes, and characters that would control it, by their
// numbers ("\\xff"). Names of files and of what they hold may be anything.
std::string readable(std::string_view text);

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message)
      : std::runtime_error(readable(message)), kind_(kind) {}
  ErrorKind kind() const { return kind_; }
  int exit_code() const { return static_cast<int>(kind_); }

 private:
  ErrorKind kind_;
};

// "data", "storage", …: the name of the kind in messages and status files.
std::string_view name_of(ErrorKind kind);

// An error for a failed system call: "<what> <path>: <strerror(error_number)>".
Error system_error(ErrorKind kind, std::string_view what, const std::string& path,
                   int error_number);

// The Error inside `exception`; out of memory becomes a launch error, anything else a bug.
Error as_error(const std::exception& exception);

}  // namespace hadal::io
