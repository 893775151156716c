#include "io/error.hpp"
#include "launch/sections/table.hpp"

namespace hadal::launch {

using engine::RunConfig;
using nlohmann::json;
using Kind = ValueKind;

namespace {

io::FieldOptions& field(RunConfig& config, io::FieldRole role, const std::string& name) {
  for (io::FieldOptions& existing : config.data.fields) {
    if (existing.role == role && existing.name == name) return existing;
  }
  io::FieldOptions made;
  made.name = name;
  made.role = role;
  config.data.fields.push_back(made);
  return config.data.fields.back();
}

std::vector<std::int64_t> as_whole_numbers(const json& value) {
  std::vector<std::int64_t> list;
  for (const double number : as_numbers(value)) {
    list.push_back(static_cast<std::int64_t>(number));
    if (number < 0 || static_cast<double>(list.back()) != number) {
      throw io::Error(io::ErrorKind::config, "must be whole numbers from 0");
    }
  }
  return list;
}

}  // namespace

void add_data(Table& table) {
  table
      .set("data.train", plain(Kind::paths), nullptr, Bound::free,
           "Training files: paths or patterns.",
           [](RunConfig& c, const json& v) { c.data.train = as_list(v); })
      .required = true;
  table.set("data.valid", plain(Kind::paths), nullptr, Bound::free, "Validation files.",
            [](RunConfig& c, const json& v) { c.data.valid = as_list(v); });
  table.set("data.test", plain(Kind::paths), nullptr, Bound::free, "Test files.",
            [](RunConfig& c, const json& v) { c.data.test = as_list(v); });
  table.set("data.group.train", plain(Kind::text), nullptr, Bound::identity,
            "HDF5 group that holds the training datasets, where one file holds several splits.",
            [](RunConfig& c, const json& v) { c.data.train_group = v; });
  table.set("data.group.valid", plain(Kind::text), nullptr, Bound::identity,
            "The same for validation.",
            [](RunConfig& c, const json& v) { c.data.valid_group = v; });
  table.set("data.group.test", plain(Kind::text), nullptr, Bound::identity, "The same for test.",
            [](RunConfig& c, const json& v) { c.data.test_group = v; });
  table.set(
      "data.shuffle", choice({"auto", "full", "block", "none"}), "auto", Bound::identity,
      "Order of samples: a full permutation, blocks of rows mixed in windows, or as stored.",
      [](RunConfig& c, const json& v) {
        using S = engine::ShuffleChoice;
        c.data.shuffle = pick<S>(
            v, {{"auto", S::automatic}, {"full", S::full}, {"block", S::block}, {"none", S::none}});
      });
  table.set("data.block", integer(1), 64, Bound::identity,
            "Rows of a block where files have no chunks.",
            [](RunConfig& c, const json& v) { c.data.block = v; });
  table.set(
      "data.window", integer(0), 0, Bound::identity,
      "Blocks that a stream mixes at a time; 0: a tenth of the stream, at least 8, at most 768 MiB "
      "for all streams.",
      [](RunConfig& c, const json& v) { c.data.window = v; });
  table.set("data.memory", plain(Kind::size), "1GiB", Bound::free,
            "Cache for data blocks of a rank.",
            [](RunConfig& c, const json& v) { c.data.batch.memory_bytes = *parse_size(v); });
  table.set("data.readers", integer(1), 2, Bound::free, "Threads of a rank that read and decode.",
            [](RunConfig& c, const json& v) { c.data.batch.readers = v; });
  table.set(
      "data.direct", plain(Kind::boolean), false, Bound::free,
      "Read past the system's cache (O_DIRECT): for data that do not fit into memory, on fast "
      "disks.",
      [](RunConfig& c, const json& v) { c.data.batch.direct = v; });
  table.set("data.stage", plain(Kind::text), nullptr, Bound::free,
            "Copy the files to this folder of each node before training; auto: $SLURM_TMPDIR, or "
            "else $TMPDIR.",
            [](RunConfig& c, const json& v) {
              c.data.stage = v;
              if (c.data.stage == "auto" || c.data.stage.starts_with('/')) return;
              throw io::Error(io::ErrorKind::config, "must be \"auto\" or an absolute path");
            });
  table.set("data.drop_last", plain(Kind::boolean), true, Bound::identity,
            "Leave out the samples that do not fill a last step.",
            [](RunConfig& c, const json& v) { c.data.drop_last = v; });
  table.set("data.check_finite", choice({"batch", "off"}), "batch", Bound::free,
            "Look for NaN and infinity in every batch.", [](RunConfig& c, const json& v) {
              c.data.batch.check_finite = pick<io::CheckFinite>(
                  v, {{"batch", io::CheckFinite::batch}, {"off", io::CheckFinite::off}});
            });
  table.set("data.on_bad_sample", choice({"stop", "skip"}), "stop", Bound::identity,
            "Stop at a sample with such values, or leave it out.", [](RunConfig& c, const json& v) {
              c.data.batch.on_bad_sample = pick<io::OnBadSample>(
                  v, {{"stop", io::OnBadSample::stop}, {"skip", io::OnBadSample::skip}});
            });
}

void add_sample_fields(Table& table) {
  const auto weights = [](RunConfig& c) -> io::FieldOptions& {
    io::FieldOptions& made = field(c, io::FieldRole::weight, "weights");
    made.dtype = io::DType::f32;
    return made;
  };
  const auto ids = [](RunConfig& c) -> io::FieldOptions& {
    if (!c.data.ids) {
      c.data.ids = io::FieldOptions{.name = "ids",
                                    .role = io::FieldRole::id,
                                    .path = {},
                                    .files = {},
                                    .dtype = io::DType::i64};
    }
    return *c.data.ids;
  };
  table.set("data.weights.path", plain(Kind::text), nullptr, Bound::identity,
            "Dataset with one weight a sample, for the loss.",
            [weights](RunConfig& c, const json& v) { weights(c).path = v; });
  table.set("data.weights.file", plain(Kind::paths), nullptr, Bound::free,
            "Its own files, where they are others.",
            [weights](RunConfig& c, const json& v) { weights(c).files = as_list(v); });
  table.set("data.ids.path", plain(Kind::text), nullptr, Bound::free,
            "Dataset with one whole number a sample, its name in predictions.",
            [ids](RunConfig& c, const json& v) { ids(c).path = v; });
  table.set("data.ids.file", plain(Kind::paths), nullptr, Bound::free,
            "Its own files, where they are others.",
            [ids](RunConfig& c, const json& v) { ids(c).files = as_list(v); });
}

void add_fields(Table& table, const std::string& prefix, io::FieldRole role, const char* dtype) {
  const auto each = [&](const std::string& key, ValueType type, json otherwise, Bound bound,
                        const std::string& help, void (*apply)(io::FieldOptions&, const json&)) {
    table.add(prefix + "." + key, std::move(type), std::move(otherwise), bound, help,
              [role, apply](RunConfig& c, const std::string& name, const json& v) {
                apply(field(c, role, name), v);
              });
  };
  each("path", plain(Kind::text), nullptr, Bound::identity,
       "Dataset inside the files; dataset:column, object@attribute, * for any name.",
       [](io::FieldOptions& f, const json& v) { f.path = v; });
  table.rows.back().required = true;
  each("file", plain(Kind::paths), nullptr, Bound::free, "Its own files, where they are others.",
       [](io::FieldOptions& f, const json& v) { f.files = as_list(v); });
  each("one_sample", plain(Kind::boolean), nullptr, Bound::identity,
       "All of a dataset is one sample, not a row of it.",
       [](io::FieldOptions& f, const json& v) { f.one_sample = v; });
  each("series", plain(Kind::boolean), nullptr, Bound::identity,
       "A dataset is [series, rows, ...]: its rows are samples, windows stay inside a series.",
       [](io::FieldOptions& f, const json& v) { f.series = v; });
  each("offsets", plain(Kind::text), nullptr, Bound::identity,
       "Dataset with the row where each sample begins, where they have different numbers of rows.",
       [](io::FieldOptions& f, const json& v) { f.offsets = v; });
  each("lengths", plain(Kind::text), nullptr, Bound::identity,
       "The same by how many rows each sample has.",
       [](io::FieldOptions& f, const json& v) { f.lengths = v; });
  each("pad", plain(Kind::number), nullptr, Bound::identity,
       "Fills up, as stored, samples with fewer rows than the window.",
       [](io::FieldOptions& f, const json& v) { f.pad = v.get<double>(); });
  each("window", plain(Kind::numbers), nullptr, Bound::identity,
       "[first, rows]: a sample is so many rows, from so many behind its own (series over time).",
       [](io::FieldOptions& f, const json& v) {
         const std::vector<std::int64_t> window = as_whole_numbers(v);
         if (window.size() != 2 || window[1] < 1) {
           throw io::Error(io::ErrorKind::config, "must be [first, rows], rows from 1");
         }
         f.window_first = window[0];
         f.window_rows = window[1];
       });
  each(
      "dtype", choice({"float32", "int64"}), dtype, Bound::identity,
      "Type in the batch; conversions lose nothing but the rounding of float64.",
      [](io::FieldOptions& f, const json& v) { f.dtype = *io::dtype_named(v.get<std::string>()); });
  each("decode", plain(Kind::numbers), nullptr, Bound::identity,
       "Rows are JPEG or PNG images: [height, width] that the middle of each is brought to.",
       [](io::FieldOptions& f, const json& v) {
         f.decode = as_size(v);
         if (f.decode.size() == 2) return;
         throw io::Error(io::ErrorKind::config, "must be [height, width]");
       });
  each("channels", integer(1, 3), nullptr, Bound::identity,
       "Of decoded images: 1 grey, 3 colours (the default).",
       [](io::FieldOptions& f, const json& v) {
         f.channels = v;
         if (f.channels == 2) throw io::Error(io::ErrorKind::config, "must be 1 or 3");
       });
  each("layout", plain(Kind::text), nullptr, Bound::identity,
       "How a stored batch's axes are ordered, \"NHWC\"; channels are put first.",
       [](io::FieldOptions& f, const json& v) { f.layout = v; });
  each("log1p", plain(Kind::numbers), nullptr, Bound::identity,
       "Channels, by their numbers from 0, that become log(1 + x) before everything else.",
       [](io::FieldOptions& f, const json& v) { f.log1p = as_whole_numbers(v); });
  each("scale", plain(Kind::number), nullptr, Bound::identity, "Multiplies the values first.",
       [](io::FieldOptions& f, const json& v) { f.scale = v.get<double>(); });
  // Only inputs are measured.
  const Kind numbers = role == io::FieldRole::input ? Kind::numbers_or_auto : Kind::numbers;
  each("mean", plain(numbers), nullptr, Bound::identity,
       "Subtracted after the scale: one number or one a channel; auto: of the training data.",
       [](io::FieldOptions& f, const json& v) {
         f.measures_mean = v == "auto";
         if (!f.measures_mean) f.mean = as_numbers(v);
       });
  each("std", plain(numbers), nullptr, Bound::identity,
       "Divides last: one number or one a channel; auto: of the training data.",
       [](io::FieldOptions& f, const json& v) {
         f.measures_std = v == "auto";
         if (!f.measures_std) f.std = as_numbers(v);
       });
  each("augment", transforms_type(), nullptr, Bound::identity,
       "Random transforms of training samples, in this order; equal lists move fields alike.",
       [](io::FieldOptions& f, const json& v) { f.augment = as_transforms(v); });
  if (role == io::FieldRole::target) {
    each("one_hot", plain(Kind::boolean), false, Bound::identity,
         "Stored one-hot; becomes the class index.",
         [](io::FieldOptions& f, const json& v) { f.one_hot = v; });
  }
}

}  // namespace hadal::launch
