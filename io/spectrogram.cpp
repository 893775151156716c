#include "io/spectrogram.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <numbers>

namespace hadal::io {
namespace {

double to_mel(double hertz) { return 2595 * std::log10(1 + hertz / 700); }
double to_hertz(double mel) { return 700 * (std::pow(10, mel / 2595) - 1); }

// In place, of a power of two values (Cooley and Tukey 1965).
void transform(std::vector<std::complex<double>>& values) {
  const std::size_t count = values.size();
  for (std::size_t i = 1, j = 0; i < count; ++i) {
    std::size_t bit = count >> 1;
    for (; (j & bit) != 0; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) std::swap(values[i], values[j]);
  }
  for (std::size_t size = 2; size <= count; size *= 2) {
    for (std::size_t k = 0; k < size / 2; ++k) {
      const std::complex<double> turn = std::polar(
          1.0, -2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(size));
      for (std::size_t begin = k; begin < count; begin += size) {
        const std::complex<double> odd = values[begin + size / 2] * turn;
        values[begin + size / 2] = values[begin] - odd;
        values[begin] += odd;
      }
    }
  }
}

}  // namespace

MelSpectrogram::MelSpectrogram(std::int64_t sample_rate, std::int64_t mels)
    : mels_(mels),
      window_(std::max<std::int64_t>(2, sample_rate / 40)),
      hop_(std::max<std::int64_t>(1, sample_rate / 100)),
      transform_(static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(window_)))) {
  for (std::int64_t i = 0; i < window_; ++i) {
    const double turn = static_cast<double>(i) / static_cast<double>(window_);
    hann_.push_back(0.5 - 0.5 * std::cos(2 * std::numbers::pi * turn));
  }
  const std::int64_t bins = transform_ / 2 + 1;
  const double top = to_mel(static_cast<double>(sample_rate) / 2);
  const auto edge = [&](std::int64_t k) {
    return to_hertz(top * static_cast<double>(k) / static_cast<double>(mels + 1));
  };
  bands_.assign(static_cast<std::size_t>(mels * bins), 0.0);
  for (std::int64_t m = 0; m < mels; ++m) {
    const double left = edge(m), centre = edge(m + 1), right = edge(m + 2);
    for (std::int64_t b = 0; b < bins; ++b) {
      const double hertz = static_cast<double>(b * sample_rate) / static_cast<double>(transform_);
      const double weight =
          std::min((hertz - left) / (centre - left), (right - hertz) / (right - centre));
      bands_[static_cast<std::size_t>(m * bins + b)] = std::max(0.0, weight);
    }
  }
}

std::int64_t MelSpectrogram::frames(std::int64_t samples) const {
  return samples < window_ ? 0 : 1 + (samples - window_) / hop_;
}

void MelSpectrogram::compute(std::span<const float> signal, std::span<float> out) const {
  const std::int64_t count = frames(std::ssize(signal)), bins = transform_ / 2 + 1;
  std::vector<std::complex<double>> values(static_cast<std::size_t>(transform_));
  for (std::int64_t t = 0; t < count; ++t) {
    std::fill(values.begin(), values.end(), 0.0);
    for (std::int64_t i = 0; i < window_; ++i) {
      values[static_cast<std::size_t>(i)] =
          hann_[static_cast<std::size_t>(i)] * signal[static_cast<std::size_t>(t * hop_ + i)];
    }
    transform(values);
    for (std::int64_t m = 0; m < mels_; ++m) {
      double power = 0;
      for (std::int64_t b = 0; b < bins; ++b) {
        power += bands_[static_cast<std::size_t>(m * bins + b)] *
                 std::norm(values[static_cast<std::size_t>(b)]);
      }
      out[static_cast<std::size_t>(m * count + t)] = static_cast<float>(std::log(power + 1e-6));
    }
  }
}

}  // namespace hadal::io
