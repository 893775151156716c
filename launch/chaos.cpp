#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "engine/stopwatch.hpp"
#include "io/atomic_file.hpp"
#include "io/checkpoint_store.hpp"
#include "io/error.hpp"
#include "io/hashing_file.hpp"
#include "io/json.hpp"
#include "io/sample_order.hpp"
#include "launch/child_run.hpp"
#include "launch/config.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {
namespace {

namespace fs = std::filesystem;

// Longer than any of these runs may take to end once it has been hit, seconds.
constexpr double kPatience = 120;
// Behind that the others have ended because of one that stands still.
constexpr double kOthersEnd = 20;
// And its ranks, once its launcher has ended.
constexpr double kAfterwards = 10;
// Ranks wait so long for one that stands still.
constexpr const char* kCollectiveTimeout = "3s";

// What is done to a run. The first group comes from outside while it runs, the second from a
// library that is loaded before it, the third befalls its files once it has ended.
enum class Fault {
  kill_all,
  kill_one,
  stop_one,
  usr1,
  usr1_to_one,
  term,
  no_room,
  quota,
  failed_sync,
  failed_rename,
  slow_disk,
  clock,
  flipped_bit,
  cut_file
};

struct Kind {
  Fault fault;
  const char* name;
  const char* library;  // of HADAL_FAULTS; "": none
};

constexpr Kind kKinds[] = {
    {Fault::kill_all, "all ranks killed", ""},
    {Fault::kill_one, "one rank killed", ""},
    {Fault::stop_one, "one rank stands still", ""},
    {Fault::usr1, "USR1 to all", ""},
    {Fault::usr1_to_one, "USR1 to one", ""},
    {Fault::term, "TERM to all", ""},
    {Fault::no_room, "no space", "calls=pwrite,fallocate path=/checkpoints/ error=28"},
    {Fault::quota, "quota", "calls=pwrite path=/checkpoints/ error=122"},
    {Fault::failed_sync, "failed sync", "calls=fsync path=/checkpoints/ error=5"},
    {Fault::failed_rename, "failed rename", "calls=rename path=/checkpoints/ error=116"},
    {Fault::slow_disk, "slow disk", "calls=pwrite,fsync,rename path=/checkpoints/ delay=20"},
    {Fault::clock, "wrong clock", "clock="},
    {Fault::flipped_bit, "flipped bit", ""},
    {Fault::cut_file, "cut file", ""}};

// Numbers that a seed gives.
class Draws {
 public:
  explicit Draws(std::uint64_t seed) : seed_(seed) {}
  std::int64_t below(std::int64_t limit) {
    return static_cast<std::int64_t>(io::mix(seed_, ++count_) % static_cast<std::uint64_t>(limit));
  }
  double uniform() { return static_cast<double>(below(1 << 30)) / (1 << 30); }

 private:
  std::uint64_t seed_;
  std::uint64_t count_ = 0;
};

// Beside the program, as it was built or installed. Empty: is not there.
fs::path fault_library() {
  std::error_code failure;
  const fs::path program = fs::read_symlink("/proc/self/exe", failure);
  const fs::path library =
      program.parent_path().parent_path() / "lib" / "hadal" / "libhadal_faults.so";
  return fs::exists(library, failure) ? library : fs::path();
}

// How mpirun is called here: Open MPI refuses more ranks than cores, and root, without these words.
std::vector<std::string> default_launcher() {
  std::vector<std::string> words{"mpirun"};
  if (std::system("mpirun --version 2>/dev/null | grep -q 'Open MPI'") == 0) {
    words.insert(words.end(), {"--oversubscribe", "--bind-to", "none"});
    if (::getuid() == 0) words.emplace_back("--allow-run-as-root");
  }
  words.emplace_back("-n");
  return words;
}

class Chaos {
 public:
  Chaos(const ChaosArguments& arguments, const LoadedConfig& config)
      : arguments_(arguments),
        folder_(arguments.folder.empty() ? fs::path(config.run.run.dir.string() + "-chaos")
                                         : fs::absolute(arguments.folder)),
        most_ranks_(static_cast<int>(std::min<std::int64_t>(
            arguments.ranks, config.run.train.global_batch / config.run.train.micro_batch))),
        library_(fault_library()),
        draws_(arguments.seed) {
    launcher_ = arguments.launcher.empty() ? default_launcher() : arguments.launcher;
  }

  int run() {
    io::create_folders(folder_);
    const engine::Stopwatch watch;
    fs::remove_all(folder_ / "reference");
    fs::remove_all(run_dir());
    ChildRun reference(command("reference", most_ranks_, ""), folder_ / "reference.log",
                       (folder_ / "reference").string());
    if (reference.wait(1e9) != 0) {
      throw io::Error(io::ErrorKind::usage,
                      fmt::format("the run does not get to its end without faults; {} says why",
                                  (folder_ / "reference.log").string()));
    }
    length_ = watch.seconds();
    expected_ = io::file_checksum(folder_ / "reference" / "model" / "model.safetensors");
    while (faults_ < arguments_.faults && watch.seconds() < 60 * arguments_.minutes &&
           wrong_.empty()) {
      one_start();
    }
    if (wrong_.empty()) last_start();
    return report();
  }

