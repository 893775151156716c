#include <functional>
#include <tuple>

#include "io/error.hpp"
#include "launch/sections/table.hpp"

namespace hadal::launch {

using io::Transform;
using io::TransformKind;
using nlohmann::json;
using Kind = ValueKind;

namespace {

struct Member {
  MemberType type;
  std::function<void(Transform&, const json&)> apply;
};

struct Form {
  TransformKind kind;
  std::string name;
  std::string help;
  std::vector<Member> members;
};

// [least, most], both above 0.
std::pair<double, double> as_range(const json& value) {
  const std::vector<double> range = as_numbers(value);
  if (range.size() != 2 || range[0] <= 0 || range[1] < range[0]) {
    throw io::Error(io::ErrorKind::config, "a range must be [least, most], above 0");
  }
  return {range[0], range[1]};
}

const std::vector<Form>& forms() {
  const Member size{{"size", plain(Kind::numbers),
                     "Extents behind it, [224, 224]; also of an "
                     "evaluation's samples, from their middle."},
                    [](Transform& t, const json& v) { t.size = as_size(v); }};
  const Member alpha{{"alpha", positive(), "Of the Beta distribution of shares; 1: uniform."},
                     [](Transform& t, const json& v) { t.alpha = v; }};
  static const std::vector<Form> rows = {
      {TransformKind::crop,
       "crop",
       "A part of the sample, anywhere.",
       {size,
        {{"padding", integer(0, 1 << 20), "Put around the sample first: a stored 0."},
         [](Transform& t, const json& v) { t.padding = v; }}}},
      {TransformKind::resized_crop,
       "resized_crop",
       "A part of any area and aspect, brought to one size.",
       {size,
        {{"area", plain(Kind::numbers), "Share of the sample, [0.08, 1]."},
         [](Transform& t, const json& v) {
           std::tie(t.least_area, t.most_area) = as_range(v);
           if (t.most_area > 1) {
             throw io::Error(io::ErrorKind::config, "an area is a share of the sample, at most 1");
           }
         }},
        {{"aspect", plain(Kind::numbers), "Width over height, [0.75, 1.3333]."},
         [](Transform& t, const json& v) {
           std::tie(t.least_aspect, t.most_aspect) = as_range(v);
         }}}},
      {TransformKind::flip,
       "flip",
       "Mirrored along each of its axes or not.",
       {{{"axes", plain(Kind::text), "Letters of the layout, \"W\" or \"HW\"."},
         [](Transform& t, const json& v) { t.axes = v; }},
        {{"probability", number(0, 1), "Of each axis; 0.5."},
         [](Transform& t, const json& v) { t.probability = v; }}}},
      {TransformKind::rotate, "rotate", "By right angles; oblongs by half turns.", {}},
      {TransformKind::noise,
       "noise",
       "Gaussian, on normalised values.",
       {{{"std", positive(), "Standard deviation."},
         [](Transform& t, const json& v) { t.deviation = v; }}}},
      {TransformKind::mixup, "mixup", "Blended with the next sample of its micro-batch.", {alpha}},
      {TransformKind::cutmix,
       "cutmix",
       "With a box of the next sample of its micro-batch.",
       {alpha}},
  };
  return rows;
}

}  // namespace

io::Shape as_size(const json& value) {
  io::Shape size;
  for (const double extent : as_numbers(value)) {
    if (extent < 1 || extent != static_cast<double>(static_cast<std::int64_t>(extent))) {
      throw io::Error(io::ErrorKind::config, "a size must be whole numbers from 1");
    }
    size.push_back(static_cast<std::int64_t>(extent));
  }
  return size;
}

ValueType transforms_type() {
  ValueType type = plain(Kind::tables);
  for (const Form& form : forms()) {
    TableForm& made = type.forms.emplace_back();
    made.kind = form.name;
    made.help = form.help;
    for (const Member& member : form.members) made.members.push_back(member.type);
  }
  return type;
}

std::vector<Transform> as_transforms(const json& value) {
  std::vector<Transform> transforms;
  for (const json& table : value) {
    for (const Form& form : forms()) {
      if (form.name != table.at("kind").get<std::string>()) continue;
      Transform& made = transforms.emplace_back();
      made.kind = form.kind;
      for (const Member& member : form.members) {
        if (table.contains(member.type.name)) member.apply(made, table.at(member.type.name));
      }
      if (made.kind == TransformKind::noise && made.deviation == 0) {
        throw io::Error(io::ErrorKind::config, "noise needs its std");
      }
    }
  }
  return transforms;
}

}  // namespace hadal::launch
