#include "io/hdf5_file.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>

#include "io/atomic_file.hpp"
#include "io/dataset_views.hpp"
#include "io/error.hpp"
#include "io/hdf5_driver.hpp"
#include "io/hdf5_guard.hpp"
#include "io/hdf5_handle.hpp"
#include "io/hdf5_layout.hpp"
#include "io/hdf5_objects.hpp"
#include "io/hdf5_superblock.hpp"
#include "io/hdf5_type.hpp"
#include "io/heap_objects.hpp"
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

Shape extents(hid_t space) {
  const int rank = H5Sget_simple_extent_ndims(space);
  std::vector<hsize_t> dims(static_cast<std::size_t>(std::max(rank, 0)));
  if (rank > 0) H5Sget_simple_extent_dims(space, dims.data(), nullptr);
  return {dims.begin(), dims.end()};
}

// The library, by one thread at a time, on a file that may be damaged.
struct Use {
  explicit Use(const std::filesystem::path& path) : guard(path.c_str()) {}
  Hdf5Lock lock;
  Hdf5Guard guard;
};

// Where the addresses of the file that an object lies in begin.
std::int64_t base_address(hid_t object) {
  const UniqueFile file(H5Iget_file_id(object));
  const UniqueProperties created(H5Fget_create_plist(file.get()));
  hsize_t before = 0;
  H5Pget_userblock(created.get(), &before);
  return static_cast<std::int64_t>(before);
}

void keep_in_memory(StoredDataset& stored, std::vector<std::byte> values) {
  stored.extents.storage = Extents::Storage::memory;
  stored.extents.values = std::make_shared<const std::vector<std::byte>>(std::move(values));
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
  std::optional<Objects> objects;

  const Objects& all_objects() {
    const Use use(path);
    if (!objects) objects = list_objects(file.get());
    return *objects;
  }

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

Hdf5File::Hdf5File(const std::filesystem::path& path, int fd) : impl_(std::make_unique<Impl>()) {
  const Use use(path);
  impl_->path = path;
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw system_error(ErrorKind::data, "cannot open", path.string(), errno);
  }
  if (S_ISDIR(status.st_mode)) {
    throw data_error(fmt::format("{} is a folder, not an HDF5 file", path.string()));
  }
  const UniqueProperties access = access_properties();
  std::optional<OpenedFile> opened;
  if (fd >= 0) opened.emplace(path.c_str(), fd);
  impl_->file = UniqueFile(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()));
  if (!impl_->file) throw data_error(reason_not_opened(path, library_reason()));
  const UniqueFd own = fd >= 0 ? UniqueFd() : open_for_reading(path);
  const std::string reason =
      reason_not_trusted(path, fd >= 0 ? fd : own.get(), base_address(impl_->file.get()));
  if (!reason.empty()) throw data_error(reason);
}

Hdf5File::~Hdf5File() {
  if (impl_ == nullptr) return;
  const std::filesystem::path path = impl_->path;
  const Use use(path);
  impl_.reset();
}
Hdf5File::Hdf5File(Hdf5File&&) noexcept = default;
Hdf5File& Hdf5File::operator=(Hdf5File&& other) noexcept {
  const Hdf5Lock lock;
  impl_ = std::move(other.impl_);
  return *this;
}

const std::vector<std::string>& Hdf5File::datasets() const { return impl_->all_objects().datasets; }

std::vector<std::string> Hdf5File::matching(const std::string& pattern) const {
  return matching_objects(impl_->all_objects(), pattern);
}

std::string Hdf5File::attribute(const std::string& name) const {
  const Use use(impl_->path);
  if (H5Aexists(impl_->file.get(), name.c_str()) <= 0) return {};
  const UniqueAttribute attribute(H5Aopen(impl_->file.get(), name.c_str(), H5P_DEFAULT));
  if (!attribute) return {};
  const UniqueType type(H5Aget_type(attribute.get()));
  if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) > 0) return {};
  std::string text(H5Aget_storage_size(attribute.get()), '\0');
  if (H5Aread(attribute.get(), type.get(), text.data()) < 0) return {};
  return text;
}