 private:
  fs::path run_dir() const { return folder_ / "run"; }

  std::vector<std::string> command(const std::string& name, int ranks,
                                   const std::string& faults) const {
    std::vector<std::string> words = launcher_;
    words.push_back(std::to_string(ranks));
    if (!faults.empty()) {
      words.insert(words.end(),
                   {"env", "LD_PRELOAD=" + library_.string(), "HADAL_FAULTS=" + faults});
    }
    words.push_back(fs::read_symlink("/proc/self/exe").string());
    words.insert(words.end(), {"train", fs::absolute(arguments_.config.config).string()});
    for (const std::string& setting : arguments_.config.settings) {
      words.insert(words.end(), {"--set", setting});
    }
    words.insert(words.end(),
                 {"--set", "run.dir=" + nlohmann::json((folder_ / name).string()).dump(), "--set",
                  fmt::format("run.collective_timeout=\"{}\"", kCollectiveTimeout)});
    return words;
  }

  // The step from which the next start must go on; 0: from the beginning.
  std::int64_t newest_step() const {
    const fs::path folder = run_dir() / "checkpoints";
    for (const std::int64_t step : io::CheckpointStore(folder).steps()) {
      try {
        return io::open_checkpoint(folder / io::checkpoint_name(step)).manifest.step;
      } catch (const io::Error&) {
        // Damaged: the one before counts.
      }
    }
    return 0;
  }

  void fail(const std::string& what) {
    wrong_ = fmt::format("{} ({})", what, (folder_ / "run.log").string());
  }

