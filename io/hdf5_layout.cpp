#include "io/hdf5_layout.hpp"

#include <fmt/format.h>

#include <array>

#include "io/error.hpp"

namespace hadal::io {
namespace {

namespace fs = std::filesystem;

Error data_error(const std::string& message) { return {ErrorKind::data, message}; }

std::string where(const fs::path& file, const StoredDataset& stored) {
  return fmt::format("{}:{}", file.string(), stored.path);
}

struct FilterName {
  H5Z_filter_t id;
  const char* name;
};
constexpr std::array kFilters = {
    FilterName{1, "deflate"},  FilterName{2, "shuffle"},        FilterName{3, "fletcher32"},
    FilterName{4, "szip"},     FilterName{5, "nbit"},           FilterName{6, "scaleoffset"},
    FilterName{307, "bzip2"},  FilterName{32000, "lzf"},        FilterName{32001, "blosc"},
    FilterName{32004, "lz4"},  FilterName{32008, "bitshuffle"}, FilterName{32013, "zfp"},
    FilterName{32015, "zstd"}, FilterName{32026, "blosc2"},
};

std::string filter_name(H5Z_filter_t id) {
  for (const FilterName& filter : kFilters) {
    if (filter.id == id) return filter.name;
  }
  return fmt::format("filter {}", id);
}

void check_filters(const fs::path& file, hid_t properties, StoredDataset& stored) {
  const int count = H5Pget_nfilters(properties);
  for (int i = 0; i < count; ++i) {
    unsigned flags = 0, config = 0;
    std::size_t values = 0;
    const H5Z_filter_t id = H5Pget_filter2(properties, static_cast<unsigned>(i), &flags, &values,
                                           nullptr, 0, nullptr, &config);
    stored.filters.push_back(filter_name(id));
    if (H5Zfilter_avail(id) > 0) continue;
    throw data_error(fmt::format(
        "{} is compressed with {} (filter {}), which is not installed here; install its HDF5 "
        "plugin and set HDF5_PLUGIN_PATH, or repack the file",
        where(file, stored), stored.filters.back(), id));
  }
}

// A chunk that was never written reads as the fill value. The library's own space status says
// "partly allocated" for every compressed dataset, so chunks are counted.
void check_chunks(const fs::path& file, hid_t handle, hid_t space,
                  const std::vector<hsize_t>& chunk, const StoredDataset& stored) {
  std::int64_t expected = 1;
  std::vector<std::int64_t> grid(chunk.size());
  for (std::size_t d = 0; d < chunk.size(); ++d) {
    const auto extent = static_cast<std::int64_t>(chunk[d]);
    grid[d] = (stored.shape[d] + extent - 1) / extent;
    expected *= grid[d];
  }
  hsize_t present = 0;
  if (H5Dget_num_chunks(handle, space, &present) < 0 ||
      static_cast<std::int64_t>(present) == expected) {
    return;
  }
  std::vector<hsize_t> offset(chunk.size());
  for (std::int64_t n = 0; n < expected; ++n) {
    std::int64_t rest = n;
    for (std::size_t d = chunk.size(); d-- > 0;) {
      offset[d] = static_cast<hsize_t>(rest % grid[d]) * chunk[d];
      rest /= grid[d];
    }
    hsize_t bytes = 0;
    if (H5Dget_chunk_storage_size(handle, offset.data(), &bytes) < 0 || bytes == 0) break;
  }
  throw data_error(
      fmt::format("{} is incomplete: {} of its {} chunks were written, the first gap is at row "
                  "{} (its producer "
                  "probably died); write it again",
                  where(file, stored), present, expected, offset[0]));
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

void describe_layout(const fs::path& file, hid_t handle, hid_t space, StoredDataset& stored) {
  const UniqueProperties properties(H5Dget_create_plist(handle));
  check_filters(file, properties.get(), stored);
  switch (H5Pget_layout(properties.get())) {
    case H5D_CHUNKED: {
      std::vector<hsize_t> chunk(stored.shape.size());
      H5Pget_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data());
      stored.chunk_rows = static_cast<std::int64_t>(chunk[0]);
      if (stored.rows() > 0) check_chunks(file, handle, space, chunk, stored);
      return;
    }
    case H5D_CONTIGUOUS:
      if (element_count(stored.shape) > 0 && H5Pget_external_count(properties.get()) == 0 &&
          H5Dget_offset(handle) == HADDR_UNDEF) {
        throw data_error(fmt::format("{} was created but never written", where(file, stored)));
      }
      return;
    case H5D_VIRTUAL:
      check_virtual(file, properties.get(), stored);
      return;
    default:
      return;
  }
}
}  // namespace hadal::io
