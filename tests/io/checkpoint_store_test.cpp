#include "io/checkpoint_store.hpp"

#include <fstream>

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

TEST_CASE("the newest checkpoint by number is found, strays are named") {
  const tests::TemporaryFolder folder;
  {
    io::CheckpointStore store(folder / "checkpoints");
    std::vector<std::string> passed;
    REQUIRE_FALSE(store.newest_valid(passed).has_value());
    for (const std::int64_t step : {900, 1000, 20000}) save(store, step, "content");
    std::filesystem::create_directory(folder / "checkpoints/step-abc");
    std::filesystem::create_directory(folder / "checkpoints/step-000001000.bak");
    store.begin(30000);
  }
  io::CheckpointStore store(folder / "checkpoints");
  std::vector<std::string> passed;
  const auto found = store.newest_valid(passed);
  REQUIRE(found->manifest.step == 20000);
  REQUIRE(found->manifest.run.at("note") == 20000);
  REQUIRE(passed.size() == 2);
  // Another program may be saving here: only the owner clears.
  REQUIRE(std::filesystem::exists(folder / "checkpoints/step-000030000.partial"));
  store.remove_leftovers();
  REQUIRE_FALSE(std::filesystem::exists(folder / "checkpoints/step-000030000.partial"));
}

TEST_CASE("a damaged checkpoint is passed over, none left is an error") {
  const tests::TemporaryFolder folder;
  io::CheckpointStore store(folder / "checkpoints");
  const std::string large(static_cast<std::size_t>(io::kHashBlockBytes) + 100, 'a');
  save(store, 1, "content");
  save(store, 2, large);
  save(store, 3, "content");
  damage(folder / "checkpoints/step-000000002/model.safetensors", io::kHashBlockBytes + 50);
  std::filesystem::resize_file(folder / "checkpoints/step-000000003/model.safetensors", 3);
  std::vector<std::string> passed;
  REQUIRE(store.newest_valid(passed)->manifest.step == 1);
  REQUIRE(passed.size() == 2);
  REQUIRE(tests::contains(passed[0], "has 3 bytes, 7 were written"));
  REQUIRE(tests::contains(passed[1], "damaged between bytes"));
  std::ofstream(folder / "checkpoints/step-000000001/manifest.json") << "{";
  REQUIRE(tests::contains(
      tests::error_of(io::ErrorKind::checkpoint, [&] { store.newest_valid(passed); }),
      "not started from zero in silence"));
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
