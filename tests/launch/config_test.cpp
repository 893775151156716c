#include "launch/config.hpp"

#include <fstream>

#include "io/atomic_file.hpp"
#include "launch/schema.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

const std::string kGood = R"([data]
train = "train-*.h5"
inputs.image.path = "x"
targets.label.path = "y"
[model]
kind = "mlp"
options = { classes = 10 }
[train]
epochs = 2
global_batch = 64
micro_batch = 8
[optimizer]
kind = "sgd"
lr = 1e-4
)";

launch::LoadedConfig load(const std::string& text, const std::vector<std::string>& settings = {}) {
  const tests::TemporaryFolder folder;
  std::ofstream(folder / "run.toml") << text;
  return launch::load_config(folder / "run.toml", settings);
}

std::string fault(const std::string& text, const std::vector<std::string>& settings = {}) {
  return tests::error_of(io::ErrorKind::config, [&] { load(text, settings); });
}

std::string replaced(const std::string& from, const std::string& to) {
  std::string text = kGood;
  return text.replace(text.find(from), from.size(), to);
}

}  // namespace

TEST_CASE("a good config is filled, defaults and identity included") {
  const auto config =
      load(kGood, {"train.epochs=3", "run.name=first", "objective.metrics=[\"accuracy\"]"});
  REQUIRE(config.run.optimizer.lr == 1e-4);
  REQUIRE(config.run.train.length == engine::Span{3, engine::Span::Unit::epochs});
  REQUIRE(config.run.run.name == "first");
  REQUIRE(config.run.data.fields.size() == 2);
  REQUIRE(config.run.data.fields[1].classes == 10);
  REQUIRE(config.run.identity.at("train.epochs") == "3");
  REQUIRE(config.run.identity.at("run.seed") == "0");
  REQUIRE_FALSE(config.run.identity.contains("run.dir"));
  REQUIRE_FALSE(config.run.identity.contains("data.train"));
  const std::string text = launch::resolved_text(config);
  REQUIRE(tests::contains(text, "train.epochs = 3  # --set"));
  REQUIRE(tests::contains(text, "optimizer.lr = 0.0001  # "));
  REQUIRE(tests::contains(text, "run.toml:14:1"));
  REQUIRE(tests::contains(text, "run.seed = 0  # default"));
}

TEST_CASE("every fault is named with its place, all at once") {
  const std::string both = fault(replaced("lr = 1e-4", "lrr = 1e-4\nmomentum = \"0.9\""));
  REQUIRE(tests::contains(both, "3 faults"));
  REQUIRE(
      tests::contains(both, "run.toml:14:1: optimizer.lrr is no key; did you mean optimizer.lr?"));
  REQUIRE(tests::contains(both, "run.toml:15:1: optimizer.momentum = \"0.9\" must be a number"));
  REQUIRE(tests::contains(both, "optimizer.lr is missing"));
  for (const std::string bad : {"\"1e-4\"", "-1", "0", "nan", "inf"}) {
    CAPTURE(bad);
    REQUIRE(tests::contains(fault(replaced("lr = 1e-4", "lr = " + bad)), "optimizer.lr = "));
  }
  for (const std::string broken : {"lr = 1e-4,", "lr = 1e-4\nlr = 2", "lr = 010", "lr ="}) {
    CAPTURE(broken);
    REQUIRE(tests::contains(fault(replaced("lr = 1e-4", broken)), "run.toml:1"));
  }
  REQUIRE(tests::contains(fault(replaced("kind = \"sgd\"", "kind = \"sdg\"")),
                          "must be one of \"sgd\", \"adamw\""));
  REQUIRE(tests::contains(fault(replaced("epochs = 2", "epochs = 2\nsteps = 5")), "both set"));
  REQUIRE(tests::contains(fault(replaced("micro_batch = 8", "micro_batch = 7")), "no multiple"));
  REQUIRE(tests::contains(fault(replaced("options = { classes = 10 }", "")),
                          "model.options.classes is missing"));
  REQUIRE(tests::contains(fault(replaced("inputs.image.path", "inputs.image.pth")),
                          "did you mean data.inputs.image.path?"));
  REQUIRE(tests::contains(fault(kGood, {"objective.best=valid.acuracy"}), "objective.best"));
  REQUIRE(tests::contains(fault(kGood, {"optimizer.betas=[0.9]"}), "list of two"));
  REQUIRE(tests::contains(fault(kGood, {"optimizer.betas=[]"}), "list of two"));
  REQUIRE(tests::contains(fault(kGood, {"model.script=a.pt"}),
                          "model.kind and model.script are set; keep one"));
  const std::string wire = "train.wire=bfloat16";
  REQUIRE(tests::contains(fault(kGood, {wire, "train.precision=float16"}), "take one of them"));
  REQUIRE(tests::contains(fault(kGood, {wire, "train.wire_parts=3"}), "must be a power of two"));
  REQUIRE(
      tests::contains(fault(kGood, {wire, "train.wire_parts=1024"}), "micro-batches of a step"));
  REQUIRE(tests::contains(fault(kGood, {wire, "train.wire_parts=2", "train.order=fast"}),
                          "leaves the sum to the MPI library"));
  REQUIRE(tests::contains(
      fault(std::string(kGood) + "\n[[optimizer.group]]\nmatch = [\"*\"]\nuntil = \"3st\"\n"),
      "optimizer.group.0.until says when freeze ends"));
  REQUIRE(tests::error_of(io::ErrorKind::usage, [] {
            load(kGood, {"train.epochs"});
          }).starts_with("--set"));
}

