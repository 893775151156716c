#include <array>
#include <fstream>

#include "engine/checkpoint_reader.hpp"
#include "engine/checkpoint_writer.hpp"
#include "engine/comm/collectively.hpp"
#include "engine/dataset.hpp"
#include "engine/identity.hpp"
#include "engine/session.hpp"
#include "tests/engine/experiment.hpp"

using namespace hadal;
using namespace hadal::tests;

namespace {

namespace fs = std::filesystem;

// Of a checkpoint, but for its manifest.
std::string arrays_of(const fs::path& run, std::int64_t step) {
  const fs::path folder = run / "checkpoints" / io::checkpoint_name(step);
  io::open_checkpoint(folder);
  return io::read_file(folder / "model.safetensors") +
         io::read_file(folder / "optimizer.safetensors");
}

// Calls body(comm, memory, writer, state) on four ranks of two hosts.
template <class Body>
void on_two_hosts(const engine::RunConfig& config, Body body) {
  engine::run_ranks_as_threads(
      4,
      [&](engine::Communicator& comm) {
        const io::DataIndex data = engine::open_dataset(comm, config.data, engine::Split::train);
        engine::Session session(config, {.workers = 1}, comm, data,
                                engine::check_model(config, data), engine::Session::Purpose::train);
        engine::CheckpointMemory memory(comm, session.host(), session.model(), session.state(),
                                        engine::CheckpointMemory::Room::whole);
        engine::CheckpointWriter writer(
            comm, memory, 1,
            {.folder = config.run.dir, .keep = 9, .stays = [](std::int64_t) { return false; }});
        body(comm, memory, writer, session);
      },
      2);
}

// One round of a save under way.
std::optional<fs::path> advance(engine::Communicator& comm, engine::CheckpointWriter& writer,
                                const std::function<void(std::int32_t agreed)>& between = {}) {
  writer.copy();
  const std::int32_t agreed = engine::least_of_all(comm, writer.progress());
  if (between) {
    if (comm.rank() == 0) between(agreed);
    comm.barrier();
  }
  return writer.advance(agreed);
}

}  // namespace

TEST_CASE("checkpoints have the same bytes, whoever writes them and in whatever way") {
  Experiment experiment(48);
  auto& [folder, config] = experiment;
  // More blocks than a window holds.
  config.model.options["hidden"] = "[2048, 2048, 1024]";
  config.train.length = {4, engine::Span::Unit::steps};
  config.optimizer.average = 0.5;
  config.checkpoint.every = engine::Span{1, engine::Span::Unit::steps};
  QuietObserver observer;
  train(config, 1, 1, observer);
  const std::string expected = model_of(config);
  const std::string second = arrays_of(config.run.dir, 2);
  REQUIRE(second.size() > 90u * static_cast<std::size_t>(io::kFileBlockBytes));
  const std::vector<std::array<int, 2>> layouts{{1, 1}, {2, 2}, {3, 1}, {3, 2}, {4, 3}};
  for (const bool asynchronous : {true, false}) {
    for (std::size_t l = asynchronous ? 0 : 2; l < layouts.size(); ++l) {
      const auto [ranks, ranks_per_host] = layouts[l];
      CAPTURE(asynchronous, ranks, ranks_per_host);
      config.checkpoint.asynchronous = asynchronous;
      config.run.dir = folder / "again";
      train(config, ranks, 1, observer, 3, ranks_per_host);
      REQUIRE(arrays_of(config.run.dir, 2) == second);
      // Read by others.
      const auto [next_ranks, next_per_host] = layouts[(l + 2) % layouts.size()];
      CAPTURE(next_ranks, next_per_host);
      REQUIRE(train(config, next_ranks, 2, observer, -1, next_per_host).step == 4);
      REQUIRE(model_of(config) == expected);
      fs::remove_all(config.run.dir);
    }
  }
}

