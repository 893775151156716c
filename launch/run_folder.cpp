#include "launch/run_folder.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>

#include "io/error.hpp"
#include "io/json.hpp"
#include "io/log.hpp"
#include "launch/environment.hpp"

namespace hadal::launch {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// What a killed start was about to rename. The folder is this run's alone.
void remove_leftovers(const fs::path& folder) {
  std::error_code ignored;
  for (const fs::path& place : {folder, folder / "log", folder / "model"}) {
    for (const auto& entry : fs::directory_iterator(place, ignored)) {
      if (entry.path().filename().string().find(".tmp-") != std::string::npos) {
        fs::remove(entry.path(), ignored);
      }
    }
  }
}

std::string attempt() { return environment_variable("HADAL_ATTEMPT").value_or("local"); }

}  // namespace

std::string utc_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

RunFolder::RunFolder(fs::path folder) : folder_(std::move(folder)) {
  io::create_folders(folder_ / "log");
  lease_ = std::make_unique<Lease>(folder_, [dir = folder_](const std::string& owner) {
    // What is there belongs to the other one: nothing may be written any more.
    fmt::print(stderr,
               "hadal: launch error: {} was taken over by {} while this start stood still\n",
               dir.string(), owner);
    std::fflush(stderr);
    std::_Exit(static_cast<int>(io::ErrorKind::launch));
  });
  remove_leftovers(folder_);
}

void RunFolder::write_descriptions(const LoadedConfig& config, const json& manifest) {
  io::write_file_atomically(folder_ / "config.toml", config.text);
  io::write_file_atomically(folder_ / "config.resolved.toml", resolved_text(config));
  io::write_file_atomically(folder_ / "manifest.json", manifest.dump(1) + "\n");
}

void write_status(const fs::path& folder, const Status& status) {
  const json document = {{"attempt", attempt()},     {"reason", status.reason},
                         {"state", status.state},    {"code", status.code},
                         {"step", status.step},      {"steps", status.steps},
                         {"epoch", status.epoch},    {"message", status.message},
                         {"rank", status.rank},      {"host", status.host},
                         {"phase", status.phase},    {"updated", utc_now()},
                         {"model", status.model},    {"checkpoint", status.checkpoint},
                         {"metrics", status.metrics}};
  io::write_file_atomically(folder / "status.json", document.dump(1) + "\n");
}

void RunFolder::read_progress(Status& status) const {
  std::error_code ignored;
  const fs::path path = folder_ / "status.json";
  if (!fs::exists(path, ignored)) return;
  const json before = io::parse_json(io::read_file(path));
  if (!before.is_object()) return;
  status.step = before.value("step", std::int64_t{0});
  status.steps = before.value("steps", std::int64_t{0});
  status.epoch = before.value("epoch", 0.0);
  status.checkpoint = before.value("checkpoint", "");
}

void RunFolder::update_status(const Status& status) const {
  std::error_code ignored;
  const fs::path path = folder_ / "status.json";
  if (fs::exists(path, ignored) &&
      io::parse_json(io::read_file(path)).value("state", "") == "failed") {
    return;
  }
  write_status(status);
}

void write_exit(const fs::path& folder, const Status& status, std::int64_t first_step) {
  // Attempts in a row that committed no new step are counted in a file of their own.
  const fs::path counter = folder / "log" / "stalls";
  int stalls = 0;
  if (status.step <= first_step && status.code != 0) {
    std::error_code ignored;
    if (fs::exists(counter, ignored)) std::istringstream(io::read_file(counter)) >> stalls;
    ++stalls;
  }
  io::write_file_atomically(counter, fmt::format("{}\n", stalls));
  io::write_file_atomically(
      folder / "log" / ("exit-" + attempt()),
      fmt::format("{} {} {} {}\n", status.code, status.reason.empty() ? "none" : status.reason,
                  status.step, stalls));
}

void RunFolder::open_metrics(std::int64_t step) {
  const fs::path path = folder_ / "metrics.jsonl";
  std::string kept;
  std::ifstream existing(path);
  bool dropped = false;
  for (std::string line; std::getline(existing, line);) {
    const json parsed = io::parse_json(line);
    const bool good = parsed.is_object() && parsed.value("step", std::int64_t{0}) <= step;
    if (good) kept += line + "\n";
    dropped = dropped || !good;
  }
  if (dropped) io::write_file_atomically(path, kept);
  metrics_ = io::UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (!metrics_)
    throw io::system_error(io::ErrorKind::storage, "cannot write", path.string(), errno);
}

void RunFolder::append_metrics(const nlohmann::ordered_json& line) {
  const std::string text = line.dump() + "\n";
  // One write a line: a reader, or a crash, sees whole lines.
  if (::write(metrics_.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    throw io::system_error(io::ErrorKind::storage, "cannot write",
                           (folder_ / "metrics.jsonl").string(), errno);
  }
}

bool RunFolder::stop_requested() const {
  std::error_code ignored;
  return fs::exists(folder_ / "STOP", ignored);
}

}  // namespace hadal::launch
