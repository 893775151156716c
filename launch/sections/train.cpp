#include "io/error.hpp"
#include "launch/sections/table.hpp"

namespace hadal::launch {

using engine::RunConfig;
using nlohmann::json;
using Kind = ValueKind;

void add_train(Table& table) {
  table.set("train.epochs", positive(), nullptr, Bound::identity,
            "Length of the run; this or train.steps.", [](RunConfig& c, const json& v) {
              c.train.length = {v.get<double>(), engine::Span::Unit::epochs};
            });
  table.set("train.steps", integer(1), nullptr, Bound::identity,
            "Length of the run; this or train.epochs.", [](RunConfig& c, const json& v) {
              c.train.length = {v.get<double>(), engine::Span::Unit::steps};
            });
  table
      .set("train.global_batch", integer(1), nullptr, Bound::identity,
           "Samples of one optimizer step, of the whole job.",
           [](RunConfig& c, const json& v) { c.train.global_batch = v; })
      .required = true;
  table
      .set("train.micro_batch", integer(1), nullptr, Bound::identity,
           "Samples of one forward and backward; divides global_batch.",
           [](RunConfig& c, const json& v) { c.train.micro_batch = v; })
      .required = true;
  table.set("train.clip_norm", positive(), nullptr, Bound::identity,
            "Largest norm of the gradient.",
            [](RunConfig& c, const json& v) { c.train.clip_norm = v.get<double>(); });
  table.set("train.ema", number(0, 1), nullptr, Bound::identity,
            "Decay of a moving average of the parameters: evaluated, and the model in the end.",
            [](RunConfig& c, const json& v) { c.optimizer.average = v.get<double>(); });
  table.set("train.on_nonfinite", choice({"stop", "skip"}), "stop", Bound::identity,
            "Stop at a step whose loss or gradient is not finite, or leave the step out.",
            [](RunConfig& c, const json& v) {
              c.train.on_nonfinite = pick<engine::OnNonFinite>(
                  v, {{"stop", engine::OnNonFinite::stop}, {"skip", engine::OnNonFinite::skip}});
            });
  table.set(
      "train.precision", choice({"float32", "bfloat16", "float16"}), "float32", Bound::identity,
      "Of the forward pass under autocast; weights, sums and the loss stay float32. With float16 "
      "the "
      "loss is scaled as by torch.amp.GradScaler.",
      [](RunConfig& c, const json& v) {
        c.train.precision = pick<engine::Precision>(v, {{"float32", engine::Precision::float32},
                                                        {"bfloat16", engine::Precision::bfloat16},
                                                        {"float16", engine::Precision::float16}});
      });
  table.set("train.tensor_float32", plain(Kind::boolean), false, Bound::identity,
            "On GPUs, products of float32 with 10 bits of fraction, which is faster.",
            [](RunConfig& c, const json& v) { c.train.tensor_float32 = v; });
  table.set(
      "train.layout", choice({"auto", "contiguous", "channels_last"}), "auto", Bound::identity,
      "Of images in memory, which gives other bits; auto: channels last for the convolutional "
      "networks of the zoo in lower precision.",
      [](RunConfig& c, const json& v) {
        c.train.layout =
            pick<engine::Layout>(v, {{"auto", engine::Layout::automatic},
                                     {"contiguous", engine::Layout::contiguous},
                                     {"channels_last", engine::Layout::channels_last}});
      });
  table.set(
      "train.order", choice({"canonical", "fast"}), "canonical", Bound::identity,
      "Of the gradients' sum; fast leaves it to the MPI library: other bits with other ranks.",
      [](RunConfig& c, const json& v) {
        c.train.order = pick<engine::SumOrder>(
            v, {{"canonical", engine::SumOrder::canonical}, {"fast", engine::SumOrder::fast}});
      });
  table.set("train.wire", choice({"float32", "bfloat16"}), "float32", Bound::identity,
            "Of gradients and parameters between hosts; what bfloat16 leaves out is made up for in "
            "the next step.",
            [](RunConfig& c, const json& v) {
              c.train.wire = pick<engine::Wire>(
                  v, {{"float32", engine::Wire::float32}, {"bfloat16", engine::Wire::bfloat16}});
            });
  table.set("train.wire_parts", integer(2), 4, Bound::identity,
            "Of a step, with wire = \"bfloat16\": a power of two, at least the number of hosts; of "
            "GPUs, each counts.",
            [](RunConfig& c, const json& v) { c.train.wire_parts = v; });
  table.set("train.evaluate_every", plain(Kind::span), "1ep", Bound::identity,
            "Between evaluations of the validation data.",
            [](RunConfig& c, const json& v) { c.train.evaluate_every = *parse_span(v); });
}

void add_checkpoint(Table& table) {
  table.set("checkpoint.every", plain(Kind::interval), "auto", Bound::free,
            "A length, a time, or auto: so seldom that saving takes at most 2 % of the time.",
            [](RunConfig& c, const json& v) {
              if (v == "auto") return;
              if (const auto span = parse_span(v)) {
                c.checkpoint.every = span;
              } else {
                c.checkpoint.every = engine::Span{*parse_duration(v), engine::Span::Unit::seconds};
              }
            });
  table.set("checkpoint.keep", integer(1), 3, Bound::free, "Checkpoints that stay.",
            [](RunConfig& c, const json& v) { c.checkpoint.keep = v; });
  table.set("checkpoint.keep_every", plain(Kind::span), nullptr, Bound::free,
            "Those of every so many steps or epochs stay for good, beside the newest.",
            [](RunConfig& c, const json& v) { c.checkpoint.keep_every = *parse_span(v); });
  table.set("checkpoint.asynchronous", plain(Kind::boolean), true, Bound::free,
            "Go on with training while a checkpoint is written; takes memory for a copy of it.",
            [](RunConfig& c, const json& v) { c.checkpoint.asynchronous = v; });
  table.set("checkpoint.on_full", choice({"stop", "continue"}), "stop", Bound::free,
            "Where a checkpoint cannot be written: stop, or go on and try again later.",
            [](RunConfig& c, const json& v) {
              c.checkpoint.on_full = pick<engine::OnFull>(
                  v, {{"stop", engine::OnFull::stop}, {"continue", engine::OnFull::go_on}});
            });
  table.set("log.every", plain(Kind::duration), "5s", Bound::free, "Time between progress lines.",
            [](RunConfig& c, const json& v) { c.log_every_seconds = *parse_duration(v); });
}

}  // namespace hadal::launch
