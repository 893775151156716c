#include "io/hdf5_writer.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/hdf5_handle.hpp"
#include "io/hdf5_type.hpp"
#include "io/packed_chunk.hpp"

namespace hadal::io {
namespace {

constexpr std::int64_t kBufferRows = 1024;
constexpr std::int64_t kChunkBytes = 256 << 10;

// Registered numbers of filters that are not the library's own.
constexpr H5Z_filter_t kLz4 = 32004;
constexpr H5Z_filter_t kZstd = 32015;

}  // namespace

struct Hdf5ShardWriter::Impl {
  struct Dataset {
    ShardField field;
    std::int64_t chunk_rows = 0;   // 0: contiguous
    std::int64_t buffer_rows = 0;  // written together
    std::int64_t written = 0;
    UniqueDataset set;
    std::vector<std::byte> buffer;
  };

  std::filesystem::path path;
  std::filesystem::path beside;
  ShardLayout layout;
  std::int64_t rows = 0;
  UniqueFile file;
  std::vector<Dataset> datasets;

  Error failed(const char* what) const {
    return {ErrorKind::storage,
            fmt::format("cannot {} {} (is the disk full?)", what, beside.string())};
  }

  std::int64_t chunk_rows(const ShardField& field) const {
    const std::int64_t fitting =
        std::max<std::int64_t>(1, kChunkBytes / std::max<std::int64_t>(1, field.row_bytes()));
    const std::int64_t wanted = layout.chunk_rows > 0                ? layout.chunk_rows
                                : layout.filter == ShardFilter::none ? 0
                                                                     : fitting;
    return std::min(wanted, rows);
  }

  // What says to a reader how chunks are packed. The library need not have the filters: it only
  // stores what they made.
  void set_filters(hid_t properties, const ShardField& field) const {
    if (layout.filter == ShardFilter::none) return;
    if (size_bytes(field.dtype) > 1) H5Pset_shuffle(properties);
    if (layout.filter == ShardFilter::gzip) {
      H5Pset_deflate(properties, 6);
    } else {
      H5Pset_filter(properties, layout.filter == ShardFilter::lz4 ? kLz4 : kZstd, H5Z_FLAG_OPTIONAL,
                    0, nullptr);
    }
  }

  void create(std::vector<ShardField> fields) {
    const Hdf5Lock lock;
    file = UniqueFile(H5Fcreate(beside.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    if (!file) throw failed("create");
    for (ShardField& field : fields) {
      Dataset& made = datasets.emplace_back();
      made.chunk_rows = chunk_rows(field);
      made.buffer_rows = made.chunk_rows > 0 ? made.chunk_rows : kBufferRows;
      std::vector<hsize_t> dims{static_cast<hsize_t>(rows)};
      dims.insert(dims.end(), field.sample_shape.begin(), field.sample_shape.end());
      const UniqueSpace space(
          H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr));
      const UniqueProperties links(H5Pcreate(H5P_LINK_CREATE));
      H5Pset_create_intermediate_group(links.get(), 1);
      const UniqueProperties properties(H5Pcreate(H5P_DATASET_CREATE));
      // The same content is the same file, whenever it was written.
      H5Pset_obj_track_times(properties.get(), false);
      if (made.chunk_rows > 0) {
        dims[0] = static_cast<hsize_t>(made.chunk_rows);
        H5Pset_chunk(properties.get(), static_cast<int>(dims.size()), dims.data());
        set_filters(properties.get(), field);
      }
      made.set = UniqueDataset(H5Dcreate2(file.get(), field.path.c_str(), file_type(field.dtype),
                                          space.get(), links.get(), properties.get(), H5P_DEFAULT));
      if (!made.set) throw failed("create a dataset in");
      made.field = std::move(field);
    }
  }

  void flush(Dataset& to) {
    if (to.buffer.empty()) return;
    const auto count = std::ssize(to.buffer) / to.field.row_bytes();
    if (to.chunk_rows > 0) {
      write_chunk(to);
    } else {
      write_rows(to, count);
    }
    to.written += count;
    to.buffer.clear();
  }

  void write_chunk(Dataset& to) {
    // A last chunk is stored whole.
    to.buffer.resize(static_cast<std::size_t>(to.chunk_rows * to.field.row_bytes()));
    std::vector<std::byte> packed;
    std::span<const std::byte> bytes = to.buffer;
    if (layout.filter != ShardFilter::none) {
      packed =
          pack_chunk(bytes, layout.filter, static_cast<std::size_t>(size_bytes(to.field.dtype)));
      bytes = packed;
    }
    std::vector<hsize_t> start(to.field.sample_shape.size() + 1, 0);
    start[0] = static_cast<hsize_t>(to.written);
    const Hdf5Lock lock;
    if (H5Dwrite_chunk(to.set.get(), H5P_DEFAULT, 0, start.data(), bytes.size(), bytes.data()) <
        0) {
      throw failed("write");
    }
  }

  void write_rows(const Dataset& to, std::int64_t rows_there) {
    std::vector<hsize_t> start(to.field.sample_shape.size() + 1, 0);
    std::vector<hsize_t> count{static_cast<hsize_t>(rows_there)};
    count.insert(count.end(), to.field.sample_shape.begin(), to.field.sample_shape.end());
    start[0] = static_cast<hsize_t>(to.written);
    const Hdf5Lock lock;
    const UniqueSpace space(H5Dget_space(to.set.get()));
    const UniqueSpace memory(
        H5Screate_simple(static_cast<int>(count.size()), count.data(), nullptr));
    H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr);
    if (H5Dwrite(to.set.get(), file_type(to.field.dtype), memory.get(), space.get(), H5P_DEFAULT,
                 to.buffer.data()) < 0) {
      throw failed("write");
    }
  }
};

Hdf5ShardWriter::Hdf5ShardWriter(const std::filesystem::path& path, std::vector<ShardField> fields,
                                 std::int64_t rows, const ShardLayout& layout)
    : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  impl_->beside = path.string() + ".tmp";
  impl_->layout = layout;
  impl_->rows = rows;
  impl_->create(std::move(fields));
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
    Impl::Dataset& to = impl_->datasets[f];
    to.buffer.insert(to.buffer.end(), row[f].begin(), row[f].end());
    if (std::ssize(to.buffer) == to.buffer_rows * to.field.row_bytes()) impl_->flush(to);
  }
}

void Hdf5ShardWriter::set_attribute(const std::string& name, const std::string& text) {
  const Hdf5Lock lock;
  const UniqueType type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type.get(), std::max<std::size_t>(1, text.size()));
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  const UniqueSpace space(H5Screate(H5S_SCALAR));
  const UniqueAttribute attribute(H5Acreate2(impl_->file.get(), name.c_str(), type.get(),
                                             space.get(), H5P_DEFAULT, H5P_DEFAULT));
  if (!attribute || H5Awrite(attribute.get(), type.get(), text.data()) < 0) {
    throw impl_->failed("write an attribute of");
  }
}

void Hdf5ShardWriter::close() {
  for (Impl::Dataset& to : impl_->datasets) {
    impl_->flush(to);
    if (to.written == impl_->rows) continue;
    throw Error(ErrorKind::bug,
                fmt::format("{} got {} of {} rows", impl_->path.string(), to.written, impl_->rows));
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
