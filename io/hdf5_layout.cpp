#include "io/hdf5_layout.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <optional>

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
  if (extents.past_library()) return;
  for (const ChunkFilter& filter : extents.filters) {
    if (H5Zfilter_avail(filter.id) > 0) continue;
    throw data_error(fmt::format(
        "{} is compressed with {} (filter {}), which is not installed here; install its HDF5 "
        "plugin and set HDF5_PLUGIN_PATH, or repack the file",
        where(file, stored), filter_name(filter.id), filter.id));
  }
}

// Of the file that holds the dataset's bytes.
std::int64_t file_bytes(const fs::path& file, const StoredDataset& stored) {
  const std::string& other = stored.extents.file;
  return static_cast<std::int64_t>(fs::file_size(other.empty() ? file : fs::path(other)));
}

// Of all elements. Throws a data error for extents that no file has.
std::int64_t dataset_bytes(const fs::path& file, const StoredDataset& stored) {
  std::int64_t bytes = std::max<std::int64_t>(stored.record_bytes, size_bytes(stored.dtype));
  for (const std::int64_t extent : stored.shape) {
    if (extent >= 0 && !__builtin_mul_overflow(bytes, extent, &bytes)) continue;
    throw data_error(fmt::format("{} has the impossible shape {}; its file is damaged",
                                 where(file, stored), to_string(stored.shape)));
  }
  return bytes;
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
  // A damaged header promises anything; a chunk takes a byte at least.
  const std::int64_t bytes = file_bytes(file, stored);
  if (count > bytes) {
    throw data_error(
        fmt::format("{} has the shape {}, which takes {} chunks; its file has {} bytes "
                    "and is damaged",
                    where(file, stored), to_string(stored.shape), count, bytes));
  }
  std::vector<Extent> chunks(static_cast<std::size_t>(count));
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
    hsize_t stored_bytes = 0;
    std::byte nowhere{};
    probe.reset();
    Extent& chunk = chunks[static_cast<std::size_t>(n)];
    const bool found =
        H5Dget_chunk_storage_size(handle, offset.data(), &stored_bytes) >= 0 && stored_bytes > 0 &&
        H5Dread_chunk(handle, H5P_DEFAULT, offset.data(), &chunk.mask, &nowhere) >= 0;
    if (!found || probe.offset() < 0) {
      if (gap < 0) gap = static_cast<std::int64_t>(offset[0]);
      continue;
    }
    ++present;
    chunk.offset = probe.offset();
    chunk.bytes = static_cast<std::uint32_t>(stored_bytes);
    if (plain_edges && partial) chunk.mask = ~0u;
  }
  if (present < count) {
    throw data_error(
        fmt::format("{} is incomplete: {} of its {} chunks were written, the first gap "
                    "is at row {} (its producer probably died); write it again",
                    where(file, stored), present, count, gap));
  }
  extents.chunks = ChunkTable(std::move(chunks));
}

// A selection that is one solid box, of a space of this shape: its first element and the one behind
// its last, by axis.
struct Box {
  std::vector<hsize_t> first;
  std::vector<hsize_t> last;
  Shape shape;

  hsize_t rows() const { return last[0] - first[0]; }
  // Whether it has whole rows.
  bool is_wide() const {
    for (std::size_t d = 1; d < first.size(); ++d) {
      if (first[d] != 0 || last[d] != static_cast<hsize_t>(shape[d])) return false;
    }
    return true;
  }
  bool is_all() const {
    return is_wide() && first[0] == 0 && last[0] == static_cast<hsize_t>(shape[0]);
  }
};

// A virtual dataset's file does not know the extents of its sources, hence `shape`.
std::optional<Box> box_of(hid_t space, const Shape& shape) {
  Box box{.first = std::vector<hsize_t>(shape.size(), 0),
          .last = {shape.begin(), shape.end()},
          .shape = shape};
  if (shape.empty() || H5Sget_select_type(space) == H5S_SEL_ALL) return box;
  if (H5Sget_simple_extent_ndims(space) != static_cast<int>(shape.size()) ||
      H5Sget_select_bounds(space, box.first.data(), box.last.data()) < 0) {
    return std::nullopt;
  }
  hsize_t count = 1;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    ++box.last[d];
    count *= box.last[d] - box.first[d];
  }
  const hssize_t selected = H5Sget_select_npoints(space);
  if (selected < 0 || static_cast<hsize_t>(selected) != count) return std::nullopt;
  return box;
}

std::string virtual_name(hid_t properties, std::size_t number,
                         ssize_t (*get)(hid_t, size_t, char*, size_t)) {
  const ssize_t length = get(properties, number, nullptr, 0);
  std::string name(static_cast<std::size_t>(std::max<ssize_t>(length, 0)), '\0');
  if (length > 0) get(properties, number, name.data(), name.size() + 1);
  return name;
}

Error unusable_source(const fs::path& file, const StoredDataset& stored, const std::string& why) {
  return data_error(
      fmt::format("{} is a virtual dataset with an unusable source: {}", where(file, stored), why));
}

// The library replaces a source that it cannot open by the fill value, and says nothing.
StoredDataset describe_source(const fs::path& file, const StoredDataset& stored,
                              const VirtualSource& source) {
  try {
    return Hdf5File(source.file).describe(source.dataset);
  } catch (const Error& error) {
    throw unusable_source(file, stored, error.what());
  }
}

// Sources that the library would have open at once, and half of what this process may have open:
// behind that it would give the fill value for them, without a word.
void check_open_files(const fs::path& file, hid_t properties, const StoredDataset& stored) {
  std::size_t count = 0;
  H5Pget_virtual_count(properties, &count);
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || count < limit.rlim_cur / 2) return;
  throw data_error(
      fmt::format("{} is a virtual dataset of {} parts, which only the HDF5 library reads: {}; "
                  "this process may "
                  "have {} open files; raise ulimit -n, or repack it",
                  where(file, stored), count, stored.extents.reason, limit.rlim_cur));
}

