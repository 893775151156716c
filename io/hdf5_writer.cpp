#include "io/hdf5_writer.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/hdf5_handle.hpp"
#include "io/hdf5_type.hpp"

namespace hadal::io {
namespace {

constexpr std::int64_t kBufferRows = 1024;

}  // namespace

struct Hdf5ShardWriter::Impl {
  std::filesystem::path path;
  std::filesystem::path beside;
  std::vector<ShardField> fields;
  std::int64_t rows = 0;
  std::int64_t written = 0;
  UniqueFile file;
  std::vector<UniqueDataset> datasets;
  std::vector<std::vector<std::byte>> buffers;
  std::int64_t buffered = 0;

  Error failed(const char* what) const {
    return {ErrorKind::storage,
            fmt::format("cannot {} {} (is the disk full?)", what, beside.string())};
  }

  void create() {
    const Hdf5Lock lock;
    file = UniqueFile(H5Fcreate(beside.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    if (!file) throw failed("create");
    for (const ShardField& field : fields) {
      std::vector<hsize_t> dims{static_cast<hsize_t>(rows)};
      dims.insert(dims.end(), field.sample_shape.begin(), field.sample_shape.end());
      const UniqueSpace space(
          H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr));
      const UniqueProperties links(H5Pcreate(H5P_LINK_CREATE));
      H5Pset_create_intermediate_group(links.get(), 1);
      datasets.emplace_back(H5Dcreate2(file.get(), field.path.c_str(), file_type(field.dtype),
                                       space.get(), links.get(), H5P_DEFAULT, H5P_DEFAULT));
      if (!datasets.back()) throw failed("create a dataset in");
    }
    buffers.resize(fields.size());
  }

  void flush() {
    if (buffered == 0) return;
    const Hdf5Lock lock;
    for (std::size_t f = 0; f < fields.size(); ++f) {
      std::vector<hsize_t> start(fields[f].sample_shape.size() + 1, 0);
      std::vector<hsize_t> count{static_cast<hsize_t>(buffered)};
      count.insert(count.end(), fields[f].sample_shape.begin(), fields[f].sample_shape.end());
      start[0] = static_cast<hsize_t>(written);
      const UniqueSpace space(H5Dget_space(datasets[f].get()));
      const UniqueSpace memory(
          H5Screate_simple(static_cast<int>(count.size()), count.data(), nullptr));
      H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(),
                          nullptr);
      if (H5Dwrite(datasets[f].get(), file_type(fields[f].dtype), memory.get(), space.get(),
                   H5P_DEFAULT, buffers[f].data()) < 0) {
        throw failed("write");
      }
      buffers[f].clear();
    }
    written += buffered;
    buffered = 0;
  }
};

Hdf5ShardWriter::Hdf5ShardWriter(const std::filesystem::path& path, std::vector<ShardField> fields,
                                 std::int64_t rows)
    : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  impl_->beside = path.string() + ".tmp";
  impl_->fields = std::move(fields);
  impl_->rows = rows;
  impl_->create();
}

Hdf5ShardWriter::~Hdf5ShardWriter() {
  if (impl_ == nullptr) return;
  const Hdf5Lock lock;
  const bool unfinished = static_cast<bool>(impl_->file);
  const std::filesystem::path beside = impl_->beside;
  impl_.reset();
  std::error_code ignored;
  if (unfinished) std::filesystem::remove(beside, ignored);
}
Hdf5ShardWriter::Hdf5ShardWriter(Hdf5ShardWriter&&) noexcept = default;
Hdf5ShardWriter& Hdf5ShardWriter::operator=(Hdf5ShardWriter&&) noexcept = default;

void Hdf5ShardWriter::append(const std::vector<std::span<const std::byte>>& row) {
  for (std::size_t f = 0; f < row.size(); ++f) {
    impl_->buffers[f].insert(impl_->buffers[f].end(), row[f].begin(), row[f].end());
  }
  if (++impl_->buffered == kBufferRows) impl_->flush();
}

void Hdf5ShardWriter::close() {
  impl_->flush();
  if (impl_->written != impl_->rows) {
    throw Error(ErrorKind::bug, fmt::format("{} got {} of {} rows", impl_->path.string(),
                                            impl_->written, impl_->rows));
  }
  {
    const Hdf5Lock lock;
    impl_->datasets.clear();
    if (H5Fclose(impl_->file.release()) < 0) throw impl_->failed("close");
  }
  const UniqueFd fd = open_for_reading(impl_->beside);
  sync_file(fd.get(), impl_->beside);
  std::error_code failure;
  std::filesystem::rename(impl_->beside, impl_->path, failure);
  if (failure) throw impl_->failed("rename");
  sync_folder(impl_->path.has_parent_path() ? impl_->path.parent_path()
                                            : std::filesystem::path("."));
}

}  // namespace hadal::io
