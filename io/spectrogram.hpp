#pragma once
// Sound as an image: how loud each band of pitch is, over time.

#include <cstdint>
#include <span>
#include <vector>

namespace hadal::io {

class MelSpectrogram {
 public:
  // Frames of 25 ms every 10 ms under a Hann window, `mels` triangular bands from 0 to half the
  // sample rate, evenly spaced in mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987).
  MelSpectrogram(std::int64_t sample_rate, std::int64_t mels);

  // Of a signal of so many samples.
  std::int64_t frames(std::int64_t samples) const;

  // log(power + 1e-6) of `signal`, [mels, frames].
  void compute(std::span<const float> signal, std::span<float> out) const;

 private:
  std::int64_t mels_;
  std::int64_t window_;     // samples
  std::int64_t hop_;        // samples
  std::int64_t transform_;  // the next power of two
  std::vector<double> hann_;
  std::vector<double> bands_;  // [mels, transform / 2 + 1]
};

}  // namespace hadal::io
