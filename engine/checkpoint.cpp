#include "engine/checkpoint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/comm/collectively.hpp"
#include "engine/model_file.hpp"
#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/safetensors.hpp"

namespace hadal::engine {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json to_json(const Progress& progress) {
  return {{"step", progress.step},
          {"updates", progress.updates},
          {"skipped", progress.skipped},
          {"best_value", progress.best_value ? json(*progress.best_value) : json()},
          {"best_step", progress.best_step},
          {"evaluations_since_best", progress.evaluations_since_best},
          {"evaluation_due", progress.evaluation_due}};
}

Progress progress_from(const json& stored) {
  Progress progress;
  stored.at("step").get_to(progress.step);
  stored.at("updates").get_to(progress.updates);
  stored.at("skipped").get_to(progress.skipped);
  if (!stored.at("best_value").is_null())
    progress.best_value = stored.at("best_value").get<double>();
  stored.at("best_step").get_to(progress.best_step);
  stored.at("evaluations_since_best").get_to(progress.evaluations_since_best);
  progress.evaluation_due = stored.value("evaluation_due", false);
  return progress;
}

std::string wire_state(std::int64_t part) { return fmt::format("wire_rounding.{}", part); }

// Of the optimizer, then of the rounding.
std::vector<std::string> state_names(const TrainingState& state) {
  std::vector<std::string> names = state.optimizer.state_names();
  for (std::int64_t part = 0; state.rounding && part < state.rounding->part_count(); ++part) {
    names.push_back(wire_state(part));
  }
  return names;
}

std::vector<io::TensorEntry> state_entries(const TrainingState& state) {
  std::vector<io::TensorEntry> entries;
  for (const std::string& name : state_names(state)) {
    for (const ArenaEntry& entry : state.weights.layout.entries()) {
      entries.push_back(
          {.name = name + "/" + entry.name, .dtype = io::DType::f32, .shape = entry.shape});
    }
  }
  return entries;
}

// One bucket of a state on rank 0; other ranks send their slice and get nothing.
AlignedBuffer collect_bucket(Communicator& comm, const ArenaLayout& layout, std::size_t bucket,
                             std::span<float> mine) {
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  AlignedBuffer whole;
  if (comm.rank() != 0) {
    if (!mine.empty()) out.push_back({0, std::as_bytes(mine)});
  } else {
    const std::int64_t begin = layout.slice(bucket, 0, 1).begin;
    whole = AlignedBuffer(layout.slice(bucket, 0, 1).count());
    for (int r = 0; r < comm.size(); ++r) {
      const ArenaSlice slice = layout.slice(bucket, r, comm.size());
      const std::span<float> place = whole.subspan(slice.begin - begin, slice.end - begin);
      if (r == 0) std::copy(mine.begin(), mine.end(), place.begin());
      if (r != 0 && !place.empty()) in.push_back({r, std::as_writable_bytes(place)});
    }
  }
  comm.exchange(out, in);
  return whole;
}

// The same where one rank has all of it.
AlignedBuffer fetch_bucket(Communicator& comm, const ArenaSlice& slice, int holder,
                           std::span<float> arena) {
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  AlignedBuffer whole(comm.rank() == 0 ? slice.count() : 0);
  if (comm.rank() == holder) {
    const std::span<float> values = arena.subspan(static_cast<std::size_t>(slice.begin),
                                                  static_cast<std::size_t>(slice.count()));
    if (holder == 0) {
      std::copy(values.begin(), values.end(), whole.data());
    } else {
      out.push_back({0, std::as_bytes(values)});
    }
  } else if (comm.rank() == 0) {
    in.push_back({holder, std::as_writable_bytes(whole.span())});
  }
  comm.exchange(out, in);
  return whole;
}

// Rank 0's failure must not keep the others waiting: it goes on collecting and throws at the end.
std::optional<io::FileDigest> write_optimizer(Communicator& comm, const fs::path& folder,
                                              TrainingState& state,
                                              std::optional<io::Error>& failure) {
  const ArenaLayout& layout = state.weights.layout;
  std::optional<io::HashingFile> file;
  const auto attempt = [&](auto&& body) {
    if (comm.rank() != 0 || failure) return;
    try {
      body();
    } catch (const std::exception& exception) {
      failure = io::as_error(exception);
    }
  };
  attempt([&] {
    std::vector<io::TensorEntry> entries = state_entries(state);
    const std::string header = io::layout_safetensors(entries, {{"format", "pt"}});
    file.emplace(folder / "optimizer.safetensors");
    file->reserve(io::file_bytes(header, entries));
    file->append(std::as_bytes(std::span(header)));
  });
  const auto append = [&](std::size_t b, AlignedBuffer bucket) {
    const ArenaSlice slice = layout.slice(b, 0, 1);
    attempt([&] {
      append_blocks(*file, layout, bucket.span(), slice.first_block, slice.last_block, slice.begin);
    });
  };
  for (std::size_t s = 0; s < state.optimizer.state_names().size(); ++s) {
    for (std::size_t b = 0; b < layout.bucket_count(); ++b) {
      append(b, collect_bucket(comm, layout, b, state.optimizer.state(s, b)));
    }
  }
  for (std::int64_t part = 0; state.rounding && part < state.rounding->part_count(); ++part) {
    const int holder = state.rounding->speaker(part);
    const std::span<float> values =
        comm.rank() == holder ? state.rounding->left_out(part) : std::span<float>();
    for (std::size_t b = 0; b < layout.bucket_count(); ++b) {
      append(b, fetch_bucket(comm, layout.slice(b, 0, 1), holder, values));
    }
  }
  std::optional<io::FileDigest> digest;
  attempt([&] { digest = file->close(); });
  return digest;
}

// The owned part of one state, block by block from its place in the file.
void read_state(const io::SafetensorsHeader& header, int fd, const fs::path& path,
                const ArenaLayout& layout, const std::string& state, const ArenaSlice& slice,
                std::span<float> out) {
  for (std::size_t k = slice.first_block; k < slice.last_block; ++k) {
    const ArenaBlock& block = layout.blocks()[k];
    const ArenaEntry& entry = layout.entries()[block.entry];
    const io::TensorEntry* stored = header.find(state + "/" + entry.name);
    if (stored == nullptr || stored->shape != entry.shape || stored->dtype != io::DType::f32) {
      throw io::Error(io::ErrorKind::checkpoint,
                      fmt::format("{} has no {} of {} with the shape {}", path.string(), state,
                                  entry.name, io::to_string(entry.shape)));
    }
    const std::int64_t offset =
        stored->begin + (block.offset - entry.offset) * static_cast<std::int64_t>(sizeof(float));
    io::read_at(
        fd,
        std::as_writable_bytes(out.subspan(static_cast<std::size_t>(block.offset - slice.begin),
                                           static_cast<std::size_t>(block.count))),
        offset, path);
  }
}

}  // namespace