  // Of the library's kinds: which of the calls it hits.
  std::string library_words(const Kind& kind) {
    std::string words = kind.library;
    if (kind.fault == Fault::clock) {
      words += std::to_string((draws_.below(2) == 0 ? -1 : 1) * (1 + draws_.below(400'000)));
    } else if (kind.fault != Fault::slow_disk && !words.empty()) {
      words += fmt::format(" from={} count={}", 1 + draws_.below(12), 1 + draws_.below(4));
    }
    return words;
  }

  void hit(const ChildRun& run, Fault fault) {
    const std::vector<pid_t> ranks = run.ranks();
    if (ranks.empty()) return;
    const pid_t one = ranks[static_cast<std::size_t>(draws_.below(std::ssize(ranks)))];
    switch (fault) {
      case Fault::kill_all:
        run.signal_ranks(SIGKILL);
        break;
      case Fault::kill_one:
        ::kill(one, SIGKILL);
        break;
      case Fault::stop_one:
        // Watched from its first step on; alone, by nobody.
        if (!has_stepped()) {
          ::kill(one, SIGKILL);
          break;
        }
        ::kill(one, SIGSTOP);
        if (ranks.size() > 1) break;
        ::usleep(500'000);
        ::kill(one, SIGCONT);
        break;
      case Fault::usr1:
        run.signal_ranks(SIGUSR1);
        break;
      case Fault::usr1_to_one:
        ::kill(one, SIGUSR1);
        break;
      case Fault::term:
        run.signal_ranks(SIGTERM);
        break;
      default:
        break;
    }
  }

  // Damages a file of the newest checkpoint, where there is another one to go back to.
  bool damage(Fault fault) {
    std::vector<fs::path> checkpoints;
    std::error_code failure;
    for (const auto& entry : fs::directory_iterator(run_dir() / "checkpoints", failure)) {
      if (entry.path().extension() != ".partial") checkpoints.push_back(entry.path());
    }
    std::sort(checkpoints.begin(), checkpoints.end());
    if (checkpoints.size() < 2) return false;
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(checkpoints.back())) files.push_back(entry);
    std::sort(files.begin(), files.end());
    const fs::path& file = files[static_cast<std::size_t>(draws_.below(std::ssize(files)))];
    std::string content = io::read_file(file);
    const auto at = static_cast<std::size_t>(draws_.below(std::ssize(content)));
    if (fault == Fault::cut_file) {
      content.resize(at);
    } else {
      content[at] = static_cast<char>(content[at] ^ (1 << draws_.below(8)));
    }
    io::write_file_atomically(file, content);
    return true;
  }

  // The step that a start said it went on from; nothing where it did not come so far.
  std::optional<std::int64_t> resumed_step() const {
    const std::string log = io::read_file(folder_ / "run.log");
    constexpr std::string_view kWords = "resuming at step ";
    const std::size_t at = log.find(kWords);
    if (at != std::string::npos) return std::atoll(log.c_str() + at + kWords.size());
    // The first progress line of a run from the beginning.
    return log.find("step 1/") != std::string::npos ? std::optional<std::int64_t>(0) : std::nullopt;
  }

  bool has_stepped() const {
    return io::read_file(folder_ / "run.log").find("\nstep ") != std::string::npos;
  }

  // Open MPI's launcher may wait for ever for ranks that were killed while they joined it: it is
  // ended then, as a job's time limit would.
  std::optional<int> wait_for(ChildRun& run, double seconds) {
    const engine::Stopwatch watch;
    engine::Stopwatch without_ranks;
    while (watch.seconds() < seconds) {
      if (const auto code = run.wait(0.1)) return code;
      if (!run.ranks().empty()) without_ranks.lap();
      if (without_ranks.seconds() < kAfterwards) continue;
      run.end_launcher();
      ++hung_launchers_;
      return run.wait(seconds);
    }
    return std::nullopt;
  }

  void one_start() {
    const std::int64_t number = draws_.below(std::size(kKinds));
    const Kind& kind = kKinds[number];
    const std::string words = library_words(kind);
    if (!words.empty() && library_.empty()) {
      left_out_.insert(kind.name);
      return;
    }
    const bool is_file = kind.fault == Fault::flipped_bit || kind.fault == Fault::cut_file;
    if (is_file && !damage(kind.fault)) return;
    const std::int64_t expected = newest_step();
    const int ranks = 1 + static_cast<int>(draws_.below(most_ranks_));
    ChildRun run(command("run", ranks, words), folder_ / "run.log", run_dir().string());
    std::optional<int> code = run.wait(draws_.uniform() * 1.2 * length_);
    if (!code) {
      // What has no signal of its own is cut short too, or each would take a whole run.
      hit(run, !words.empty() || is_file ? Fault::kill_all : kind.fault);
      code = wait_for(run, kind.fault == Fault::stop_one ? kOthersEnd : kPatience);
      if (!code && run.ranks().size() == 1) {
        // It was stopped when all had been said and done: nobody waits for it but the launcher.
        run.signal_ranks(SIGCONT);
      }
      if (!code) code = wait_for(run, kPatience);
    }
    ++faults_;
    ++counts_[kind.name];
    if (!code) return fail(fmt::format("{}: the run did not end", kind.name));
    const engine::Stopwatch since_end;
    while (!run.ranks().empty()) {
      if (since_end.seconds() > kAfterwards) {
        return fail(fmt::format("{}: ranks go on though their launcher has ended", kind.name));
      }
      ::usleep(10'000);
    }
    const auto resumed = resumed_step();
    if (resumed && *resumed != expected) {
      return fail(
          fmt::format("{}: the start went on from step {}, the newest whole checkpoint is "
                      "of step {}",
                      kind.name, *resumed, expected));
    }
    if (*code == 0) check_end(kind.name);
  }

  // A run that has got through has the reference's bits and leaves nothing behind; then anew.
  void check_end(const std::string& after) {
    ++ends_;
    if (io::file_checksum(run_dir() / "model" / "model.safetensors") != expected_) {
      return fail(fmt::format("{}: the model has other bits than the reference's", after));
    }
    for (const auto& entry : fs::recursive_directory_iterator(run_dir())) {
      const std::string name = entry.path().filename().string();
      if (name.find(".partial") != std::string::npos || name.find(".tmp-") != std::string::npos) {
        return fail(fmt::format("{}: {} was left behind", after, entry.path().string()));
      }
    }
    fs::remove_all(run_dir());
  }

  void last_start() {
    ChildRun run(command("run", most_ranks_, ""), folder_ / "run.log", run_dir().string());
    if (run.wait(1e9) != 0) return fail("the last start, without a fault, did not get through");
    check_end("at the end");
  }

  int report() const {
    if (arguments_.json) {
      const nlohmann::ordered_json document = {
          {"faults", faults_},       {"ends", ends_},
          {"kinds", counts_},        {"hung_launchers", hung_launchers_},
          {"seed", arguments_.seed}, {"wrong", wrong_}};
      fmt::print("{}\n", io::json_text(document));
    } else {
      for (const auto& [name, count] : counts_) fmt::print("{:>6}  {}\n", count, name);
      if (hung_launchers_ > 0) {
        fmt::print("{:>6}  times the launcher did not end though its ranks had\n", hung_launchers_);
      }
      for (const std::string& name : left_out_) {
        fmt::print("     -  {}: the library that makes them is not there\n", name);
      }
    }
    if (!wrong_.empty()) throw io::Error(io::ErrorKind::bug, wrong_);
    if (!arguments_.json) {
      fmt::print(
          "chaos: {} faults of {} kinds, {} times to the end, always the reference's bits: {}\n",
          faults_, counts_.size(), ends_, expected_);
    }
    return 0;
  }

  const ChaosArguments& arguments_;
  fs::path folder_;
  int most_ranks_;
  fs::path library_;
  Draws draws_;
  std::vector<std::string> launcher_;
  std::string expected_;
  double length_ = 0;  // of the reference, seconds
  std::int64_t faults_ = 0;
  std::int64_t ends_ = 0;
  std::int64_t hung_launchers_ = 0;
  std::map<std::string, std::int64_t> counts_;
  std::set<std::string> left_out_;
  std::string wrong_;
};

}  // namespace

int chaos(const ChaosArguments& arguments) {
  const LoadedConfig config = load_config(arguments.config.config, arguments.config.settings);
  return Chaos(arguments, config).run();
}

}  // namespace hadal::launch