TEST_CASE("a save that fails on one host fails on all, and the next one succeeds") {
  Experiment experiment(48);
  auto& [folder, config] = experiment;
  config.model.options["hidden"] = "[700, 700]";
  const std::string partial = io::checkpoint_name(1) + ".partial";
  const fs::path second_file = config.run.dir / partial / "optimizer.safetensors";
  const nlohmann::json run = {{"progress", engine::progress_record({})}};
  // Catch's assertions are for one thread.
  const auto expect = [](bool holds, const std::string& what) {
    if (!holds) throw std::runtime_error(what);
  };
  const auto error_in = [&](const std::function<void()>& body) {
    try {
      body();
    } catch (const engine::AgreedError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto fail = [&](engine::Communicator& comm, engine::CheckpointWriter& writer,
                        const std::function<void(std::int32_t)>& between) {
    writer.begin(1, run);
    const std::string error = error_in([&] {
      while (!advance(comm, writer, between)) {
      }
    });
    expect(!writer.busy(), "a save goes on after its failure");
    comm.barrier();
    expect(!fs::exists(config.run.dir / partial), "something is left of it");
    comm.barrier();
    return error;
  };
  const auto damage = [](const fs::path& path, std::int64_t at) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(at);
    file.put('!');
  };
  on_two_hosts(config, [&](auto& comm, auto& memory, auto& writer, auto& session) {
    expect(memory.hosts().size() == 2, "not two hosts");
    const std::string gone = fail(comm, writer, [&](std::int32_t agreed) {
      if (agreed == 1) fs::remove(second_file);
    });
    expect(contains(gone, "cannot open") && contains(gone, second_file.string()), gone);
    // The other host sees other bytes.
    const std::string other = fail(comm, writer, [&](std::int32_t agreed) {
      if (agreed == 2)
        damage(second_file, static_cast<std::int64_t>(fs::file_size(second_file)) - 5);
    });
    expect(contains(other, "reads back other bytes") && contains(other, "(rank 0 on"), other);
    writer.begin(1, run);
    std::optional<fs::path> saved;
    while (!saved) saved = advance(comm, writer);
    const io::StoredCheckpoint checkpoint = io::open_checkpoint(*saved);
    const auto load = [&] {
      engine::load_checkpoint(comm, memory, checkpoint, session.pool().team(), session.state());
    };
    load();
    // Damage is found by the rank that reads it, and told by all.
    comm.barrier();
    if (comm.rank() == 0) damage(*saved / "optimizer.safetensors", 2 * io::kFileBlockBytes + 9);
    comm.barrier();
    const std::string damaged = error_in(load);
    expect(contains(damaged, "optimizer.safetensors is damaged between bytes 2097152 and 3145728"),
           damaged);
  });
}

TEST_CASE("what is saved is the state as it was, whatever becomes of it once it is copied") {
  Experiment experiment(48);
  auto& [folder, config] = experiment;
  config.model.options["hidden"] = "[2048, 2048]";
  on_two_hosts(config, [&](auto& comm, auto& memory, auto& writer, auto& session) {
    engine::TrainingState& state = session.state();
    const auto fill = [&](float parameter, float own) {
      if (state.weights.first_on_host) {
        std::fill(state.weights.parameters.begin(), state.weights.parameters.end(), parameter);
      }
      for (std::size_t b = 0; b < state.weights.layout.bucket_count(); ++b) {
        const std::span<float> moment = state.optimizer.state(0, b);
        std::fill(moment.begin(), moment.end(), own);
      }
      comm.barrier();
    };
    fill(0.5f, 0.25f);
    writer.begin(1, {{"progress", engine::progress_record({})}});
    writer.copy();
    comm.barrier();
    fill(-3, -4);
    std::optional<fs::path> saved;
    while (!saved) saved = advance(comm, writer);
    engine::load_checkpoint(comm, memory, io::open_checkpoint(*saved), session.pool().team(),
                            state);
    comm.barrier();
    bool right = true;
    state.weights.for_each_parameter([&](const engine::ArenaEntry&, std::span<float> values) {
      right = right &&
              std::all_of(values.begin(), values.end(), [](float each) { return each == 0.5f; });
    });
    // What lies between parameters is not saved.
    for (std::size_t b = 0; b < state.weights.layout.bucket_count(); ++b) {
      const engine::ArenaSlice slice = state.weights.layout.slice(b, comm.rank(), comm.size());
      for (std::size_t k = slice.first_block; k < slice.last_block; ++k) {
        const engine::ArenaBlock& block = state.weights.layout.blocks()[k];
        const auto values = state.optimizer.state(0, b).subspan(
            static_cast<std::size_t>(block.offset - slice.begin),
            static_cast<std::size_t>(block.count));
        right = right &&
                std::all_of(values.begin(), values.end(), [](float each) { return each == 0.25f; });
      }
    }
    if (!right) throw std::runtime_error("another state was saved");
  });
}
