#include "launch/config.hpp"

#include "io/error.hpp"
#include "tests/fuzz/target.hpp"

using namespace hadal;

void fuzz_one(const std::string& input) {
  try {
    const auto config =
        launch::resolve(launch::parse_config(input, "/folder/config.toml"), "/folder/config.toml");
    static_cast<void>(launch::resolved_text(config));
  } catch (const io::Error& error) {
    if (error.kind() != io::ErrorKind::config) throw;
  }
}

std::vector<std::string> fuzz_corpus() {
  return {R"([run]
seed = 3
dir = "runs/${HOME}/x"
[data]
train = ["a.h5", "b*.h5"]
memory = "64MiB"
[data.inputs.image]
path = "x"
mean = [0.5, 0.5]
[data.targets.label]
path = "y"
[model]
kind = "mlp"
options = { classes = 10, hidden = [8], dropout = 0.5 }
[objective]
metrics = ["accuracy", "top5_accuracy"]
best = "valid.accuracy"
[train]
epochs = 1.5
global_batch = 64
micro_batch = 8
evaluate_every = "10st"
[optimizer]
kind = "adamw"
lr = 1e-3
betas = [0.9, 0.95]
no_decay = ["*.bias"]
[schedule]
kind = "step"
milestones = ["3ep", 50]
[checkpoint]
every = "1:00:00"
)",
          "a.b.c = 1\n[data]\ntrain = 5\n[[x]]\ny = 1979-05-27T07:32:00Z\n"};
}