TEST_CASE("sizes, spans, times and paths are read with their units") {
  const auto config =
      load(kGood, {"data.memory=64MiB", "checkpoint.every=10m", "schedule.warmup=0.5ep",
                   "log.every=1:00:05", "train.evaluate_every=7st"});
  REQUIRE(config.run.data.batch.memory_bytes == 64 << 20);
  REQUIRE(*config.run.checkpoint.every == engine::Span{600, engine::Span::Unit::seconds});
  REQUIRE(config.run.schedule.warmup == engine::Span{0.5, engine::Span::Unit::epochs});
  REQUIRE(config.run.log_every_seconds == 3605);
  REQUIRE(config.run.train.evaluate_every == engine::Span{7, engine::Span::Unit::steps});
  for (const std::string bad :
       {"data.memory=64MB", "schedule.warmup=1.5st", "log.every=5x", "schedule.warmup=-1ep"}) {
    CAPTURE(bad);
    REQUIRE(tests::contains(fault(kGood, {bad}), "must be"));
  }
  REQUIRE(tests::contains(fault(kGood, {"run.dir=${NO_SUCH_VARIABLE_HERE}/x"}),
                          "NO_SUCH_VARIABLE_HERE"));
}

TEST_CASE("an including file wins over the included one, paths start at their own file") {
  const tests::TemporaryFolder folder;
  std::filesystem::create_directory(folder / "base");
  std::ofstream(folder / "base" / "base.toml") << kGood;
  std::ofstream(folder / "run.toml") << "include = \"base/base.toml\"\n[train]\nepochs = 9\n";
  const auto config = launch::load_config(folder / "run.toml", {});
  REQUIRE(config.run.train.length.value == 9);
  REQUIRE(config.run.data.train.at(0) == (folder / "base" / "train-*.h5").string());
  std::ofstream(folder / "loop.toml") << "include = \"loop.toml\"\n";
  REQUIRE(tests::contains(tests::error_of(io::ErrorKind::config,
                                          [&] { launch::load_config(folder / "loop.toml", {}); }),
                          "includes itself"));
}

TEST_CASE("every config of the project loads, and the reference has every key") {
  const std::filesystem::path configs = std::filesystem::path(HADAL_SOURCE_DIR) / "configs";
  for (const auto& entry : std::filesystem::directory_iterator(configs)) {
    CAPTURE(entry.path().string());
    REQUIRE_NOTHROW(launch::load_config(entry.path(), {}));
  }
  const std::string reference = io::read_file(configs / "reference.toml");
  for (const launch::KeySpec& row : launch::schema()) {
    const std::string last = row.key.substr(row.key.rfind('.') + 1);
    CAPTURE(row.key);
    REQUIRE((last == "*" || tests::contains(reference, last)));
    REQUIRE_FALSE(row.help.empty());
  }
}

TEST_CASE("the JSON Schema has every key with its default") {
  const auto schema = launch::json_schema();
  const auto& train = schema.at("properties").at("train");
  REQUIRE(train.at("properties").at("evaluate_every").at("default") == "1ep");
  REQUIRE(train.at("required").size() == 2);
  REQUIRE(schema.at("properties")
              .at("data")
              .at("properties")
              .at("inputs")
              .at("additionalProperties")
              .at("properties")
              .contains("path"));
}
