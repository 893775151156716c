#include "io/heap_objects.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cstring>

#include "io/error.hpp"
#include "io/raw_reader.hpp"

namespace hadal::io {
namespace {

// Of a heap, and of each object in it.
constexpr std::size_t kHeader = 16;
// From here on a length is looked at before memory is asked for.
constexpr std::uint32_t kLarge = 1 << 20;

template <class Number>
Number number(std::span<const std::byte> bytes, std::size_t at) {
  Number value{};
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

struct Place {
  std::uint32_t length = 0;
  std::uint64_t address = 0;
  std::uint32_t index = 0;

  explicit Place(std::span<const std::byte> stored)
      : length(number<std::uint32_t>(stored, 0)),
        address(number<std::uint64_t>(stored, 4)),
        index(number<std::uint32_t>(stored, 12)) {}
  bool is_empty() const { return length == 0; }
};

std::uint64_t file_bytes(const HeapReference& reference) {
  struct stat status {};
  ::fstat(reference.fd, &status);
  return static_cast<std::uint64_t>(status.st_size);
}

Error leads_nowhere(const HeapReference& reference) {
  return {ErrorKind::data, fmt::format("{}: a reference to bytes of variable length leads nowhere; "
                                       "the file is damaged",
                                       *reference.path)};
}

// The object among those that lie whole in these first bytes of its heap.
std::span<const std::byte> find(std::span<const std::byte> heap, const Place& place) {
  std::size_t at = kHeader;
  while (at + kHeader <= heap.size()) {
    const auto index = number<std::uint16_t>(heap, at);
    const auto size = number<std::uint64_t>(heap, at + 8);
    if (index == 0 || size > heap.size() - at - kHeader) return {};
    if (index == place.index) {
      if (size < place.length) return {};
      return heap.subspan(at + kHeader, place.length);
    }
    at += kHeader + (size + 7) / 8 * 8;
  }
  return {};
}

}  // namespace

std::vector<std::span<const std::byte>> read_heap_objects(std::span<const HeapReference> references,
                                                          RecycledBytes& memory) {
  // An object that is alone in its heap, as all large ones are, lies right behind the two headers.
  std::vector<std::size_t> starts{0};
  for (const HeapReference& reference : references) {
    const Place place(reference.stored);
    if (place.length > kLarge && place.length > file_bytes(reference)) {
      throw leads_nowhere(reference);
    }
    starts.push_back(starts.back() + (place.is_empty() ? 0 : 2 * kHeader + place.length));
  }
  memory.resize(starts.back());
  std::vector<RawRead> reads;
  for (std::size_t i = 0; i < references.size(); ++i) {
    const HeapReference& reference = references[i];
    const Place place(reference.stored);
    if (place.is_empty()) continue;
    if (place.address > std::uint64_t{1} << 62) throw leads_nowhere(reference);
    reads.push_back({reference.fd, reference.base + static_cast<std::int64_t>(place.address),
                     std::span(memory).subspan(starts[i], starts[i + 1] - starts[i]),
                     reference.path});
  }
  read_all(std::move(reads));
  std::vector<std::span<const std::byte>> objects;
  std::vector<std::byte> whole;
  for (std::size_t i = 0; i < references.size(); ++i) {
    const HeapReference& reference = references[i];
    const Place place(reference.stored);
    const std::span<std::byte> read =
        std::span(memory).subspan(starts[i], starts[i + 1] - starts[i]);
    if (place.is_empty()) {
      objects.emplace_back();
      continue;
    }
    if (std::memcmp(read.data(), "GCOL", 4) != 0) throw leads_nowhere(reference);
    std::span<const std::byte> object = find(read, place);
    if (object.empty()) {
      // One of several in its heap.
      const std::int64_t at = reference.base + static_cast<std::int64_t>(place.address);
      const auto bytes = number<std::uint64_t>(read, 8);
      if (bytes > file_bytes(reference)) throw leads_nowhere(reference);
      whole.resize(bytes);
      read_all({{reference.fd, at, whole, reference.path}});
      const std::span<const std::byte> found = find(whole, place);
      if (found.empty()) throw leads_nowhere(reference);
      std::copy(found.begin(), found.end(), read.begin());
      object = read.first(found.size());
    }
    objects.push_back(object);
  }
  return objects;
}

}  // namespace hadal::io