std::int64_t checkpoint_bytes(TrainingState& state) {
  std::vector<io::TensorEntry> entries = state_entries(state);
  const std::string header = io::layout_safetensors(entries, {{"format", "pt"}});
  std::int64_t bytes = io::file_bytes(header, entries);
  state.weights.for_each_parameter(
      [&](const ArenaEntry&, std::span<float> values) { bytes += std::ssize(values) * 4; });
  return bytes;
}

fs::path save_checkpoint(Communicator& comm, io::CheckpointStore* store, const Model& model,
                         TrainingState& state, json run) {
  const std::int64_t step = state.progress.step;
  io::CheckpointManifest manifest{.step = step, .files = {}, .run = std::move(run)};
  manifest.run["progress"] = to_json(state.progress);
  std::optional<io::Error> failure;
  fs::path folder;
  if (comm.rank() == 0) {
    try {
      folder = store->begin(step);
      manifest.files.push_back(write_model(folder / "model.safetensors", model, state.weights));
    } catch (const std::exception& exception) {
      failure = io::as_error(exception);
    }
  }
  const auto digest = write_optimizer(comm, folder, state, failure);
  if (comm.rank() == 0 && !failure) {
    try {
      manifest.files.push_back(*digest);
      folder = store->commit(manifest);
    } catch (const std::exception& exception) {
      failure = io::as_error(exception);
    }
  }
  if (failure) store->abandon(step);
  agree_on_failure(comm, "saving a checkpoint", failure);
  return folder;
}

bool load_fork(Communicator& comm, const fs::path& folder, const json& run, const Model& model,
               TrainingState& state) {
  bool same = false;
  run_collectively(comm, "looking at the fork's optimizer", [&] {
    const auto header = io::read_safetensors_header(folder / "optimizer.safetensors");
    const auto wanted = state_entries(state);
    same = header.tensors.size() == wanted.size() &&
           std::all_of(wanted.begin(), wanted.end(), [&](const io::TensorEntry& entry) {
             return header.find(entry.name) != nullptr;
           });
  });
  if (same) {
    load_checkpoint(comm, folder, run, model, state);
  } else {
    run_collectively(comm, "reading a checkpoint",
                     [&] { read_model(folder / "model.safetensors", {}, model, state.weights); });
    state.optimizer.start_from(state.weights.parameters);
  }
  // Its schedule, order and best start anew; AdamW's bias correction follows its states.
  state.progress = {.updates = same ? state.progress.updates : 0};
  return same;
}

void load_checkpoint(Communicator& comm, const fs::path& folder, const json& run,
                     const Model& model, TrainingState& state) {
  run_collectively(comm, "reading a checkpoint", [&] {
    read_model(folder / "model.safetensors", {}, model, state.weights);
    const fs::path path = folder / "optimizer.safetensors";
    const io::SafetensorsHeader header = io::read_safetensors_header(path);
    const io::UniqueFd fd = io::open_for_reading(path);
    for (std::size_t s = 0; s < state.optimizer.state_names().size(); ++s) {
      for (std::size_t b = 0; b < state.weights.layout.bucket_count(); ++b) {
        read_state(header, fd.get(), path, state.weights.layout, state.optimizer.state_names()[s],
                   state.weights.layout.slice(b, comm.rank(), comm.size()),
                   state.optimizer.state(s, b));
      }
    }
    for (std::int64_t part = 0; state.rounding && part < state.rounding->part_count(); ++part) {
      if (state.rounding->speaker(part) != comm.rank()) continue;
      for (std::size_t b = 0; b < state.weights.layout.bucket_count(); ++b) {
        const ArenaSlice slice = state.weights.layout.slice(b, 0, 1);
        read_state(header, fd.get(), path, state.weights.layout, wire_state(part), slice,
                   state.rounding->left_out(part).subspan(static_cast<std::size_t>(slice.begin),
                                                          static_cast<std::size_t>(slice.count())));
      }
    }
    state.progress = progress_from(run.at("progress"));
  });
}

}  // namespace hadal::engine