StoredDataset Hdf5File::describe(const std::string& dataset, Rows rows) const {
  const Use use(impl_->path);
  StoredDataset stored;
  stored.path = stored.dataset = dataset.starts_with('/') ? dataset : "/" + dataset;
  const std::vector<std::string>& present = datasets();
  const auto exists = [&](const std::string& name) {
    if (std::binary_search(present.begin(), present.end(), name)) return true;
    // Behind a link, say.
    return static_cast<bool>(UniqueDataset(H5Dopen2(impl_->file.get(), name.c_str(), H5P_DEFAULT)));
  };
  if (!exists(stored.path)) {
    const std::size_t colon = stored.path.rfind(':');
    if (colon != std::string::npos && exists(stored.path.substr(0, colon))) {
      stored.dataset = stored.path.substr(0, colon);
      stored.column = stored.path.substr(colon + 1);
    } else {
      // What a newer library has written may be there and yet not be found; a link that leads
      // nowhere is there too.
      if (H5Lexists(impl_->file.get(), stored.path.c_str(), H5P_DEFAULT) > 0) {
        impl_->dataset(stored.path);
      }
      const std::string near = nearest(stored.path, present);
      throw data_error(fmt::format("{} has no dataset {}{}", impl_->path.string(), stored.path,
                                   near.empty() ? "" : fmt::format("; did you mean {}?", near)));
    }
  }
  const hid_t handle = impl_->dataset(stored.dataset);
  const UniqueType type(H5Dget_type(handle));
  const UniqueSpace space(H5Dget_space(handle));
  const H5S_class_t kind = H5Sget_simple_extent_type(space.get());
  const bool one_value = kind == H5S_SCALAR && rows == Rows::are_one_sample;
  if (kind != H5S_SIMPLE && !one_value) {
    throw data_error(fmt::format("{} is {}; a dataset with one row per sample is needed",
                                 impl_->where(stored.path),
                                 kind == H5S_SCALAR ? "a single value" : "empty (a null space)"));
  }
  auto number = number_type(type.get(), stored.column);
  if (!number && stored.column.empty() && is_heap_type(handle, type.get())) {
    // Read past the library or not at all.
    number = NumberType{.dtype = DType::u8, .inner = {kHeapReferenceBytes}};
    number->record_bytes = kHeapReferenceBytes;
    stored.is_heap = true;
    stored.heap_base = base_address(handle);
  }
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
  if (one_value) {
    if (number->record_bytes > 0) {
      throw data_error(fmt::format("{} is a single record; its numbers cannot be read",
                                   impl_->where(stored.path)));
    }
    stored.shape = {1};
    stored.shape.insert(stored.shape.end(), number->inner.begin(), number->inner.end());
    std::vector<std::byte> value(static_cast<std::size_t>(stored.row_bytes()));
    const UniqueType in_memory = memory_type(type.get(), "");
    if (H5Dread(handle, in_memory.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, value.data()) < 0) {
      throw data_error(
          fmt::format("{} cannot be read: {}", impl_->where(stored.path), library_reason()));
    }
    keep_in_memory(stored, std::move(value));
    return stored;
  }
  stored.record_bytes = number->record_bytes;
  stored.record_offset = number->record_offset;
  stored.record_axes = stored.shape.size();
  stored.shape.insert(stored.shape.end(), number->inner.begin(), number->inner.end());
  stored.stored_bytes = static_cast<std::int64_t>(H5Dget_storage_size(handle));
  describe_layout(impl_->path, handle, stored);
  if (stored.is_heap && !stored.extents.past_library()) {
    throw data_error(
        fmt::format("{} holds bytes of variable length in a layout that only the HDF5 "
                    "library reads ({}); repack it",
                    impl_->where(stored.path), stored.extents.reason));
  }
  if (rows == Rows::are_one_sample) make_one_row(stored, impl_->where(stored.path));
  return stored;
}

