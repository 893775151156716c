#include "launch/sections/table.hpp"

namespace hadal::launch {

using engine::RunConfig;
using nlohmann::json;
using Kind = ValueKind;

namespace {

engine::GroupOptions& group(RunConfig& config, const std::string& name) {
  for (engine::GroupOptions& existing : config.optimizer.groups) {
    if (existing.name == name) return existing;
  }
  config.optimizer.groups.push_back({.name = name});
  return config.optimizer.groups.back();
}

void add_groups(Table& table) {
  const auto each = [&](const std::string& key, ValueType type, json otherwise,
                        const std::string& help,
                        void (*apply)(engine::GroupOptions&, const json&)) {
    table.add("optimizer.group.*." + key, std::move(type), std::move(otherwise), Bound::identity,
              help, [apply](RunConfig& c, const std::string& name, const json& v) {
                apply(group(c, name), v);
              });
  };
  each("match", plain(Kind::texts), nullptr, "Globs over parameter names.",
       [](engine::GroupOptions& g, const json& v) { g.match = as_list(v); });
  table.rows.back().required = true;
  each("freeze", plain(Kind::boolean), false, "No gradient, no optimizer state, no reduction.",
       [](engine::GroupOptions& g, const json& v) { g.freeze = v; });
  each("until", plain(Kind::span), nullptr, "Frozen only until then.",
       [](engine::GroupOptions& g, const json& v) { g.until = *parse_span(v); });
  each("keep_statistics", plain(Kind::boolean), false,
       "Batch norm of these parameters stays in evaluation mode.",
       [](engine::GroupOptions& g, const json& v) { g.keep_statistics = v; });
  each("lr_scale", number(0), 1.0, "Factor of the learning rate.",
       [](engine::GroupOptions& g, const json& v) { g.lr_scale = v; });
  each("weight_decay", number(0), nullptr, "Instead of optimizer.weight_decay.",
       [](engine::GroupOptions& g, const json& v) { g.weight_decay = v.get<double>(); });
}

}  // namespace

void add_optimizer(Table& table) {
  table
      .set("optimizer.kind", choice({"sgd", "adamw", "lamb", "lars"}), nullptr, Bound::identity,
           "The update rule; lamb and lars scale it layer by layer, for large batches.",
           [](RunConfig& c, const json& v) {
             c.optimizer.kind =
                 pick<engine::OptimizerKind>(v, {{"sgd", engine::OptimizerKind::sgd},
                                                 {"adamw", engine::OptimizerKind::adamw},
                                                 {"lamb", engine::OptimizerKind::lamb},
                                                 {"lars", engine::OptimizerKind::lars}});
           })
      .required = true;
  table
      .set("optimizer.lr", positive(), nullptr, Bound::identity,
           "Learning rate, never scaled by the number of ranks.",
           [](RunConfig& c, const json& v) { c.optimizer.lr = v; })
      .required = true;
  table.set("optimizer.momentum", number(0, 1), 0.0, Bound::identity, "Of sgd and lars.",
            [](RunConfig& c, const json& v) { c.optimizer.momentum = v; });
  table.set("optimizer.nesterov", plain(Kind::boolean), false, Bound::identity, "Of sgd.",
            [](RunConfig& c, const json& v) { c.optimizer.nesterov = v; });
  table.set("optimizer.betas", plain(Kind::numbers), json::array({0.9, 0.999}), Bound::identity,
            "Of adamw.", [](RunConfig& c, const json& v) {
              const std::vector<double> betas = as_numbers(v);
              if (betas.size() != 2) return;  // refused with the other faults
              c.optimizer.beta1 = betas.front();
              c.optimizer.beta2 = betas.back();
            });
  table.set("optimizer.eps", positive(), 1e-8, Bound::identity, "Of adamw.",
            [](RunConfig& c, const json& v) { c.optimizer.eps = v; });
  table.set("optimizer.weight_decay", number(0), 0.0, Bound::identity,
            "Pull towards zero: decoupled for adamw, in the gradient for sgd.",
            [](RunConfig& c, const json& v) { c.optimizer.weight_decay = v; });
  table.set(
      "optimizer.no_decay", plain(Kind::texts), nullptr, Bound::identity,
      "Globs of parameters without decay; unset: all with fewer than two axes (norms and biases).",
      [](RunConfig& c, const json& v) { c.optimizer.no_decay = as_list(v); });
  add_groups(table);
}

void add_schedule(Table& table) {
  table.set("schedule.kind", choice({"constant", "step", "cosine", "polynomial", "one_cycle"}),
            "constant", Bound::identity, "How the learning rate moves.",
            [](RunConfig& c, const json& v) {
              using S = engine::ScheduleKind;
              c.schedule.kind = pick<S>(v, {{"constant", S::constant},
                                            {"step", S::step},
                                            {"cosine", S::cosine},
                                            {"polynomial", S::polynomial},
                                            {"one_cycle", S::one_cycle}});
            });
  table.set("schedule.warmup", plain(Kind::span), 0, Bound::identity, "Linear rise at the start.",
            [](RunConfig& c, const json& v) { c.schedule.warmup = *parse_span(v); });
  table.set("schedule.floor", number(0, 1), 0.0, Bound::identity,
            "Smallest factor of the learning rate.",
            [](RunConfig& c, const json& v) { c.schedule.floor = v; });
  table.set("schedule.milestones", plain(Kind::spans), json::array(), Bound::identity, "Of step.",
            [](RunConfig& c, const json& v) {
              for (const json& one : v) c.schedule.milestones.push_back(*parse_span(one));
            });
  table.set("schedule.gamma", positive(), 0.1, Bound::identity, "Factor at each milestone of step.",
            [](RunConfig& c, const json& v) { c.schedule.gamma = v; });
  table.set("schedule.power", positive(), 1.0, Bound::identity, "Of polynomial.",
            [](RunConfig& c, const json& v) { c.schedule.power = v; });
}

}  // namespace hadal::launch
