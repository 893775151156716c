#include "engine/staging.hpp"

#include <atomic>
#include <numeric>
#include <set>

#include "engine/comm/communicator.hpp"
#include "io/atomic_file.hpp"
#include "io/batch_reader.hpp"
#include "io/hdf5_writer.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

constexpr std::int64_t kWidth = 3000;

// Three files of 1, 900 and 300 rows: less than a piece, and several.
io::DataIndex data(const tests::TemporaryFolder& folder) {
  std::vector<std::vector<io::ScannedDataset>> scans(1);
  std::int64_t value = 0;
  for (const std::int64_t rows : {1, 900, 300}) {
    const std::filesystem::path file = folder / std::to_string(rows);
    io::Hdf5ShardWriter writer(file, {{"/x", io::DType::f32, {kWidth}}}, rows);
    for (std::int64_t r = 0; r < rows; ++r, ++value) {
      std::vector<float> row(kWidth);
      std::iota(row.begin(), row.end(), static_cast<float>(value));
      writer.append({std::as_bytes(std::span(row))});
    }
    writer.close();
    scans[0].push_back(io::scan_file(file, {"/x"}).front().front());
  }
  return io::build_index({{.name = "x", .path = "/x", .files = {}, .dtype = io::DType::f32}},
                         scans);
}

}  // namespace

TEST_CASE("every host has a copy, every byte was read once, and training reads the copy") {
  const tests::TemporaryFolder folder, place;
  const io::DataIndex index = data(folder);
  std::int64_t bytes = 0;
  for (const io::ScannedDataset& part : index.fields[0].parts) bytes += part.file_bytes;
  for (const auto& [ranks, per_host] : {std::pair{1, 1}, {4, 2}, {5, 2}, {3, 3}, {4, 1}}) {
    CAPTURE(ranks, per_host);
    const tests::TemporaryFolder away;
    std::atomic<std::int64_t> read = 0;
    std::atomic<int> hosts_left = 0;
    engine::run_ranks_as_threads(
        ranks,
        [&](engine::Communicator& comm) {
          io::DataIndex mine = index;
          engine::StagingReport report = engine::stage(comm, place.path(), {&mine});
          read += report.read_bytes;
          if (report.bytes != bytes) throw std::logic_error("other bytes");
          if (report.hosts != (ranks + per_host - 1) / per_host) throw std::logic_error("hosts");
          comm.barrier();
          // Gone from where they were: what is read now is the copy.
          if (comm.rank() == 0) {
            for (const io::ScannedDataset& part : index.fields[0].parts) {
              const std::filesystem::path file = part.file;
              std::filesystem::rename(file, away / file.filename().string());
            }
          }
          comm.barrier();
          io::BatchReader reader(mine, {});
          const io::Batch batch = reader.read(std::vector<std::int64_t>{0, 500, 1200, 900});
          const auto* values = reinterpret_cast<const float*>(batch.inputs[0].bytes.data());
          const float expected[] = {0, 500, 1200, 900};
          for (int k = 0; k < 4; ++k) {
            for (std::int64_t i = 0; i < kWidth; ++i) {
              if (values[k * kWidth + i] != expected[k] + static_cast<float>(i)) {
                throw std::logic_error("another value");
              }
            }
          }
          comm.barrier();
          if (comm.rank() == 0) {
            for (const io::ScannedDataset& part : index.fields[0].parts) {
              const std::filesystem::path file = part.file;
              std::filesystem::rename(away / file.filename().string(), file);
            }
          }
          comm.barrier();
          hosts_left += 1;
        },
        per_host);
    REQUIRE(read == bytes);
    REQUIRE(hosts_left == ranks);
    REQUIRE(std::filesystem::is_empty(place.path()));
  }
}

TEST_CASE("a whole copy of a killed run is taken, a part of one is not") {
  const tests::TemporaryFolder folder, place, kept;
  const io::DataIndex index = data(folder);
  const auto comm = engine::solo_communicator();
  const auto staged = [&](const std::function<void(const std::filesystem::path&)>& body) {
    io::DataIndex mine = index;
    engine::StagingReport report = engine::stage(*comm, place.path(), {&mine});
    const std::filesystem::path copy = mine.staged.begin()->second;
    body(copy.parent_path());
    return report.read_bytes;
  };
  std::filesystem::path name;
  const auto keep = [&](const std::filesystem::path& copies) {
    name = copies.filename();
    std::filesystem::remove_all(kept / "copies");
    std::filesystem::copy(copies, kept / "copies");
  };
  REQUIRE(staged(keep) > 0);
  std::filesystem::copy(kept / "copies", place.path() / name);
  REQUIRE(staged(keep) == 0);
  std::filesystem::copy(kept / "copies", place.path() / name);
  std::filesystem::remove(place.path() / name / "whole");
  REQUIRE(staged(keep) > 0);
  // A place that cannot be one.
  io::write_file_atomically(folder / "file", "");
  REQUIRE(tests::contains(tests::error_of(io::ErrorKind::storage,
                                          [&] {
                                            io::DataIndex mine = index;
                                            engine::stage(*comm, folder / "file", {&mine});
                                          }),
                          "file"));
}
