#include <fmt/format.h>

#include "io/error.hpp"
#include "io/sources/row_source.hpp"
#ifdef HADAL_HAS_SNDFILE
#include <sndfile.h>

#include "io/spectrogram.hpp"
#include "io/unique_handle.hpp"
#endif

namespace hadal::io {
#ifdef HADAL_HAS_SNDFILE
namespace {

struct SoundTraits {
  using Handle = SNDFILE*;
  static constexpr Handle null() noexcept { return nullptr; }
  static void close(Handle file) noexcept { sf_close(file); }
};

class AudioSource : public RowSource {
 public:
  explicit AudioSource(const PackOptions& options)
      : options_(options),
        found_(list_classes(options.sources[0], {".wav", ".flac", ".ogg"})),
        samples_(
            static_cast<std::int64_t>(options.seconds * static_cast<double>(options.sample_rate))),
        spectrogram_(options.sample_rate, options.mels) {
    if (spectrogram_.frames(samples_) > 0) return;
    throw Error(ErrorKind::usage, "--seconds is shorter than one frame of 25 ms");
  }

  std::int64_t rows() override { return std::ssize(found_.files); }
  std::vector<ShardField> fields() const override {
    return {{options_.input_path, DType::f32, {1, options_.mels, spectrogram_.frames(samples_)}},
            {options_.target_path, DType::i64, {}}};
  }
  void read(std::int64_t row, std::span<const std::span<std::byte>> fields) override {
    const ClassFolder::File& file = found_.files[static_cast<std::size_t>(row)];
    spectrogram_.compute(signal_of(file.path), {reinterpret_cast<float*>(fields[0].data()),
                                                fields[0].size() / sizeof(float)});
    const auto label = std::as_bytes(std::span(&file.label, 1));
    std::copy(label.begin(), label.end(), fields[1].begin());
  }
  std::vector<std::string> class_names() const override { return found_.classes; }

 private:
  // The first seconds, all channels averaged, silence behind the end.
  std::vector<float> signal_of(const std::filesystem::path& path) const {
    SF_INFO info{};
    const UniqueHandle<SoundTraits> file(sf_open(path.c_str(), SFM_READ, &info));
    if (!file) {
      throw Error(ErrorKind::data, fmt::format("{}: {}", path.string(), sf_strerror(nullptr)));
    }
    if (info.samplerate != options_.sample_rate) {
      throw Error(ErrorKind::data,
                  fmt::format("{} has {} samples a second, --sample-rate says {}", path.string(),
                              info.samplerate, options_.sample_rate));
    }
    const auto channels = static_cast<std::size_t>(info.channels);
    std::vector<float> mixed(static_cast<std::size_t>(samples_) * channels, 0.0f);
    sf_readf_float(file.get(), mixed.data(), samples_);
    std::vector<float> signal(static_cast<std::size_t>(samples_), 0.0f);
    for (std::size_t i = 0; i < signal.size(); ++i) {
      for (std::size_t c = 0; c < channels; ++c) signal[i] += mixed[i * channels + c];
      signal[i] /= static_cast<float>(channels);
    }
    return signal;
  }

  const PackOptions& options_;
  ClassFolder found_;
  std::int64_t samples_;
  MelSpectrogram spectrogram_;
};

}  // namespace

std::unique_ptr<RowSource> open_audio(const PackOptions& options) {
  return std::make_unique<AudioSource>(options);
}
#else
std::unique_ptr<RowSource> open_audio(const PackOptions&) {
  throw Error(ErrorKind::usage, "this build reads no sounds: libsndfile was not there");
}
#endif

}  // namespace hadal::io
