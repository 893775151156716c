#include "engine/input_scaling.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "engine/comm/collectively.hpp"
#include "engine/statistics.hpp"
#include "io/atomic_file.hpp"
#include "io/json.hpp"
#include "io/log.hpp"

namespace hadal::engine {
namespace {

bool measures(const DataOptions& data) {
  return std::any_of(data.fields.begin(), data.fields.end(), [](const io::FieldOptions& field) {
    return field.measures_mean || field.measures_std;
  });
}

// What the file holds of these training data; without them, of whatever it was measured on. Empty:
// nothing.
std::string known_statistics(const std::filesystem::path& file, const io::DataIndex* training) {
  if (!std::filesystem::exists(file)) return "";
  const std::string text = io::read_file(file);
  const nlohmann::json known = io::parse_json(text);
  if (!known.contains("data") || !known.contains("inputs")) return "";
  return training == nullptr || known["data"] == training->fingerprint ? text : "";
}

nlohmann::json measured_statistics(Communicator& comm, const io::DataIndex& training,
                                   const io::BatchOptions& options) {
  if (comm.rank() == 0) io::log_info("measuring mean and deviation of the training data");
  nlohmann::json document = {{"data", training.fingerprint}, {"samples", training.samples}};
  for (const InputStatistics& input : measure_inputs(comm, training, options)) {
    document["inputs"][input.name] = {{"mean", input.mean}, {"std", input.std}};
  }
  return document;
}

void set_statistics(const nlohmann::json& document, io::FieldOptions& field) {
  const nlohmann::json& own = document.at("inputs").at(field.name);
  if (field.measures_mean) own.at("mean").get_to(field.mean);
  if (!field.measures_std) return;
  own.at("std").get_to(field.std);
  const auto still = std::find(field.std.begin(), field.std.end(), 0.0);
  if (still == field.std.end()) return;
  throw io::Error(io::ErrorKind::data,
                  fmt::format("channel {} of data.inputs.{} has the same value everywhere: its "
                              "deviation is 0; give std as numbers",
                              still - field.std.begin(), field.name));
}

void set_statistics(const nlohmann::json& document, DataOptions& data) {
  for (io::FieldOptions& field : data.fields) {
    if (field.measures_mean || field.measures_std) set_statistics(document, field);
  }
}

std::filesystem::path file_of(const RunConfig& config) {
  return config.run.dir / "statistics.json";
}

std::string shared_statistics(Communicator& comm, const RunConfig& config,
                              const io::DataIndex* training) {
  std::string text;
  run_collectively(comm, "reading the statistics", [&] {
    if (comm.rank() == 0) text = known_statistics(file_of(config), training);
  });
  return broadcast_text(comm, text);
}

}  // namespace

void settle_scaling(Communicator& comm, RunConfig& config, io::DataIndex& training,
                    io::DataIndex& validation) {
  if (!measures(config.data)) return;
  std::string text = shared_statistics(comm, config, &training);
  if (text.empty()) {
    text = measured_statistics(comm, training, config.data.batch).dump(1);
    run_collectively(comm, "writing the statistics", [&] {
      if (comm.rank() == 0) io::write_file_atomically(file_of(config), text);
    });
  }
  run_collectively(comm, "scaling the inputs", [&] {
    set_statistics(io::parse_json(text), config.data);
    for (io::DataIndex* index : {&training, &validation}) {
      for (std::size_t f = 0; f < index->fields.size(); ++f) {
        index->fields[f].options.mean = config.data.fields[f].mean;
        index->fields[f].options.std = config.data.fields[f].std;
      }
    }
  });
}

DataOptions with_known_scaling(Communicator& comm, const RunConfig& config) {
  DataOptions data = config.data;
  if (!measures(data)) return data;
  const std::string text = shared_statistics(comm, config, nullptr);
  run_collectively(comm, "scaling the inputs", [&] {
    if (text.empty()) {
      throw io::Error(io::ErrorKind::checkpoint,
                      fmt::format("{} is missing, which holds what mean and std = \"auto\" were in "
                                  "training; train first, or write the numbers into the config",
                                  file_of(config).string()));
    }
    set_statistics(io::parse_json(text), data);
  });
  return data;
}

}  // namespace hadal::engine
