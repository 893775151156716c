#include "io/hdf5_file.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/hdf5_driver.hpp"
#include "io/hdf5_handle.hpp"
#include "io/hdf5_layout.hpp"
#include "io/hdf5_type.hpp"
#include "io/nearest.hpp"

namespace hadal::io {
namespace {

Error data_error(const std::string& message) { return {ErrorKind::data, message}; }

// The innermost description on HDF5's error stack, which names the real cause.
std::string library_reason() {
  std::string reason;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned n, const H5E_error2_t* entry, void* out) -> herr_t {
        if (n == 0 && entry->desc != nullptr) *static_cast<std::string*>(out) = entry->desc;
        return 0;
      },
      &reason);
  return reason.empty() ? "unknown reason" : reason;
}

std::uint64_t little_endian(const std::string& bytes, std::size_t at, std::size_t width) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < width && at + i < bytes.size(); ++i) {
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  }
  return value;
}

// Why a file did not open, from its superblock (HDF5 File Format Specification 3.0, section II.A).
std::string reason_not_opened(const std::filesystem::path& path, const std::string& library) {
  std::error_code failure;
  const auto size = std::filesystem::file_size(path, failure);
  std::string head(64, '\0');
  try {
    const UniqueFd fd = open_for_reading(path);
    head.resize(std::min<std::size_t>(head.size(), failure ? 0 : size));
    read_at(fd.get(), std::as_writable_bytes(std::span(head)), 0, path);
  } catch (const Error& error) {
    return error.what();
  }
  if (head.size() < 12 || head.compare(0, 8, "\x89HDF\r\n\x1a\n") != 0) {
    return fmt::format("{} is not an HDF5 file ({} bytes)", path.string(), size);
  }
  const unsigned version = static_cast<unsigned char>(head[8]);
  const std::size_t width = static_cast<unsigned char>(version < 2 ? head[13] : head[9]);
  const std::size_t base_at = version < 2 ? (version == 1 ? 28 : 24) : 12;
  const std::uint64_t end = little_endian(head, base_at + 2 * width, width);
  if (end > size) {
    return fmt::format("{} is cut off: it has {} bytes, its superblock says {}; copy it again",
                       path.string(), size, end);
  }
  if (version >= 3 && (static_cast<unsigned char>(head[11]) & 1u) != 0) {
    return fmt::format(
        "{} is marked as open for writing; if no program writes it any more, run: h5clear -s '{}'",
        path.string(), path.string());
  }
  if (version > 3) {
    return fmt::format(
        "{} has superblock version {}, newer than this HDF5 library reads; convert it"
        " with: h5repack --high=3",
        path.string(), version);
  }
  return fmt::format("{} cannot be opened: {}", path.string(), library);
}

Shape extents(hid_t space) {
  const int rank = H5Sget_simple_extent_ndims(space);
  std::vector<hsize_t> dims(static_cast<std::size_t>(std::max(rank, 0)));
  if (rank > 0) H5Sget_simple_extent_dims(space, dims.data(), nullptr);
  return {dims.begin(), dims.end()};
}

}  // namespace

std::int64_t StoredDataset::row_bytes() const {
  return element_count(sample_shape()) * size_bytes(dtype);
}

struct Hdf5File::Impl {
  std::filesystem::path path;
  UniqueFile file;
  // Handles stay open: opening a dataset costs more than reading a row.
  std::map<std::string, UniqueDataset> opened;

  std::string where(const std::string& dataset) const {
    return fmt::format("{}:{}", path.string(), dataset);
  }

  hid_t dataset(const std::string& name) {
    const auto found = opened.find(name);
    if (found != opened.end()) return found->second.get();
    UniqueDataset handle(H5Dopen2(file.get(), name.c_str(), H5P_DEFAULT));
    if (!handle)
      throw data_error(fmt::format("{} cannot be opened: {}", where(name), library_reason()));
    return opened.emplace(name, std::move(handle)).first->second.get();
  }
};

Hdf5File::Hdf5File(const std::filesystem::path& path) : impl_(std::make_unique<Impl>()) {
  const Hdf5Lock lock;
  impl_->path = path;
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw system_error(ErrorKind::data, "cannot open", path.string(), errno);
  }
  if (S_ISDIR(status.st_mode)) {
    throw data_error(fmt::format("{} is a folder, not an HDF5 file", path.string()));
  }
  const UniqueProperties access = access_properties();
  impl_->file = UniqueFile(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()));
  if (!impl_->file) throw data_error(reason_not_opened(path, library_reason()));
}

Hdf5File::~Hdf5File() {
  if (impl_ == nullptr) return;
  const Hdf5Lock lock;
  impl_.reset();
}
Hdf5File::Hdf5File(Hdf5File&&) noexcept = default;
Hdf5File& Hdf5File::operator=(Hdf5File&& other) noexcept {
  const Hdf5Lock lock;
  impl_ = std::move(other.impl_);
  return *this;
}

std::vector<std::string> Hdf5File::datasets() const {
  const Hdf5Lock lock;
  std::vector<std::string> names;
  H5Ovisit(
      impl_->file.get(), H5_INDEX_NAME, H5_ITER_INC,
      [](hid_t, const char* name, const H5O_info_t* info, void* out) -> herr_t {
        if (info->type == H5O_TYPE_DATASET) {
          static_cast<std::vector<std::string>*>(out)->push_back(std::string("/") + name);
        }
        return 0;
      },
      &names);
  std::sort(names.begin(), names.end());
  return names;
}

