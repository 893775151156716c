#include "io/data_index.hpp"

#include <atomic>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "io/batch_reader.hpp"
#include "io/hdf5_handle.hpp"
#include "io/hdf5_writer.hpp"
#include "io/sample_order.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

std::vector<io::FieldOptions> fields() {
  return {{.name = "image",
           .role = io::FieldRole::input,
           .path = "/x",
           .files = {},
           .dtype = io::DType::f32},
          {.name = "digit",
           .role = io::FieldRole::target,
           .path = "/y",
           .files = {},
           .dtype = io::DType::i64,
           .classes = 10}};
}

// `rows` rows of /x (float32, 4) with value row + 1000 * number, and /y = row % 10.
std::filesystem::path shard(const std::filesystem::path& path, std::int64_t number,
                            std::int64_t rows) {
  io::Hdf5ShardWriter writer(path, {{"/x", io::DType::f32, {4}}, {"/y", io::DType::i64, {}}}, rows);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::vector<float> x(4, static_cast<float>(r + 1000 * number));
    const std::int64_t y = r % 10;
    writer.append({std::as_bytes(std::span(x)), std::as_bytes(std::span(&y, 1))});
  }
  writer.close();
  return path;
}

// A dataset made by the library itself, for layouts that the writer does not make.
void make_dataset(const std::filesystem::path& path, const char* name, hid_t type,
                  const std::vector<hsize_t>& shape, const std::vector<hsize_t>& chunk,
                  std::int64_t rows_written, const void* data, bool deflate = false) {
  const io::Hdf5Lock lock;
  const bool exists = std::filesystem::exists(path);
  const io::UniqueFile file(exists
                                ? H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT)
                                : H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  const io::UniqueSpace space(
      H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr));
  const io::UniqueProperties properties(H5Pcreate(H5P_DATASET_CREATE));
  if (!chunk.empty()) H5Pset_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data());
  if (deflate) H5Pset_deflate(properties.get(), 4);
  const io::UniqueDataset set(
      H5Dcreate2(file.get(), name, type, space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT));
  if (rows_written == 0) return;
  std::vector<hsize_t> start(shape.size(), 0), count = shape;
  count[0] = static_cast<hsize_t>(rows_written);
  const io::UniqueSpace memory(
      H5Screate_simple(static_cast<int>(count.size()), count.data(), nullptr));
  H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr);
  H5Dwrite(set.get(), H5Tget_class(type) == H5T_FLOAT ? H5T_NATIVE_FLOAT : H5T_NATIVE_INT64,
           memory.get(), space.get(), H5P_DEFAULT, data);
}

io::DataIndex index_of(const std::vector<std::filesystem::path>& files,
                       const std::vector<io::FieldOptions>& options) {
  std::vector<std::vector<io::ScannedDataset>> scans(options.size());
  for (const auto& file : files) {
    for (std::size_t f = 0; f < options.size(); ++f) {
      // Packed, as between ranks.
      std::vector<io::Extent> tables;
      const nlohmann::json json =
          io::packed(io::scan_file(file, {"/other", options[f].path}), tables);
      std::size_t next = 0;
      scans[f].push_back(
          io::unpacked(json, io::ChunkTable(std::move(tables)), next).back().front());
    }
  }
  return io::build_index(options, scans);
}

std::string data_error(const std::vector<std::filesystem::path>& files,
                       const std::vector<io::FieldOptions>& options) {
  return tests::error_of(io::ErrorKind::data, [&] { index_of(files, options); });
}

const float* floats(const io::FieldBatch& batch) {
  return reinterpret_cast<const float*>(batch.bytes.data());
}

}  // namespace

TEST_CASE("samples of several files are read in the order asked for") {
  const tests::TemporaryFolder folder;
  const auto index = index_of({shard(folder / "a.h5", 0, 100), shard(folder / "empty.h5", 1, 0),
                               shard(folder / "b.h5", 2, 70)},
                              fields());
  REQUIRE(index.samples == 170);
  REQUIRE(index.notes.size() == 2);  // the file without rows, once a field
  // One block at a time, all at once: the cache changes nothing.
  for (const std::int64_t memory : {std::int64_t{1}, std::int64_t{1} << 30}) {
    io::BatchReader reader(index, {.memory_bytes = memory});
    const std::vector<std::int64_t> ids{169, 0, 100, 99, 42};
    const io::Batch batch = reader.read(ids);
    REQUIRE(batch.inputs[0].shape == io::Shape{5, 4});
    const std::vector<float> expected{2069, 0, 2000, 99, 42};
    for (std::size_t i = 0; i < 5; ++i) REQUIRE(floats(batch.inputs[0])[4 * i + 3] == expected[i]);
    REQUIRE(reinterpret_cast<const std::int64_t*>(batch.targets[0].bytes.data())[0] == 9);
  }
  REQUIRE(index.fields[0].where(100) == (folder / "b.h5").string() + ":/x row 0");
}

