#pragma once
// Everything that defines a run, as plain structs: the command line fills them from TOML, tests by
// hand. Defaults are those of the config's reference. Sizes in bytes, times in seconds.

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
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
enum class Overlap { automatic, always, never };
enum class DeviceWish { automatic, cpu, cuda, twin };
enum class OnNonFinite { stop, skip };
enum class OnFull { stop, go_on };
enum class Precision { float32, bfloat16, float16 };
enum class Layout { automatic, contiguous, channels_last };
enum class SumOrder { canonical, fast };
enum class Wire { float32, bfloat16 };
enum class LossKind {
  cross_entropy,
  mean_squared_error,
  mean_absolute_error,
  huber,
  binary_cross_entropy,
  dice
};
enum class OptimizerKind { sgd, adamw, lamb, lars };
enum class ScheduleKind { constant, step, cosine, polynomial, one_cycle };

struct RunOptions {
  std::string name;
  std::filesystem::path dir;
  std::uint64_t seed = 0;
  DeviceWish device = DeviceWish::automatic;
  bool share_gpus = false;  // several ranks may compute on one
  // Of a GPU: only algorithms that give the same bits each time.
  bool deterministic = true;
  bool graphs = true;  // of a GPU: forward and backward are recorded once and replayed
  int threads = 1;     // cores of one worker
  int workers = 0;     // of one rank; 0: as many as cores and memory allow
  std::string isa = "native";
  OnProcessorChange on_processor_change = OnProcessorChange::warn;
  double collective_timeout = 1800;  // seconds that a rank waits for others before it names them
  double deadline = 0;               // seconds from the start of the program; 0: none
  Overlap overlap = Overlap::automatic;  // of the reduction between hosts with backward
};

struct DataOptions {
  std::vector<std::string> train;
  std::vector<std::string> valid;
  std::vector<std::string> test;
  std::string train_group;  // put before every field's path
  std::string valid_group;
  std::string test_group;
  std::vector<io::FieldOptions> fields;  // inputs first, then targets, then weights of samples
  std::optional<io::FieldOptions> ids;   // names of samples, for predictions
  ShuffleChoice shuffle = ShuffleChoice::automatic;
  std::int64_t block = 64;
  std::int64_t window = 0;
  bool drop_last = true;
  std::string stage;  // folder of each host's own for copies of the files; empty: none are made
  io::BatchOptions batch;
};

// The names of the targets, in order.
inline std::vector<std::string> target_names(const DataOptions& data) {
  std::vector<std::string> names;
  for (const io::FieldOptions& field : data.fields) {
    if (field.role == io::FieldRole::target) names.push_back(field.name);
  }
  return names;
}

struct ModelOptions {
  std::string kind;                            // of the zoo; or
  std::string program;                         // a torch.export archive; or
  std::string script;                          // a TorchScript archive
  std::map<std::string, std::string> options;  // of the kind; name to value as JSON
  std::string weights;  // safetensors file, index or folder; empty: from the seed or the program
  bool strict = true;
  std::vector<std::pair<std::string, std::string>> key_map;  // regular expression, replacement
  std::vector<std::string> reset;                            // globs of parameters drawn anew
};

struct LossOptions {
  LossKind kind = LossKind::cross_entropy;
  double label_smoothing = 0;
  double huber_delta = 1;
  std::vector<double> class_weights;
  std::int64_t ignore_index = -100;
  bool class_targets = true;  // dice: class indices, not one value a place
};

// One loss of a target against an output of the model.
struct TermOptions {
  std::string target;                 // "": the only one
  std::optional<std::size_t> output;  // unset: the target's place among the targets
  double weight = 1;
  LossOptions loss;
  std::vector<std::string> metrics;
};

struct ObjectiveOptions {
  std::vector<TermOptions> terms{TermOptions{}};
  std::string best = "valid.loss";
  std::int64_t patience = 0;  // evaluations without a better value; 0: never stop early
};

struct TrainOptions {
  Span length;
  std::int64_t global_batch = 0;
  std::int64_t micro_batch = 0;
  std::optional<double> clip_norm;
  OnNonFinite on_nonfinite = OnNonFinite::stop;
  Precision precision = Precision::float32;  // of the forward pass; weights stay float32
  bool tensor_float32 = false;               // of a GPU: float32 products with 10 bits of fraction
  Layout layout = Layout::automatic;         // of images in memory, which decides about kernels
  SumOrder order = SumOrder::canonical;
  Wire wire = Wire::float32;    // of gradients and parameters between hosts
  std::int64_t wire_parts = 4;  // of a step, each rounded for itself; a power of two
  Span evaluate_every{1, Span::Unit::epochs};
};

// Parameters that are trained in another way; the last group that matches a name holds.
struct GroupOptions {
  std::string name;  // its number
  std::vector<std::string> match;
  bool freeze = false;
  std::optional<Span> until;     // frozen only until then
  bool keep_statistics = false;  // batch norm of these parameters stays in evaluation mode
  double lr_scale = 1;
  std::optional<double> weight_decay;
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
  std::optional<double> average;  // decay of the moving average of the parameters (train.ema)
  std::vector<GroupOptions> groups;
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
  std::optional<Span> keep_every;  // steps that are multiples of it stay for good
  bool asynchronous = true;        // training goes on while one is written
  OnFull on_full = OnFull::stop;
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
  // The identity keys in the config's own spelling, to their resolved values as JSON.
  std::map<std::string, std::string> identity;
};

}  // namespace hadal::engine
