#include "io/prediction_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>

#include "io/error.hpp"
#include "io/hdf5_handle.hpp"
#include "io/hdf5_type.hpp"
#include "io/json.hpp"
#include "io/log.hpp"

namespace hadal::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

fs::path partial_path(const fs::path& path) { return path.string() + ".partial"; }
fs::path plan_path(const fs::path& path) { return path.string() + ".partial.json"; }
fs::path journal_path(const fs::path& path, int writer) {
  return fmt::format("{}.partial.done-{}", path.string(), writer);
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

std::vector<fs::path> journals(const fs::path& path) {
  const std::string prefix = path.filename().string() + ".partial.done-";
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder_of(path), ignored)) {
    if (entry.path().filename().string().starts_with(prefix)) found.push_back(entry.path());
  }
  return found;
}

void remove_leftovers(const fs::path& path) {
  std::error_code ignored;
  fs::remove(plan_path(path), ignored);
  for (const fs::path& journal : journals(path)) fs::remove(journal, ignored);
  fs::remove(partial_path(path), ignored);
}

// Whole records only: a killed writer may have left half of one.
std::vector<std::int64_t> read_journals(const fs::path& path) {
  std::set<std::int64_t> blocks;
  for (const fs::path& journal : journals(path)) {
    const std::string bytes = read_file(journal);
    for (std::size_t at = 0; at + sizeof(std::int64_t) <= bytes.size();
         at += sizeof(std::int64_t)) {
      std::int64_t block = 0;
      std::memcpy(&block, bytes.data() + at, sizeof block);
      blocks.insert(block);
    }
  }
  return {blocks.begin(), blocks.end()};
}

// Creates the datasets and returns where their bytes are. No times are kept, so equal content gives
// equal files.
std::vector<std::int64_t> create_datasets(const fs::path& path,
                                          const std::vector<ShardField>& fields,
                                          std::int64_t rows) {
  const Hdf5Lock lock;
  const auto failed = [&] {
    return Error(ErrorKind::storage,
                 fmt::format("cannot create {} (is the disk full?)", path.string()));
  };
  std::vector<std::int64_t> offsets;
  UniqueFile file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  if (!file) throw failed();
  for (const ShardField& field : fields) {
    std::vector<hsize_t> dims{static_cast<hsize_t>(rows)};
    dims.insert(dims.end(), field.sample_shape.begin(), field.sample_shape.end());
    const UniqueSpace space(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr));
    const UniqueProperties properties(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_alloc_time(properties.get(), H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(properties.get(), H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(properties.get(), false);
    const UniqueDataset dataset(H5Dcreate2(file.get(), field.path.c_str(), file_type(field.dtype),
                                           space.get(), H5P_DEFAULT, properties.get(),
                                           H5P_DEFAULT));
    if (!dataset) throw failed();
    const haddr_t offset = H5Dget_offset(dataset.get());
    offsets.push_back(offset == HADDR_UNDEF ? 0 : static_cast<std::int64_t>(offset));
  }
  if (H5Fclose(file.release()) < 0) throw failed();
  return offsets;
}

UniqueFd open_to_write(const fs::path& path, int flags) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0666));
  if (!fd) throw system_error(ErrorKind::storage, "cannot write", path.string(), errno);
  return fd;
}

}  // namespace

void to_json(json& out, const PredictionFile::Plan& plan) {
  out = {{"offsets", plan.offsets}, {"done", plan.done}, {"fields", json::array()}};
  for (const ShardField& field : plan.fields) {
    out["fields"].push_back(
        {{"path", field.path}, {"dtype", name_of(field.dtype)}, {"shape", field.sample_shape}});
  }
}

void from_json(const json& in, PredictionFile::Plan& plan) {
  in.at("offsets").get_to(plan.offsets);
  in.at("done").get_to(plan.done);
  plan.fields.clear();
  for (const json& field : in.at("fields")) {
    plan.fields.push_back({field.at("path").get<std::string>(),
                           dtype_named(field.at("dtype").get<std::string>()).value(),
                           field.at("shape").get<Shape>()});
  }
}

PredictionFile::Plan PredictionFile::prepare(const fs::path& path,
                                             const std::vector<ShardField>& fields,
                                             std::int64_t rows, const json& identity) {
  create_folders(folder_of(path));
  std::error_code ignored;
  if (fs::exists(partial_path(path), ignored) && fs::exists(plan_path(path), ignored)) {
    const json stored = parse_json(read_file(plan_path(path)));
    if (stored.is_object() && stored.value("identity", json()) == identity) {
      Plan plan = stored.at("plan").get<Plan>();
      plan.done = read_journals(path);
      return plan;
    }
    log_warning(fmt::format("{} was begun with another model, data or options: it starts anew",
                            path.string()));
  }
  remove_leftovers(path);
  Plan plan{
      .fields = fields, .offsets = create_datasets(partial_path(path), fields, rows), .done = {}};
  // Reserve what the rows need: a disk that is full says so now.
  const UniqueFd fd = open_to_write(partial_path(path), 0);
  const auto size = static_cast<std::int64_t>(fs::file_size(partial_path(path)));
  const int failure = ::posix_fallocate(fd.get(), 0, size);
  if (failure == ENOSPC || failure == EDQUOT) {
    throw system_error(ErrorKind::storage, fmt::format("cannot reserve {} bytes for", size),
                       path.string(), failure);
  }
  sync_file(fd.get(), partial_path(path));
  write_file_atomically(plan_path(path), json{{"identity", identity}, {"plan", plan}}.dump());
  return plan;
}

PredictionFile::PredictionFile(const fs::path& path, Plan plan, int writer)
    : path_(partial_path(path)),
      plan_(std::move(plan)),
      data_(open_to_write(path_, 0)),
      journal_path_(journal_path(path, writer)) {
  journal_ = open_to_write(journal_path_, O_CREAT);
  // Behind what an earlier start noted, without half a record.
  const auto size = static_cast<std::int64_t>(fs::file_size(journal_path_));
  journal_bytes_ = size / 8 * 8;
}

void PredictionFile::write(std::size_t field, std::int64_t first, std::span<const std::byte> rows) {
  write_at(data_.get(), rows, plan_.offsets[field] + first * plan_.fields[field].row_bytes(),
           path_);
}

void PredictionFile::commit(std::span<const std::int64_t> blocks) {
  if (blocks.empty()) return;
  sync_file(data_.get(), path_);
  const std::span<const std::byte> bytes = std::as_bytes(blocks);
  write_at(journal_.get(), bytes, journal_bytes_, journal_path_);
  journal_bytes_ += std::ssize(bytes);
  sync_file(journal_.get(), journal_path_);
}

void PredictionFile::finish(const fs::path& path) {
  std::error_code failure;
  fs::rename(partial_path(path), path, failure);
  if (failure) {
    throw Error(ErrorKind::storage,
                fmt::format("cannot rename onto {}: {}", path.string(), failure.message()));
  }
  remove_leftovers(path);
  sync_folder(folder_of(path));
}

}  // namespace hadal::io