StoredDataset Hdf5File::describe(const std::string& dataset) const {
  const Hdf5Lock lock;
  StoredDataset stored;
  stored.path = stored.dataset = dataset.starts_with('/') ? dataset : "/" + dataset;
  const std::vector<std::string> present = datasets();
  const auto exists = [&](const std::string& name) {
    if (std::find(present.begin(), present.end(), name) != present.end()) return true;
    // Behind a link, say.
    return static_cast<bool>(UniqueDataset(H5Dopen2(impl_->file.get(), name.c_str(), H5P_DEFAULT)));
  };
  if (!exists(stored.path)) {
    const std::size_t colon = stored.path.rfind(':');
    if (colon != std::string::npos && exists(stored.path.substr(0, colon))) {
      stored.dataset = stored.path.substr(0, colon);
      stored.column = stored.path.substr(colon + 1);
    } else {
      // A link that leads nowhere is no dataset either, and deserves its own reason.
      const std::string near = nearest(stored.path, present);
      throw data_error(fmt::format("{} has no dataset {}{}", impl_->path.string(), stored.path,
                                   near.empty() ? "" : fmt::format("; did you mean {}?", near)));
    }
  }
  const hid_t handle = impl_->dataset(stored.dataset);
  const UniqueType type(H5Dget_type(handle));
  const UniqueSpace space(H5Dget_space(handle));
  const H5S_class_t kind = H5Sget_simple_extent_type(space.get());
  if (kind != H5S_SIMPLE) {
    throw data_error(fmt::format("{} is {}; a dataset with one row per sample is needed",
                                 impl_->where(stored.path),
                                 kind == H5S_SCALAR ? "a single value" : "empty (a null space)"));
  }
  const auto number = number_type(type.get(), stored.column);
  if (!number) {
    throw data_error(
        stored.column.empty()
            ? fmt::format("{} is {}; only plain numbers can be read{}", impl_->where(stored.path),
                          type_name(type.get()),
                          H5Tget_class(type.get()) == H5T_COMPOUND
                              ? fmt::format(", of a compound one column: {}:NAME", stored.path)
                              : "")
            : fmt::format("{} has no column {} of numbers", impl_->where(stored.dataset),
                          stored.column));
  }
  stored.dtype = number->dtype;
  stored.big_endian = number->big_endian;
  stored.shape = extents(space.get());
  stored.record_bytes = number->record_bytes;
  stored.record_offset = number->record_offset;
  stored.record_axes = stored.shape.size();
  stored.shape.insert(stored.shape.end(), number->inner.begin(), number->inner.end());
  stored.stored_bytes = static_cast<std::int64_t>(H5Dget_storage_size(handle));
  describe_layout(impl_->path, handle, stored);
  return stored;
}

void Hdf5File::read_rows(const StoredDataset& stored, std::int64_t first, std::int64_t count,
                         std::span<std::byte> out) const {
  const Hdf5Lock lock;
  const hid_t handle = impl_->dataset(stored.dataset);
  const UniqueSpace space(H5Dget_space(handle));
  const Shape shape = extents(space.get());
  std::vector<hsize_t> start(shape.size(), 0);
  std::vector<hsize_t> size(shape.begin(), shape.end());
  start[0] = static_cast<hsize_t>(first);
  size[0] = static_cast<hsize_t>(count);
  const UniqueSpace memory(H5Screate_simple(static_cast<int>(size.size()), size.data(), nullptr));
  const UniqueType file_type(H5Dget_type(handle));
  const UniqueType type = memory_type(file_type.get(), stored.column);
  if (H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, size.data(),
                          nullptr) < 0 ||
      static_cast<std::size_t>(element_count(Shape(size.begin(), size.end()))) *
              H5Tget_size(type.get()) !=
          out.size()) {
    throw Error(ErrorKind::bug, fmt::format("rows {} to {} of {} do not fit their buffer", first,
                                            first + count, impl_->where(stored.path)));
  }
  if (H5Dread(handle, type.get(), memory.get(), space.get(), H5P_DEFAULT, out.data()) < 0) {
    throw data_error(fmt::format("{} cannot be read in rows {} to {}: {}",
                                 impl_->where(stored.path), first, first + count - 1,
                                 library_reason()));
  }
}

bool Hdf5File::can_decode(const StoredDataset& stored) const {
  const Hdf5Lock lock;
  const auto& filters = stored.extents.filters;
  return std::all_of(filters.begin(), filters.end(),
                     [](const ChunkFilter& filter) { return H5Zfilter_avail(filter.id) > 0; });
}

std::string Hdf5File::summary(const std::string& dataset) const {
  const Hdf5Lock lock;
  try {
    const StoredDataset stored = describe(dataset);
    std::string line = fmt::format("{} {}", name_of(stored.dtype), to_string(stored.shape));
    if (stored.big_endian) line += ", big-endian";
    if (stored.chunk_rows > 0) line += fmt::format(", chunks of {} rows", stored.chunk_rows);
    if (!stored.filters.empty()) line += fmt::format(", {}", fmt::join(stored.filters, "+"));
    if (stored.chunk_rows == 0) line += ", contiguous";
    return line;
  } catch (const Error& error) {
    return fmt::format("not usable: {}", error.what());
  }
}

}  // namespace hadal::io
