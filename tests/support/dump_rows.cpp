// dump_rows OUT MEMORY FILE DATASET: writes the rows of a dataset as training reads them, in this
// machine's byte order, and prints their type, shape and who has read them; or the refusal, and
// ends with 1.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <fstream>
#include <numeric>
#include <random>

#include "io/error.hpp"
#include "io/row_fetcher.hpp"

using namespace hadal;

namespace {

std::string shape(const io::StoredDataset& stored, std::int64_t rows) {
  io::Shape all = stored.shape;
  all[0] = rows;
  return fmt::format("{}", fmt::join(all, ","));
}

void dump(const std::string& out, std::int64_t memory, const std::string& file,
          const std::string& dataset) {
  std::vector<io::FieldOptions> fields{
      {.name = "x", .path = dataset, .files = {}, .dtype = io::DType::f32}};
  const auto scans = io::scan_file(file, {dataset});
  // Bytes of variable length are only taken as images; here they are what is wanted.
  if (scans[0][0].stored.is_heap) fields[0].decode = {1, 1};
  const io::DataIndex index = io::build_index(fields, scans);
  const io::StoredDataset& stored = index.fields[0].parts[0].stored;
  io::RowFetcher fetcher(index, memory);
  // In no order of the file, a few at a time.
  std::vector<std::int64_t> ids(static_cast<std::size_t>(index.samples));
  std::iota(ids.begin(), ids.end(), std::int64_t{0});
  std::shuffle(ids.begin(), ids.end(), std::mt19937(1));
  const auto row = static_cast<std::size_t>(stored.row_bytes());
  std::vector<std::vector<std::byte>> rows(ids.size());
  for (std::size_t at = 0; at < ids.size(); at += 7) {
    const std::span<const std::int64_t> some =
        std::span(ids).subspan(at, std::min<std::size_t>(7, ids.size() - at));
    std::vector<std::byte> place(some.size() * row);
    const std::vector<std::span<std::byte>> places{at % 2 == 0 ? std::span(place)
                                                               : std::span<std::byte>()};
    const io::RowFetcher::Fetched fetched = fetcher.fetch(some, places);
    for (std::size_t k = 0; k < some.size(); ++k) {
      const std::span<const std::byte> found = fetched.rows[0][k];
      rows[static_cast<std::size_t>(some[k])].assign(found.begin(), found.end());
    }
  }
  std::ofstream written(out, std::ios::binary);
  for (const std::vector<std::byte>& bytes : rows) {
    written.write(reinterpret_cast<const char*>(bytes.data()),
                  static_cast<std::streamsize>(bytes.size()));
  }
  fmt::print("{} {} {}\n", io::name_of(stored.dtype), shape(stored, index.samples),
             stored.extents.past_library() ? "past" : "library");
}

}  // namespace

int main(int, char** argv) {
  try {
    dump(argv[1], std::stoll(argv[2]), argv[3], argv[4]);
    return 0;
  } catch (const std::exception& error) {
    fmt::print("{}\n", error.what());
    return 1;
  }
}