// Resolves a virtual dataset to the rows of its sources. Returns why it cannot be, or "".
std::string resolve_virtual(const fs::path& file, hid_t properties, StoredDataset& stored) {
  struct Mapping {
    hsize_t first = 0;
    VirtualSource source;
  };
  std::vector<Mapping> mappings;
  std::string reason;
  std::size_t count = 0;
  H5Pget_virtual_count(properties, &count);
  hssize_t shown = 0;  // elements that have a source
  for (std::size_t i = 0; i < count; ++i) {
    const std::string name = virtual_name(properties, i, H5Pget_virtual_filename);
    Mapping mapping;
    mapping.source.dataset = virtual_name(properties, i, H5Pget_virtual_dsetname);
    if (!stored.column.empty()) mapping.source.dataset += ":" + stored.column;
    mapping.source.file = name == "."                    ? file
                          : fs::path(name).is_absolute() ? fs::path(name)
                                                         : file.parent_path() / name;
    const UniqueSpace target_space(H5Pget_virtual_vspace(properties, i));
    const UniqueSpace source_space(H5Pget_virtual_srcspace(properties, i));
    shown += H5Sget_select_npoints(target_space.get());
    const StoredDataset found = describe_source(file, stored, mapping.source);
    const auto elements = [](const StoredDataset& dataset) {
      const auto axes = static_cast<std::ptrdiff_t>(dataset.record_axes);
      return Shape(dataset.shape.begin(), dataset.shape.begin() + axes);
    };
    const std::optional<Box> target = box_of(target_space.get(), elements(stored));
    const std::optional<Box> source = box_of(source_space.get(), elements(found));
    if (!target || !source || !target->is_wide()) {
      reason = "its virtual parts are no rows of their sources";
      continue;
    }
    mapping.first = target->first[0];
    mapping.source.rows = static_cast<std::int64_t>(target->rows());
    if (source->first.size() == target->first.size() && source->is_wide()) {
      mapping.source.first_row = static_cast<std::int64_t>(source->first[0]);
      if (source->rows() != target->rows() ||
          source->last[0] > static_cast<hsize_t>(source->shape[0])) {
        throw unusable_source(
            file, stored,
            fmt::format("{}:{} has {} rows, {} are wanted", mapping.source.file.string(),
                        mapping.source.dataset, found.rows(), target->rows()));
      }
    } else if (source->first.size() + 1 == target->first.size() && target->rows() == 1 &&
               source->is_all()) {
      mapping.source.is_one_row = true;
    } else {
      reason = "its virtual parts are no rows of their sources";
    }
    mappings.push_back(std::move(mapping));
  }
  const Shape all(stored.shape.begin(),
                  stored.shape.begin() + static_cast<std::ptrdiff_t>(stored.record_axes));
  if (shown < element_count(all)) {
    throw data_error(
        fmt::format("{} is a virtual dataset, and only {} of its {} elements have a source",
                    where(file, stored), shown, element_count(all)));
  }
  if (!reason.empty()) return reason;
  std::sort(mappings.begin(), mappings.end(),
            [](const Mapping& a, const Mapping& b) { return a.first < b.first; });
  hsize_t next = 0;
  for (Mapping& mapping : mappings) {
    if (mapping.first < next) {
      stored.sources.clear();
      return "its virtual parts overlap";
    }
    next += static_cast<hsize_t>(mapping.source.rows);
    stored.sources.push_back(std::move(mapping.source));
  }
  return {};
}

}  // namespace

void describe_layout(const fs::path& file, hid_t handle, StoredDataset& stored) {
  const UniqueProperties properties(H5Dget_create_plist(handle));
  Extents& extents = stored.extents;
  extents.filters = filters_of(properties.get());
  extents.file = file_of(handle);
  if (extents.file == file) extents.file.clear();
  const std::int64_t bytes = dataset_bytes(file, stored);
  for (const ChunkFilter& filter : extents.filters)
    stored.filters.push_back(filter_name(filter.id));
  switch (H5Pget_layout(properties.get())) {
    case H5D_CHUNKED: {
      std::vector<hsize_t> chunk(stored.record_axes);
      H5Pget_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data());
      stored.chunk_rows = static_cast<std::int64_t>(chunk[0]);
      extents.chunk.assign(chunk.begin(), chunk.end());
      extents.chunk.insert(
          extents.chunk.end(), stored.shape.begin() + static_cast<std::ptrdiff_t>(chunk.size()),
          stored.shape.begin() + static_cast<std::ptrdiff_t>(stored.stored_axes()));
      const ChunkFilters decoder(extents.filters,
                                 element_count(extents.chunk) * stored.stored_element_bytes());
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
      // What is allocated and lies behind the end reads as zeros; so far behind lies nothing.
      if (stored.record_bytes == 0 && bytes > file_bytes(file, stored) - extents.offset) {
        throw data_error(fmt::format(
            "{} has the shape {}, {} bytes from {} on; its file has {} and "
            "is damaged",
            where(file, stored), to_string(stored.shape), bytes, offset, file_bytes(file, stored)));
      }
      return;
    }
    case H5D_VIRTUAL:
      extents.reason = resolve_virtual(file, properties.get(), stored);
      if (!extents.reason.empty()) check_open_files(file, properties.get(), stored);
      return;
    default:
      extents.reason = "it lies in its header";
      return;
  }
}
}  // namespace hadal::io