TEST_CASE(
    "big-endian, chunked and compressed data give the same values and their own fingerprint") {
  const tests::TemporaryFolder folder;
  std::vector<float> x(400);
  std::vector<std::int64_t> y(100);
  for (std::size_t i = 0; i < 400; ++i) x[i] = static_cast<float>(i / 4);
  for (std::size_t i = 0; i < 100; ++i) y[i] = static_cast<std::int64_t>(i % 10);
  make_dataset(folder / "big.h5", "/x", H5T_IEEE_F32BE, {100, 4}, {30, 4}, 100, x.data(), true);
  make_dataset(folder / "big.h5", "/y", H5T_STD_I16BE, {100}, {}, 100, y.data());
  const auto plain = index_of({shard(folder / "plain.h5", 0, 100)}, fields());
  const auto big = index_of({folder / "big.h5"}, fields());
  REQUIRE(big.fields[0].parts[0].stored.chunk_rows == 30);
  REQUIRE(big.fingerprint != plain.fingerprint);
  std::vector<std::int64_t> ids(100);
  for (std::int64_t i = 0; i < 100; ++i) ids[static_cast<std::size_t>(i)] = 99 - i;
  io::BatchReader plain_reader(plain, {}), big_reader(big, {});
  const io::Batch a = plain_reader.read(ids), b = big_reader.read(ids);
  REQUIRE(a.inputs[0].bytes == b.inputs[0].bytes);
  REQUIRE(a.targets[0].bytes == b.targets[0].bytes);
}

TEST_CASE("every fault of every file is listed at once") {
  const tests::TemporaryFolder folder;
  shard(folder / "good.h5", 0, 10);
  shard(folder / "short.h5", 0, 100);
  const auto size = std::filesystem::file_size(folder / "short.h5");
  std::filesystem::resize_file(folder / "short.h5", size - 500);
  std::ofstream(folder / "text.h5") << "no HDF5 at all, but long enough to look";
  const std::string error = data_error(
      {folder / "good.h5", folder / "short.h5", folder / "text.h5", folder / "gone.h5"}, fields());
  REQUIRE(tests::contains(error, "short.h5 is cut off"));
  REQUIRE(tests::contains(error, std::to_string(size - 500)));
  REQUIRE(tests::contains(error, std::to_string(size)));
  REQUIRE(tests::contains(error, "text.h5 is not an HDF5 file"));
  REQUIRE(tests::contains(error, "gone.h5"));
}

TEST_CASE("a dataset that is not all there is refused") {
  const tests::TemporaryFolder folder;
  const std::vector<float> x(400, 1.0f);
  auto only_x = fields();
  only_x.resize(1);
  make_dataset(folder / "partly.h5", "/x", H5T_IEEE_F32LE, {100, 4}, {10, 4}, 60, x.data());
  REQUIRE(tests::contains(data_error({folder / "partly.h5"}, only_x), "first gap is at row 60"));
  make_dataset(folder / "complete.h5", "/x", H5T_IEEE_F32LE, {100, 4}, {10, 4}, 100, x.data(),
               true);
  REQUIRE(data_error({folder / "complete.h5"}, only_x) == "no error");
  make_dataset(folder / "never.h5", "/x", H5T_IEEE_F32LE, {100, 4}, {}, 0, nullptr);
  REQUIRE(tests::contains(data_error({folder / "never.h5"}, only_x), "never written"));
}

TEST_CASE("names, shapes and rows that do not fit are explained") {
  const tests::TemporaryFolder folder;
  shard(folder / "a.h5", 0, 10);
  auto options = fields();
  options[0].path = "/X";
  REQUIRE(tests::contains(data_error({folder / "a.h5"}, options), "did you mean /x?"));
  options = fields();
  options[0].layout = "NHWC";
  REQUIRE(tests::contains(data_error({folder / "a.h5"}, options), "layout NHWC needs"));
  options = fields();
  options[0].mean = {1, 2, 3};
  REQUIRE(tests::contains(data_error({folder / "a.h5"}, options), "3 values of mean"));
  const std::vector<float> x(60, 1.0f);
  make_dataset(folder / "b.h5", "/x", H5T_IEEE_F32LE, {20, 3}, {}, 20, x.data());
  make_dataset(folder / "b.h5", "/y", H5T_STD_I64LE, {10}, {}, 0, nullptr);
  REQUIRE(tests::contains(data_error({folder / "a.h5", folder / "b.h5"}, fields()),
                          "has samples of shape"));
  const std::string empty = data_error({shard(folder / "empty.h5", 0, 0)}, fields());
  REQUIRE(tests::contains(empty, "no samples"));
}