StoredDataset Hdf5File::describe_attribute(const std::vector<std::string>& objects,
                                           const std::string& attribute) const {
  const Use use(impl_->path);
  StoredDataset stored;
  std::vector<std::byte> values;
  for (const std::string& object : objects) {
    const std::string where = fmt::format("{}@{}", impl_->where(object), attribute);
    const UniqueAttribute handle(H5Aopen_by_name(impl_->file.get(), object.c_str(),
                                                 attribute.c_str(), H5P_DEFAULT, H5P_DEFAULT));
    if (!handle) throw data_error(fmt::format("{}: there is no such attribute", where));
    const UniqueType type(H5Aget_type(handle.get()));
    const UniqueSpace space(H5Aget_space(handle.get()));
    const auto number = number_type(type.get(), "");
    if (!number || H5Sget_simple_extent_type(space.get()) == H5S_NULL) {
      throw data_error(
          fmt::format("{} is {}; only numbers can be read", where, type_name(type.get())));
    }
    Shape shape = extents(space.get());
    shape.insert(shape.begin(), static_cast<std::int64_t>(objects.size()));
    shape.insert(shape.end(), number->inner.begin(), number->inner.end());
    if (values.empty()) {
      stored.dtype = number->dtype;
      stored.shape = shape;
    } else if (stored.dtype != number->dtype || stored.shape != shape) {
      throw data_error(
          fmt::format("{} is of another type or shape than that of {}", where, objects.front()));
    }
    const auto bytes = static_cast<std::size_t>(stored.row_bytes());
    values.resize(values.size() + bytes);
    const UniqueType in_memory = memory_type(type.get(), "");
    if (H5Aread(handle.get(), in_memory.get(), values.data() + values.size() - bytes) < 0) {
      throw data_error(fmt::format("{} cannot be read: {}", where, library_reason()));
    }
  }
  keep_in_memory(stored, std::move(values));
  return stored;
}

void Hdf5File::read_rows(const StoredDataset& stored, std::int64_t first, std::int64_t count,
                         std::span<std::byte> out) const {
  const Use use(impl_->path);
  const hid_t handle = impl_->dataset(stored.dataset);
  const UniqueSpace space(H5Dget_space(handle));
  const Shape shape = extents(space.get());
  std::vector<hsize_t> start(shape.size(), 0);
  std::vector<hsize_t> size(shape.begin(), shape.end());
  const std::size_t rows = stored.series < 0 ? 0 : 1;  // the axis that counts them
  if (rows == 1) {
    start[0] = static_cast<hsize_t>(stored.series);
    size[0] = 1;
  }
  start[rows] = static_cast<hsize_t>(first);
  size[rows] = static_cast<hsize_t>(count);
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

std::vector<std::byte> Hdf5File::read_bytes(const StoredDataset& stored, std::int64_t row) const {
  const Use use(impl_->path);
  const hid_t handle = impl_->dataset(stored.dataset);
  const UniqueSpace space(H5Dget_space(handle));
  const hsize_t start = static_cast<hsize_t>(row), count = 1;
  const UniqueSpace memory(H5Screate_simple(1, &count, nullptr));
  const UniqueType type(H5Tvlen_create(H5T_NATIVE_UINT8));
  hvl_t value{};
  H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, &start, nullptr, &count, nullptr);
  if (H5Dread(handle, type.get(), memory.get(), space.get(), H5P_DEFAULT, &value) < 0) {
    throw data_error(fmt::format("{} cannot be read in row {}: {}", impl_->where(stored.path), row,
                                 library_reason()));
  }
  const auto* bytes = static_cast<const std::byte*>(value.p);
  std::vector<std::byte> copy(bytes, bytes + value.len);
  H5Dvlen_reclaim(type.get(), memory.get(), H5P_DEFAULT, &value);
  return copy;
}

bool Hdf5File::can_decode(const StoredDataset& stored) const {
  const Use use(impl_->path);
  const auto& filters = stored.extents.filters;
  return std::all_of(filters.begin(), filters.end(),
                     [](const ChunkFilter& filter) { return H5Zfilter_avail(filter.id) > 0; });
}

std::string Hdf5File::summary(const std::string& dataset) const {
  const Use use(impl_->path);
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
