#include "io/deep_check.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/hashing_file.hpp"
#include "io/json.hpp"
#include "io/pack.hpp"
#include "kernels/flush_to_zero.hpp"

namespace hadal::io {
namespace {

namespace fs = std::filesystem;

// Samples that are read together; where one of them is bad, each alone.
constexpr std::int64_t kTogether = 64;

std::string fault_of(BatchReader& reader, std::span<const std::int64_t> ids) {
  try {
    reader.read(ids);
    return {};
  } catch (const std::exception& error) {
    return error.what();
  }
}

// By first sample; a fault that several samples share once.
class Faults {
 public:
  explicit Faults(std::size_t most) : most_(most) {}

  void add(std::int64_t sample, const std::string& fault) {
    const std::lock_guard lock(mutex_);
    if (seen_.insert(fault).second) found_.emplace(sample, fault);
  }
  bool full() {
    const std::lock_guard lock(mutex_);
    return found_.size() >= most_;
  }
  std::vector<std::string> take() {
    std::vector<std::string> list;
    for (auto& [sample, fault] : found_) list.push_back(std::move(fault));
    return list;
  }

 private:
  std::size_t most_;
  std::mutex mutex_;
  std::multimap<std::int64_t, std::string> found_;
  std::set<std::string> seen_;
};

// Of one of the data's files, by the list in its folder.
std::string checksum_fault(const fs::path& file) {
  const fs::path list = file.parent_path() / kPackList;
  if (!fs::exists(list)) return {};
  const nlohmann::json listed = parse_json(read_file(list));
  if (!listed.contains("files")) return {};
  for (const nlohmann::json& entry : listed["files"]) {
    if (entry.value("name", "") != file.filename().string()) continue;
    const std::string wanted = entry.value("xxh3", "");
    const std::string found = file_checksum(file);
    if (found == wanted) return {};
    return fmt::format("{} is not what was packed: its checksum is {}, {} says {}", file.string(),
                       found, list.string(), wanted);
  }
  return {};
}

}  // namespace

std::vector<std::string> deep_check(const DataIndex& index, const BatchOptions& options,
                                    std::size_t most) {
  Faults faults(most);
  std::map<std::string, std::int64_t> files;  // with a sample of each
  for (const FieldIndex& field : index.fields) {
    for (std::size_t p = 0; p < field.parts.size(); ++p) {
      files.emplace(field.parts[p].file, field.row_starts[p]);
    }
  }
  for (const auto& [file, sample] : files) {
    if (const std::string fault = checksum_fault(file); !fault.empty()) faults.add(sample, fault);
  }
  BatchReader reader(index, options);
  std::atomic<std::int64_t> next = 0;
  const auto work = [&] {
    kernels::set_flush_to_zero();
    while (!faults.full()) {
      const std::int64_t first = next.fetch_add(kTogether);
      if (first >= index.samples) return;
      std::vector<std::int64_t> ids(
          static_cast<std::size_t>(std::min(kTogether, index.samples - first)));
      std::iota(ids.begin(), ids.end(), first);
      if (fault_of(reader, ids).empty()) continue;
      for (const std::int64_t id : ids) {
        const std::string fault = fault_of(reader, std::span(&id, 1));
        if (!fault.empty()) faults.add(id, fault);
      }
    }
  };
  std::vector<std::thread> threads;
  for (int k = 0; k < options.readers; ++k) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  return faults.take();
}

}  // namespace hadal::io
