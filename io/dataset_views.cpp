#include "io/dataset_views.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "io/convert.hpp"
#include "io/error.hpp"

namespace hadal::io {
namespace {

Error data_error(const std::string& message) { return {ErrorKind::data, message}; }

std::vector<std::int64_t> whole_numbers(const Hdf5File& file, const std::string& dataset,
                                        const std::string& where) {
  const StoredDataset stored = file.describe(dataset);
  if (stored.is_heap || element_count(stored.sample_shape()) != 1) {
    throw data_error(fmt::format("{} has the shape {}; one whole number a sample is needed", where,
                                 to_string(stored.shape)));
  }
  std::vector<std::byte> raw(static_cast<std::size_t>(stored.rows() * stored.row_bytes()));
  if (!raw.empty() && stored.extents.storage == Extents::Storage::memory) {
    raw = *stored.extents.values;
  } else if (!raw.empty()) {
    file.read_rows(stored, 0, stored.rows(), raw);
  }
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(stored.rows()));
  if (const auto fault =
          convert(raw, stored.dtype, std::as_writable_bytes(std::span(numbers)), DType::i64)) {
    throw data_error(fmt::format("{} holds {} in row {}; whole numbers are needed", where,
                                 fault->value, fault->element));
  }
  return numbers;
}

}  // namespace

void make_one_row(StoredDataset& stored, const std::string& where) {
  if (!stored.extents.past_library() || stored.is_heap) {
    throw data_error(
        fmt::format("{} cannot be one sample: {}", where,
                    stored.is_heap ? "its rows have different lengths" : stored.extents.reason));
  }
  stored.shape.insert(stored.shape.begin(), 1);
  ++stored.record_axes;
  if (stored.extents.storage != Extents::Storage::chunked) return;
  stored.extents.chunk.insert(stored.extents.chunk.begin(), 1);
  stored.chunk_rows = 1;
}

StoredDataset series_of(const StoredDataset& stored, std::int64_t series,
                        const std::string& where) {
  if (stored.stored_axes() < 2 || (stored.record_bytes > 0 && stored.record_axes < 2)) {
    throw data_error(fmt::format("{} has the shape {}; series need [series, rows, …]", where,
                                 to_string(stored.shape)));
  }
  StoredDataset one = stored;
  one.path = fmt::format("{}[{}]", stored.path, series);
  one.series = series;
  one.shape.erase(one.shape.begin());
  --one.record_axes;
  Extents& extents = one.extents;
  if (!extents.chunk.empty()) {
    extents.series = extents.chunk.front();
    extents.place = series % extents.series;
    extents.chunk.erase(extents.chunk.begin());
    one.chunk_rows = extents.chunk.front();
  }
  const auto part = [&](std::size_t all) { return all / static_cast<std::size_t>(stored.rows()); };
  switch (extents.storage) {
    case Extents::Storage::contiguous: {
      std::int64_t bytes = one.stored_element_bytes();
      for (std::size_t d = 0; d < one.stored_axes(); ++d) bytes *= one.shape[d];
      extents.offset += series * bytes;
      break;
    }
    case Extents::Storage::chunked: {
      const std::int64_t layers = (stored.rows() + extents.series - 1) / extents.series;
      const std::size_t count = extents.chunks.count / static_cast<std::size_t>(layers);
      extents.chunks =
          extents.chunks.part(static_cast<std::size_t>(series / extents.series) * count, count);
      break;
    }
    case Extents::Storage::memory: {
      const auto bytes = static_cast<std::ptrdiff_t>(part(extents.values->size()));
      const auto begin = extents.values->begin() + series * bytes;
      extents.values = std::make_shared<const std::vector<std::byte>>(begin, begin + bytes);
      break;
    }
    case Extents::Storage::library:
      break;
  }
  return one;
}

Bounds read_bounds(const Hdf5File& file, const std::string& dataset, bool are_lengths,
                   std::int64_t rows, const std::string& where) {
  std::vector<std::int64_t> numbers = whole_numbers(file, dataset, where);
  if (are_lengths) {
    std::int64_t next = 0;
    for (std::int64_t& number : numbers) {
      const std::int64_t length = number;
      if (length < 0 || length > rows - next) {
        throw data_error(
            fmt::format("{} does not fit: with its row {} of {} its samples have more "
                        "than the {} rows that there are",
                        where, &number - numbers.data(), length, rows));
      }
      number = next;
      next += length;
    }
    if (next != rows) {
      throw data_error(
          fmt::format("{} does not fit: its samples have {} rows together, there are "
                      "{}",
                      where, next, rows));
    }
    numbers.push_back(rows);
  } else if (numbers.empty() || numbers.back() != rows) {
    numbers.push_back(rows);
  }
  std::int64_t last = 0;
  for (const std::int64_t number : numbers) {
    if (number < last || number > rows) {
      throw data_error(fmt::format("{} does not fit: a sample would go from row {} to {} of {}",
                                   where, last, number, rows));
    }
    last = number;
  }
  return std::make_shared<const std::vector<std::int64_t>>(std::move(numbers));
}

}  // namespace hadal::io
