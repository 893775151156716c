#include "io/checkpoint_store.hpp"

#include <fstream>
#include <memory>

#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

void save(io::CheckpointStore& store, std::int64_t step, const std::string& content) {
  const auto folder = store.begin(step);
  io::HashingFile file(folder / "model.safetensors");
  file.append(std::as_bytes(std::span(content)));
  store.commit({.step = step, .files = {file.close()}, .run = {{"note", step}}});
}

void damage(const std::filesystem::path& path, std::int64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(at);
  file.put('!');
}

}  // namespace

TEST_CASE("checkpoints are listed by number, strays are named") {
  const tests::TemporaryFolder folder;
  {
    io::CheckpointStore store(folder / "checkpoints");
    REQUIRE(store.steps().empty());
    for (const std::int64_t step : {900, 20000, 1000}) save(store, step, "content");
    std::filesystem::create_directory(folder / "checkpoints/step-abc");
    std::filesystem::create_directory(folder / "checkpoints/step-000001000.bak");
    store.begin(30000);
  }
  io::CheckpointStore store(folder / "checkpoints");
  REQUIRE(store.steps() == std::vector<std::int64_t>{20000, 1000, 900});
  REQUIRE(io::open_checkpoint(folder / "checkpoints/step-000020000").manifest.run.at("note") ==
          20000);
  REQUIRE(store.strays().size() == 2);
  // Another program may be saving here: only the owner clears.
  REQUIRE(std::filesystem::exists(folder / "checkpoints/step-000030000.partial"));
  store.remove_leftovers();
  REQUIRE_FALSE(std::filesystem::exists(folder / "checkpoints/step-000030000.partial"));
}

TEST_CASE("damage to a checkpoint is told") {
  const tests::TemporaryFolder folder;
  io::CheckpointStore store(folder / "checkpoints");
  const auto error_at = [&](std::int64_t step) {
    return tests::error_of(io::ErrorKind::checkpoint, [&] {
      io::open_checkpoint(folder / "checkpoints" / io::checkpoint_name(step));
    });
  };
  const std::string large(static_cast<std::size_t>(io::kHashBlockBytes) + 100, 'a');
  save(store, 1, "content");
  save(store, 2, large);
  save(store, 3, "content");
  damage(folder / "checkpoints/step-000000002/model.safetensors", io::kHashBlockBytes + 50);
  std::filesystem::resize_file(folder / "checkpoints/step-000000003/model.safetensors", 3);
  REQUIRE(tests::contains(error_at(3), "has 3 bytes, 7 were written"));
  REQUIRE(tests::contains(error_at(2), "damaged between bytes 16777216 and 16777316"));
  std::ofstream(folder / "checkpoints/step-000000001/manifest.json") << "{";
  REQUIRE(tests::contains(error_at(1), "its manifest.json is damaged"));
}

TEST_CASE("a file written block by block has the bytes and no more") {
  const tests::TemporaryFolder folder;
  const std::filesystem::path path = folder / "blocks";
  constexpr auto kBlock = static_cast<std::size_t>(io::kFileBlockBytes);
  const std::size_t size = 2 * kBlock + 4096 + 77;
  // From a page on, as whatever goes past the cache must.
  std::vector<std::byte> memory(size + 4096);
  void* start = memory.data();
  std::size_t room = memory.size();
  std::byte* const bytes = static_cast<std::byte*>(std::align(4096, size, start, room));
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 >> 3);
  io::BlockFile::create(path, static_cast<std::int64_t>(size));
  io::BlockFile last(path), first(path);
  last.write({bytes + 2 * kBlock, size - 2 * kBlock}, 2 * io::kFileBlockBytes);
  first.write({bytes, 2 * kBlock}, 0);
  first.close();
  last.close();
  const std::string content = io::read_file(path);
  REQUIRE(content.size() == size);
  REQUIRE(std::equal(content.begin(), content.end(), reinterpret_cast<const char*>(bytes)));
}

TEST_CASE("pruning removes the oldest and keeps what it is told") {
  const tests::TemporaryFolder folder;
  io::CheckpointStore store(folder / "checkpoints");
  for (std::int64_t step = 1; step <= 6; ++step) save(store, step, "content");
  store.prune(3, [](std::int64_t step) { return step == 1; });
  std::vector<bool> there;
  for (std::int64_t step = 1; step <= 6; ++step) {
    there.push_back(std::filesystem::exists(store.folder() / io::checkpoint_name(step)));
  }
  REQUIRE(there == std::vector<bool>{true, false, false, true, true, true});
}
