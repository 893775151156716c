#include "launch/pack_options.hpp"

#include <CLI/CLI.hpp>

#include "launch/number_list.hpp"

namespace hadal::launch {
namespace {

template <class Enum>
using Names = std::map<std::string, Enum>;

// An option whose words stand for values.
template <class Enum>
CLI::Option* choose(CLI::App& verb, const std::string& name, Enum& value, const std::string& help,
                    const Names<Enum>& names) {
  std::vector<std::string> words;
  std::string shown;
  for (const auto& [word, meaning] : names) {
    words.push_back(word);
    if (meaning == value) shown = word;
  }
  return verb
      .add_option_function<std::string>(
          name, [&value, names](const std::string& word) { value = names.at(word); }, help)
      ->check(CLI::IsMember(words))
      ->default_str(shown);
}

void shape_option(CLI::App& verb, const std::string& name, io::Shape& shape,
                  const std::string& help) {
  verb.add_option_function<std::string>(
      name, [&shape, name](const std::string& text) { shape = number_list(text, name); }, help);
}

}  // namespace

void add_pack_options(CLI::App& verb, io::PackOptions& options) {
  using io::SourceKind;
  verb.add_option("SOURCE", options.sources,
                  "A table, two .npy files (inputs, targets), one .npz, a folder, text files, or "
                  "HDF5 files")
      ->required();
  verb.add_option("--output", options.output, "Folder for the shards")->required();
  choose<SourceKind>(verb, "--as", options.kind, "What the source is; else told from its name",
                     {{"auto", SourceKind::automatic},
                      {"table", SourceKind::table},
                      {"arrays", SourceKind::arrays},
                      {"hdf5", SourceKind::datasets},
                      {"images", SourceKind::images},
                      {"audio", SourceKind::audio},
                      {"text", SourceKind::text}});
  const std::string tables = "Tables and arrays";
  verb.add_option("--input", options.input_columns,
                  "Input columns: names, numbers, ranges: 0-63; of an .npz, the array")
      ->group(tables);
  verb.add_option("--target", options.target_columns, "The same for the targets")->group(tables);
  shape_option(verb, "--shape", options.input_shape, "Shape of an input, 1,8,8");
  verb.get_option("--shape")->group(tables);
  choose<io::DType>(verb, "--input-dtype", options.input_dtype, "Type of the inputs",
                    {{"float32", io::DType::f32}, {"uint8", io::DType::u8}})
      ->group(tables);
  choose<io::DType>(verb, "--target-dtype", options.target_dtype, "Type of the targets",
                    {{"int64", io::DType::i64}, {"float32", io::DType::f32}})
      ->group(tables);
  verb.add_option("--delimiter", options.delimiter, "Between fields of a table")
      ->capture_default_str()
      ->group(tables);

  shape_option(verb, "--size", options.image_size,
               "HEIGHT,WIDTH: the middle of each image in this aspect, in this size");
  verb.get_option("--size")->group("Images");
  verb.add_option("--channels", options.channels, "1 for grey, 3 for colours")
      ->check(CLI::IsMember({1, 3}))
      ->capture_default_str()
      ->group("Images");

  verb.add_option("--sample-rate", options.sample_rate, "Of all sounds, in Hz")
      ->check(CLI::Range(1000, 1000000))
      ->capture_default_str()
      ->group("Audio: log-mel spectrograms");
  verb.add_option("--seconds", options.seconds, "Of a sample: cut, or filled with silence")
      ->check(CLI::Range(0.025, 3600.0))
      ->capture_default_str()
      ->group("Audio: log-mel spectrograms");
  verb.add_option("--mels", options.mels, "Bands of pitch")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str()
      ->group("Audio: log-mel spectrograms");

  verb.add_option("--tokens", options.tokens,
                  "Bytes of a sample; its target is the same text one byte further")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str()
      ->group("Text");
  verb.add_option("--datasets", options.datasets, "Which ones; else all with a row a sample")
      ->delimiter(',')
      ->group("HDF5");

  const std::string shards = "Shards";
  verb.add_option("--shards", options.shards, "Training shards")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str()
      ->group(shards);
  verb.add_option("--valid", options.valid_fraction, "Share of the rows for validation")
      ->check(CLI::Range(0.0, 0.9))
      ->capture_default_str()
      ->group(shards);
  verb.add_option("--seed", options.seed, "Seed of the split and the order")
      ->capture_default_str()
      ->group(shards);
  choose<io::RowOrder>(verb, "--order", options.order,
                       "Of the rows; auto shuffles what comes class by class",
                       {{"auto", io::RowOrder::automatic},
                        {"source", io::RowOrder::source},
                        {"shuffled", io::RowOrder::shuffled}})
      ->group(shards);
  choose<io::ShardFilter>(verb, "--filter", options.layout.filter,
                          "Of chunks; gzip is read everywhere, lz4 and zstd faster",
                          {{"none", io::ShardFilter::none},
                           {"gzip", io::ShardFilter::gzip},
                           {"lz4", io::ShardFilter::lz4},
                           {"zstd", io::ShardFilter::zstd}})
      ->group(shards);
  verb.add_option("--chunk", options.layout.chunk_rows,
                  "Rows of a chunk; 0: contiguous, or with a filter what makes 256 KiB")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str()
      ->group(shards);
}

}  // namespace hadal::launch
