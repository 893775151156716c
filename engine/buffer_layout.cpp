#include "engine/buffer_layout.hpp"

#include <algorithm>
#include <utility>

namespace hadal::engine {
namespace {

std::size_t bytes_of(const BufferSpec& spec) {
  return static_cast<std::size_t>(io::element_count(spec.shape) * io::size_bytes(spec.dtype));
}

template <class T>
void fill(std::span<std::byte> bytes, double value) {
  std::span<T> values(reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T));
  std::fill(values.begin(), values.end(), static_cast<T>(value));
}

}  // namespace

std::size_t BufferLayout::add(BufferSpec spec) {
  constexpr std::size_t kAlignment = 16;
  offsets_.push_back((offsets_.back() + bytes_of(spec) + kAlignment - 1) / kAlignment * kAlignment);
  specs_.push_back(std::move(spec));
  return specs_.size() - 1;
}

BufferValues BufferLayout::initial() const {
  BufferValues values{.bytes = std::vector<std::byte>(offsets_.back())};
  for (std::size_t i = 0; i < size(); ++i) {
    if (specs_[i].dtype == io::DType::f32) fill<float>(of(values, i), specs_[i].value);
    if (specs_[i].dtype == io::DType::i64) fill<std::int64_t>(of(values, i), specs_[i].value);
  }
  return values;
}

std::span<std::byte> BufferLayout::of(BufferValues& values, std::size_t number) const {
  return std::span(values.bytes).subspan(offsets_[number], bytes_of(specs_[number]));
}

std::span<const std::byte> BufferLayout::of(const BufferValues& values, std::size_t number) const {
  return std::span(values.bytes).subspan(offsets_[number], bytes_of(specs_[number]));
}

}  // namespace hadal::engine
