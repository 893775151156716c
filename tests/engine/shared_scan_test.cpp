#include "engine/shared_scan.hpp"

#include <atomic>
#include <nlohmann/json.hpp>

#include "io/atomic_file.hpp"
#include "io/hdf5_writer.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

constexpr std::size_t kFiles = 7;
const std::vector<io::DatasetQuery> kQueries{"/x", "/y"};

std::vector<std::string> make_files(const tests::TemporaryFolder& folder) {
  std::vector<std::string> files;
  for (std::size_t f = 0; f < kFiles; ++f) {
    files.push_back(folder / (std::to_string(f) + ".h5"));
    const std::int64_t rows = 100 + 10 * static_cast<std::int64_t>(f);
    io::Hdf5ShardWriter writer(files.back(),
                               {{"/x", io::DType::f32, {1000}}, {"/y", io::DType::i64, {}}}, rows,
                               {.filter = io::ShardFilter::none, .chunk_rows = 7});
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::vector<float> x(1000, static_cast<float>(r));
      writer.append({std::as_bytes(std::span(x)), std::as_bytes(std::span(&r, 1))});
    }
    writer.close();
  }
  return files;
}

// All that a scan has found, as bytes.
std::string flat(const io::FileScans& scans) {
  std::vector<io::Extent> tables;
  std::string text = io::packed(scans, tables).dump();
  return text.append(reinterpret_cast<const char*>(tables.data()),
                     tables.size() * sizeof(io::Extent));
}

std::vector<std::string> flat(const std::vector<io::FileScans>& by_file) {
  std::vector<std::string> texts;
  for (const io::FileScans& scans : by_file) texts.push_back(flat(scans));
  return texts;
}

// What one process alone finds.
std::vector<std::string> alone(const std::vector<std::string>& files) {
  std::vector<std::string> texts;
  for (const std::string& file : files) texts.push_back(flat(io::scan_file(file, kQueries)));
  return texts;
}

// Scans on so many ranks, two a host, and whether all found `expected` and how much was new.
struct Outcome {
  int right = 0;
  int with_news = 0;
};
Outcome scan(int ranks, const std::vector<std::string>& files, const std::filesystem::path& cache,
             const std::vector<std::string>& expected) {
  std::atomic<int> right = 0, news = 0;
  engine::run_ranks_as_threads(
      ranks,
      [&](engine::Communicator& comm) {
        engine::KnownScans known = engine::read_known(comm, cache);
        if (flat(engine::scan_together(comm, files, kQueries, known)) == expected) ++right;
        if (known.is_new) ++news;
        engine::write_known(comm, cache, known);
      },
      2);
  return {right, news};
}

}  // namespace

TEST_CASE("a scan of many ranks is one rank's, and the next start knows it") {
  const tests::TemporaryFolder folder;
  const std::vector<std::string> files = make_files(folder);
  const std::vector<std::string> expected = alone(files);
  for (const int ranks : {1, 2, 5}) {
    CAPTURE(ranks);
    const std::filesystem::path cache = folder / ("cache-" + std::to_string(ranks));
    Outcome first = scan(ranks, files, cache, expected);
    CHECK(first.right == ranks);
    CHECK(first.with_news == ranks);
    for (const int again : {ranks, ranks + 1}) {
      const Outcome next = scan(again, files, cache, expected);
      CHECK(next.right == again);
      CHECK(next.with_news == 0);
    }
  }
}

TEST_CASE("files that have changed are scanned again, whatever the cache says") {
  const tests::TemporaryFolder folder;
  std::vector<std::string> files = make_files(folder);
  const std::filesystem::path cache = folder / "cache";
  scan(2, files, cache, {});
  // Another file under the name of the first.
  std::filesystem::copy_file(files[6], files[0], std::filesystem::copy_options::overwrite_existing);
  const std::vector<std::string> expected = alone(files);
  const Outcome outcome = scan(2, files, cache, expected);
  CHECK(outcome.right == 2);
  CHECK(outcome.with_news == 2);
  CHECK(scan(2, files, cache, expected).with_news == 0);
  // Each rank looks at one file of those that seem as they were.
  files.resize(1);
  scan(1, files, folder / "one", {});
  io::ScanCache known(io::read_file(folder / "one"));
  const io::FileState state = io::state_of(io::RawFile(files[0]));
  io::FileScans scans = *known.find(files[0], kQueries, state);
  scans[0][0].stored.extents.chunks = scans[0][0].stored.extents.chunks.part(1, 1);
  known.put(files[0], kQueries, state, scans);
  io::write_file_atomically(folder / "one", known.bytes());
  CHECK(scan(1, files, folder / "one", alone(files)).right == 1);
}

TEST_CASE("a cache that is damaged, or of another version, holds nothing") {
  const tests::TemporaryFolder folder;
  const std::vector<std::string> files = make_files(folder);
  const std::filesystem::path cache = folder / "cache";
  scan(1, files, cache, {});
  const std::string whole = io::read_file(cache);
  const io::FileState state = io::state_of(io::RawFile(files[0]));
  REQUIRE(io::ScanCache(whole).find(files[0], kQueries, state) != nullptr);
  CHECK(io::ScanCache(whole).find(files[0], {"/x"}, state) == nullptr);
  for (std::size_t at = 0; at < whole.size(); at += 97) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    CHECK(io::ScanCache(damaged).find(files[0], kQueries, state) == nullptr);
    CHECK(io::ScanCache(whole.substr(0, at)).find(files[0], kQueries, state) == nullptr);
  }
  // A run goes on from it all the same.
  io::write_file_atomically(cache, whole.substr(0, whole.size() / 2));
  CHECK(scan(2, files, cache, alone(files)).right == 2);
}