TEST_CASE("bad values are named with their row, or left out where the config says so") {
  const tests::TemporaryFolder folder;
  io::Hdf5ShardWriter writer(folder / "a.h5",
                             {{"/x", io::DType::f32, {2}}, {"/y", io::DType::i64, {}}}, 3);
  for (std::int64_t r = 0; r < 3; ++r) {
    const std::vector<float> x{1, r == 1 ? NAN : 2.0f};
    const std::int64_t y = r == 2 ? 10 : r;
    writer.append({std::as_bytes(std::span(x)), std::as_bytes(std::span(&y, 1))});
  }
  writer.close();
  const auto index = index_of({folder / "a.h5"}, fields());
  const auto read = [&](std::vector<std::int64_t> ids, io::BatchOptions options) {
    io::BatchReader reader(index, options);
    return reader.read(ids);
  };
  REQUIRE(tests::contains(tests::error_of(io::ErrorKind::data,
                                          [&] {
                                            read({0, 1}, {});
                                          }),
                          "a.h5:/x row 1 holds nan"));
  REQUIRE(tests::contains(tests::error_of(io::ErrorKind::data, [&] { read({2}, {}); }),
                          "row 2 has the label 10"));
  const io::Batch batch = read({0, 1}, {.on_bad_sample = io::OnBadSample::skip});
  REQUIRE(batch.count() == 1);
  REQUIRE(batch.skipped == 1);
  REQUIRE(batch.inputs[0].shape == io::Shape{1, 2});
}

TEST_CASE("layout, scale, mean and deviation are applied in that order") {
  const tests::TemporaryFolder folder;
  io::Hdf5ShardWriter writer(folder / "a.h5",
                             {{"/x", io::DType::u8, {1, 2, 3}}, {"/y", io::DType::i64, {}}}, 1);
  const std::vector<std::uint8_t> pixels{10, 20, 30, 40, 50, 60};
  const std::int64_t y = 0;
  writer.append({std::as_bytes(std::span(pixels)), std::as_bytes(std::span(&y, 1))});
  writer.close();
  auto options = fields();
  options[0].layout = "NHWC";
  options[0].scale = 0.5;
  options[0].mean = {1, 2, 3};
  options[0].std = {2};
  const auto index = index_of({folder / "a.h5"}, options);
  io::BatchReader reader(index, {});
  const io::Batch batch = reader.read(std::vector<std::int64_t>{0});
  REQUIRE(batch.inputs[0].shape == io::Shape{1, 3, 1, 2});
  const std::vector<float> expected{2, 9.5, 4, 11.5, 6, 13.5};
  for (std::size_t i = 0; i < 6; ++i) REQUIRE(floats(batch.inputs[0])[i] == expected[i]);
}

TEST_CASE("threads that read at once get what one gets, with memory for all blocks or for none") {
  const tests::TemporaryFolder folder;
  std::vector<float> x(4000);
  std::vector<std::int64_t> y(1000);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<std::int64_t>(i % 10);
  make_dataset(folder / "a.h5", "/x", H5T_IEEE_F32LE, {1000, 4}, {30, 4}, 1000, x.data(), true);
  make_dataset(folder / "a.h5", "/y", H5T_STD_I64LE, {1000}, {}, 1000, y.data());
  const auto index = index_of({folder / "a.h5"}, fields());
  for (const std::int64_t memory : {std::int64_t{1}, std::int64_t{5000}, std::int64_t{1} << 30}) {
    io::BatchReader reader(index, {.memory_bytes = memory});
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (std::uint64_t step = 0; step < 50; ++step) {
          std::vector<std::int64_t> ids;
          for (std::uint64_t k = 0; k < 8; ++k) {
            ids.push_back(static_cast<std::int64_t>(io::mix(t % 2, step, k) % 1000));
          }
          const io::Batch batch = reader.read(ids);
          for (std::size_t k = 0; k < ids.size(); ++k) {
            if (floats(batch.inputs[0])[4 * k] != static_cast<float>(4 * ids[k])) ++wrong;
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    REQUIRE(wrong == 0);
  }
}
