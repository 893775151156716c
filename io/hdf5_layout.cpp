#include "io/hdf5_layout.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "io/error.hpp"
#include "io/hdf5_driver.hpp"

namespace hadal::io {
namespace {

namespace fs = std::filesystem;

Error data_error(const std::string& message) { return {ErrorKind::data, message}; }

std::string where(const fs::path& file, const StoredDataset& stored) {
  return fmt::format("{}:{}", file.string(), stored.path);
}

// The file that an object lies in: behind an external link it is another one.
std::string file_of(hid_t handle) {
  const ssize_t length = H5Fget_name(handle, nullptr, 0);
  std::string name(static_cast<std::size_t>(std::max<ssize_t>(length, 0)), '\0');
  if (length > 0) H5Fget_name(handle, name.data(), name.size() + 1);
  return name;
}

std::vector<ChunkFilter> filters_of(hid_t properties) {
  std::vector<ChunkFilter> filters;
  const int count = H5Pget_nfilters(properties);
  for (int i = 0; i < count; ++i) {
    unsigned flags = 0, config = 0;
    std::size_t values = 0;
    const auto number = static_cast<unsigned>(i);
    // The first call says how many parameters there are.
    H5Pget_filter2(properties, number, &flags, &values, nullptr, 0, nullptr, &config);
    ChunkFilter filter{.id = 0, .values = std::vector<std::uint32_t>(values)};
    filter.id = H5Pget_filter2(properties, number, &flags, &values, filter.values.data(), 0,
                               nullptr, &config);
    filters.push_back(std::move(filter));
  }
  return filters;
}

// Of the first filter that neither the library nor we have.
void check_filters(const fs::path& file, const StoredDataset& stored) {
  const Extents& extents = stored.extents;
  if (extents.storage != Extents::Storage::library) return;
  for (const ChunkFilter& filter : extents.filters) {
    if (H5Zfilter_avail(filter.id) > 0) continue;
    throw data_error(fmt::format(
        "{} is compressed with {} (filter {}), which is not installed here; install its HDF5 "
        "plugin and set HDF5_PLUGIN_PATH, or repack the file",
        where(file, stored), filter_name(filter.id), filter.id));
  }
}

// Finds every chunk. One that was never written would read as the fill value; the library's own
// space status says "partly allocated" for every compressed dataset.
void find_chunks(const fs::path& file, hid_t handle, bool plain_edges, StoredDataset& stored) {
  Extents& extents = stored.extents;
  const std::size_t axes = extents.chunk.size();
  std::int64_t count = 1;
  Shape grid(axes);
  for (std::size_t d = 0; d < axes; ++d) {
    grid[d] = (stored.shape[d] + extents.chunk[d] - 1) / extents.chunk[d];
    count *= grid[d];
  }
  auto chunks = std::make_shared<std::vector<Extent>>(static_cast<std::size_t>(count));
  std::vector<hsize_t> offset(axes);
  std::int64_t present = 0, gap = -1;
  RawDataProbe probe;
  for (std::int64_t n = 0; n < count; ++n) {
    std::int64_t rest = n;
    bool partial = false;
    for (std::size_t d = axes; d-- > 0;) {
      const std::int64_t first = rest % grid[d] * extents.chunk[d];
      offset[d] = static_cast<hsize_t>(first);
      partial = partial || first + extents.chunk[d] > stored.shape[d];
      rest /= grid[d];
    }
    hsize_t bytes = 0;
    std::byte nowhere{};
    probe.reset();
    Extent& chunk = (*chunks)[static_cast<std::size_t>(n)];
    const bool found =
        H5Dget_chunk_storage_size(handle, offset.data(), &bytes) >= 0 && bytes > 0 &&
        H5Dread_chunk(handle, H5P_DEFAULT, offset.data(), &chunk.mask, &nowhere) >= 0;
    if (!found || probe.offset() < 0) {
      if (gap < 0) gap = static_cast<std::int64_t>(offset[0]);
      continue;
    }
    ++present;
    chunk.offset = probe.offset();
    chunk.bytes = static_cast<std::uint32_t>(bytes);
    if (plain_edges && partial) chunk.mask = ~0u;
  }
  if (present < count) {
    throw data_error(
        fmt::format("{} is incomplete: {} of its {} chunks were written, the first gap "
                    "is at row {} (its producer probably died); write it again",
                    where(file, stored), present, count, gap));
  }
  extents.chunks = std::move(chunks);
}

void check_virtual(const fs::path& file, hid_t properties, const StoredDataset& stored) {
  std::size_t count = 0;
  H5Pget_virtual_count(properties, &count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto text = [&](auto get) {
      const ssize_t length = get(properties, i, nullptr, 0);
      std::string name(static_cast<std::size_t>(std::max<ssize_t>(length, 0)), '\0');
      if (length > 0) get(properties, i, name.data(), name.size() + 1);
      return name;
    };
    const std::string source = text(H5Pget_virtual_filename);
    const std::string source_dataset = text(H5Pget_virtual_dsetname);
    if (source == ".") continue;
    const fs::path place =
        fs::path(source).is_absolute() ? fs::path(source) : file.parent_path() / source;
    std::string why;
    try {
      const Hdf5File file_of_source(place);
      static_cast<void>(file_of_source.describe(source_dataset));
    } catch (const Error& error) {
      why = error.what();
    }
    if (why.empty()) continue;
    throw data_error(fmt::format("{} is a virtual dataset with an unusable source: {}",
                                 where(file, stored), why));
  }
}

}  // namespace

void describe_layout(const fs::path& file, hid_t handle, StoredDataset& stored) {
  const UniqueProperties properties(H5Dget_create_plist(handle));
  Extents& extents = stored.extents;
  extents.filters = filters_of(properties.get());
  extents.file = file_of(handle);
  if (extents.file == file) extents.file.clear();
  for (const ChunkFilter& filter : extents.filters)
    stored.filters.push_back(filter_name(filter.id));
  switch (H5Pget_layout(properties.get())) {
    case H5D_CHUNKED: {
      std::vector<hsize_t> chunk(stored.shape.size());
      H5Pget_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data());
      stored.chunk_rows = static_cast<std::int64_t>(chunk[0]);
      extents.chunk.assign(chunk.begin(), chunk.end());
      const ChunkFilters decoder(extents.filters,
                                 element_count(extents.chunk) * size_bytes(stored.dtype));
      extents.reason = element_count(stored.shape) == 0 ? "it is empty" : decoder.reason_not_here();
      if (extents.reason.empty()) extents.storage = Extents::Storage::chunked;
      check_filters(file, stored);
      unsigned options = 0;
      H5Pget_chunk_opts(properties.get(), &options);
      if (element_count(stored.shape) > 0) {
        find_chunks(file, handle, (options & H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS) != 0, stored);
      }
      return;
    }
    case H5D_CONTIGUOUS: {
      if (H5Pget_external_count(properties.get()) > 0) {
        extents.reason = "it lies in external files";
        return;
      }
      if (element_count(stored.shape) == 0) return;
      const haddr_t offset = H5Dget_offset(handle);
      if (offset == HADDR_UNDEF) {
        throw data_error(fmt::format("{} was created but never written", where(file, stored)));
      }
      extents.storage = Extents::Storage::contiguous;
      extents.offset = static_cast<std::int64_t>(offset);
      return;
    }
    case H5D_VIRTUAL:
      check_virtual(file, properties.get(), stored);
      extents.reason = "it is a virtual dataset";
      return;
    default:
      extents.reason = "it lies in its header";
      return;
  }
}
}  // namespace hadal::io
