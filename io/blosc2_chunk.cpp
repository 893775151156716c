#include "io/blosc2_chunk.hpp"

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#ifdef HADAL_HAS_BLOSC2
#include <b2nd.h>
#include <blosc2.h>
#endif

namespace hadal::io {
#ifdef HADAL_HAS_BLOSC2

bool has_blosc2() { return true; }

bool unpack_blosc2(std::span<const std::byte> in, std::span<std::byte> out) {
  static std::once_flag once;
  std::call_once(once, blosc2_init);
  // The library wants to be able to write into it.
  thread_local std::vector<std::uint8_t> frame;
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(in.data());
  frame.assign(bytes, bytes + in.size());
  const auto length = static_cast<std::int64_t>(frame.size());
  const std::unique_ptr<blosc2_schunk, decltype(&blosc2_schunk_free)> chunks(
      blosc2_schunk_from_buffer(frame.data(), length, /*copy=*/false), blosc2_schunk_free);
  if (chunks == nullptr) return false;
  blosc2_schunk_avoid_cframe_free(chunks.get(), true);
  if (blosc2_meta_exists(chunks.get(), "b2nd") < 0) {
    const auto wanted = static_cast<std::int32_t>(out.size());
    return chunks->nchunks == 1 &&
           blosc2_schunk_decompress_chunk(chunks.get(), 0, out.data(), wanted) == wanted;
  }
  b2nd_array_t* made = nullptr;
  if (b2nd_from_cframe(frame.data(), length, /*copy=*/true, &made) < 0) return false;
  const std::unique_ptr<b2nd_array_t, decltype(&b2nd_free)> array(made, b2nd_free);
  const auto size = static_cast<std::int64_t>(out.size());
  return array->nitems * array->sc->typesize == size &&
         b2nd_to_cbuffer(array.get(), out.data(), size) >= 0;
}

#else

bool has_blosc2() { return false; }

bool unpack_blosc2(std::span<const std::byte>, std::span<std::byte>) { return false; }

#endif
}  // namespace hadal::io
