#include "engine/dataset.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <sstream>

#include "engine/comm/collectively.hpp"
#include "io/file_list.hpp"
#include "io/log.hpp"

namespace hadal::engine {
namespace {

const std::vector<std::string>& patterns_of(const DataOptions& options, Split split) {
  return split == Split::train ? options.train
                               : (split == Split::valid ? options.valid : options.test);
}

const std::string& group_of(const DataOptions& options, Split split) {
  return split == Split::train ? options.train_group
                               : (split == Split::valid ? options.valid_group : options.test_group);
}

std::string in_group(const std::string& group, const std::string& path) {
  const std::string clean = path.starts_with('/') ? path : "/" + path;
  return group.empty() ? clean
                       : fmt::format("/{}{}", group.substr(group.starts_with('/') ? 1 : 0), clean);
}

// Rank 0's listing of a list of patterns, on every rank.
std::vector<std::string> shared_list(Communicator& comm, const std::vector<std::string>& patterns,
                                     const std::string& split) {
  std::string text;
  run_collectively(comm, "listing the data files", [&] {
    if (comm.rank() != 0) return;
    const io::FileList list = io::list_files(patterns);
    for (const std::string& note : list.notes) io::log_info(note);
    if (!list.faults.empty()) {
      throw io::Error(io::ErrorKind::data,
                      fmt::format("data.{}: {}", split, fmt::join(list.faults, "\n  ")));
    }
    // No name holds a zero.
    for (const auto& file : list.files) text += file.string() + '\0';
  });
  std::vector<std::string> files;
  std::istringstream names(broadcast_text(comm, text));
  for (std::string name; std::getline(names, name, '\0');) files.push_back(name);
  return files;
}

}  // namespace

std::string name_of(Split split) {
  return split == Split::train ? "train" : (split == Split::valid ? "valid" : "test");
}

bool has_split(const DataOptions& options, Split split) {
  return !patterns_of(options, split).empty();
}

io::DataIndex open_dataset(Communicator& comm, const DataOptions& options, Split split,
                           KnownScans* known) {
  KnownScans nothing;
  std::vector<io::FieldOptions> fields = options.fields;
  for (io::FieldOptions& field : fields) {
    for (std::string* path : {&field.path, &field.offsets, &field.lengths}) {
      if (!path->empty()) *path = in_group(group_of(options, split), *path);
    }
  }
  // Fields from the same files are scanned with one open.
  std::map<std::vector<std::string>, std::vector<std::size_t>> groups;
  for (std::size_t f = 0; f < fields.size(); ++f) {
    groups[fields[f].files.empty() ? patterns_of(options, split) : fields[f].files].push_back(f);
  }
  std::vector<std::vector<io::ScannedDataset>> scans(fields.size());
  for (const auto& [patterns, members] : groups) {
    const std::vector<std::string> files = shared_list(comm, patterns, name_of(split));
    std::vector<io::DatasetQuery> queries;
    for (const std::size_t f : members) {
      io::DatasetQuery& query = queries.emplace_back(fields[f].path, fields[f].one_sample);
      query.series = fields[f].series;
      query.offsets = fields[f].offsets;
      query.lengths = fields[f].lengths;
    }
    const std::vector<io::FileScans> by_file =
        scan_together(comm, files, queries, known != nullptr ? *known : nothing);
    for (std::size_t m = 0; m < members.size(); ++m) {
      std::vector<io::ScannedDataset>& all = scans[members[m]];
      for (const auto& file : by_file) all.insert(all.end(), file[m].begin(), file[m].end());
    }
  }
  io::DataIndex index;
  run_collectively(comm, "checking the data", [&] { index = io::build_index(fields, scans); });
  if (comm.rank() == 0) {
    for (const std::string& note : index.notes) io::log_once(io::LogLevel::info, note);
  }
  return index;
}

}  // namespace hadal::engine
