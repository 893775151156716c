#pragma once
// Everything that defines a run, as plain structs: the command line fills them from TOML, tests by
// hand. Defaults are those of the config's reference. Sizes in bytes, times in seconds.

#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "io/batch_reader.hpp"
#include "io/data_index.hpp"

namespace hadal::engine {

// A length of training: a number of steps, of epochs (fractions allowed), or of seconds.
struct Span {
  enum class Unit { steps, epochs, seconds };
  double value = 0;
  Unit unit = Unit::steps;
  bool operator==(const Span&) const = default;
};

enum class ShuffleChoice { automatic, none, full, block };
enum class OnProcessorChange { warn, stop };
enum class OnNonFinite { stop, skip };
enum class LossKind {
  cross_entropy,
  mean_squared_error,
  mean_absolute_error,
  huber,
  binary_cross_entropy
};
enum class OptimizerKind { sgd, adamw };
enum class ScheduleKind { constant, step, cosine, polynomial, one_cycle };

struct RunOptions {
  std::string name;
  std::filesystem::path dir;
  std::uint64_t seed = 0;
  int threads = 1;  // cores of one worker
  int workers = 0;  // of one rank; 0: as many as cores and memory allow
  std::string isa = "native";
  OnProcessorChange on_processor_change = OnProcessorChange::warn;
};

struct DataOptions {
  std::vector<std::string> train;
  std::vector<std::string> valid;
  std::vector<std::string> test;
  std::string train_group;  // put before every field's path
  std::string valid_group;
  std::string test_group;
  std::vector<io::FieldOptions> fields;  // inputs first
  ShuffleChoice shuffle = ShuffleChoice::automatic;
  std::int64_t block = 64;
  std::int64_t window = 0;
  bool drop_last = true;
  io::BatchOptions batch;
};

struct ModelOptions {
  std::string kind;
  nlohmann::json options = nlohmann::json::object();
  std::string weights;  // safetensors file; empty: initialised from the seed
  bool strict = true;
};

struct ObjectiveOptions {
  LossKind loss = LossKind::cross_entropy;
  double label_smoothing = 0;
  double huber_delta = 1;
  std::vector<double> class_weights;
  std::int64_t ignore_index = -100;
  std::vector<std::string> metrics;
  std::string best = "valid.loss";
  std::int64_t patience = 0;  // evaluations without a better value; 0: never stop early
};

struct TrainOptions {
  Span length;
  std::int64_t global_batch = 0;
  std::int64_t micro_batch = 0;
  std::optional<double> clip_norm;
  OnNonFinite on_nonfinite = OnNonFinite::stop;
  Span evaluate_every{1, Span::Unit::epochs};
};

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::sgd;
  double lr = 0.1;
  double momentum = 0;
  bool nesterov = false;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  // Globs over parameter names; unset: every parameter with fewer than two axes (norms and biases).
  std::optional<std::vector<std::string>> no_decay;
};

struct ScheduleOptions {
  ScheduleKind kind = ScheduleKind::constant;
  Span warmup;
  double floor = 0;              // smallest factor of the learning rate
  std::vector<Span> milestones;  // step
  double gamma = 0.1;            // step
  double power = 1;              // polynomial
};

struct CheckpointOptions {
  std::optional<Span> every;  // unset: so often that saving takes at most 2 % of the time
  std::int64_t keep = 3;
};

struct RunConfig {
  RunOptions run;
  DataOptions data;
  ModelOptions model;
  ObjectiveOptions objective;
  TrainOptions train;
  OptimizerOptions optimizer;
  ScheduleOptions schedule;
  CheckpointOptions checkpoint;
  double log_every_seconds = 5;
  // The identity keys with their resolved values, in the config's own spelling.
  nlohmann::json identity = nlohmann::json::object();
};

}  // namespace hadal::engine
