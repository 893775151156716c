#include "io/stored_rows.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "io/error.hpp"
#include "io/hdf5_guard.hpp"

namespace hadal::io {
namespace {

template <class Word>
void swap_words(std::span<std::byte> bytes) {
  for (std::size_t at = 0; at + sizeof(Word) <= bytes.size(); at += sizeof(Word)) {
    Word word;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    if constexpr (sizeof(Word) == 2) word = __builtin_bswap16(word);
    if constexpr (sizeof(Word) == 4) word = __builtin_bswap32(word);
    if constexpr (sizeof(Word) == 8) word = __builtin_bswap64(word);
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
}

void swap_bytes(std::span<std::byte> bytes, std::int64_t size) {
  if (size == 2) swap_words<std::uint16_t>(bytes);
  if (size == 4) swap_words<std::uint32_t>(bytes);
  if (size == 8) swap_words<std::uint64_t>(bytes);
}

}  // namespace

StoredRows::StoredRows(const StoredDataset& stored, const RawFile& file, std::int64_t first,
                       std::int64_t count, std::span<std::byte> out)
    : stored_(stored), file_(file), first_(first), count_(count), out_(out), target_(out) {
  const Extents& extents = stored.extents;
  for (std::size_t d = 1; d < stored.stored_axes(); ++d) width_ *= stored.shape[d];
  if (stored.record_bytes > 0) {
    records_.resize(static_cast<std::size_t>(count * row_bytes()));
    target_ = records_;
  }
  if (extents.storage != Extents::Storage::chunked) return;
  const std::size_t axes = extents.chunk.size();
  chunk_bytes_ = element_count(extents.chunk) * stored.stored_element_bytes();
  fills_rows_ =
      std::equal(extents.chunk.begin() + 1, extents.chunk.end(), stored.shape.begin() + 1);
  std::int64_t across = 1;  // chunks side by side in the same rows
  for (std::size_t d = 1; d < axes; ++d) {
    across *= (stored.shape[d] + extents.chunk[d] - 1) / extents.chunk[d];
  }
  const std::int64_t rows = extents.chunk[0];
  for (std::int64_t r = first / rows; r * rows < first + count; ++r) {
    for (std::int64_t n = 0; n < across; ++n) {
      Piece piece{.extent = &extents.chunks[static_cast<std::size_t>(r * across + n)],
                  .start = std::vector<std::int64_t>(axes, 0),
                  .raw = {}};
      std::int64_t rest = n;
      for (std::size_t d = axes; d-- > 1;) {
        const std::int64_t width = (stored.shape[d] + extents.chunk[d] - 1) / extents.chunk[d];
        piece.start[d] = rest % width * extents.chunk[d];
        rest /= width;
      }
      piece.start[0] = r * rows;
      if (!reads_in_place(piece)) raw_bytes_ += piece.extent->bytes;
      pieces_.push_back(std::move(piece));
    }
  }
}

// Stored as it is needed, and whole.
bool StoredRows::reads_in_place(const Piece& piece) const {
  return stored_.extents.filters.empty() && fills_rows_ && stored_.extents.series == 1 &&
         piece.start[0] >= first_ && piece.start[0] + stored_.extents.chunk[0] <= first_ + count_ &&
         piece.extent->bytes == chunk_bytes_;
}

void StoredRows::add_reads(std::span<std::byte> raw, std::vector<RawRead>& reads) {
  if (stored_.extents.storage == Extents::Storage::memory) {
    const auto at = static_cast<std::ptrdiff_t>(first_ * row_bytes());
    std::copy_n(stored_.extents.values->begin() + at, target_.size(), target_.begin());
    return;
  }
  if (stored_.extents.storage == Extents::Storage::contiguous) {
    reads.push_back(file_.read(stored_.extents.offset + first_ * row_bytes(), target_));
    return;
  }
  std::size_t used = 0;
  for (Piece& piece : pieces_) {
    std::span<std::byte> to;
    if (reads_in_place(piece)) {
      to = target_.subspan(static_cast<std::size_t>((piece.start[0] - first_) * row_bytes()),
                           piece.extent->bytes);
    } else {
      to = raw.subspan(used, piece.extent->bytes);
      used += piece.extent->bytes;
    }
    piece.raw = to;
    reads.push_back(file_.read(piece.extent->offset, to));
  }
}

void StoredRows::finish() {
  for (const Piece& piece : pieces_) {
    if (!reads_in_place(piece)) decode(piece);
  }
  if (stored_.record_bytes > 0) {
    const std::int64_t records = count_ * width_;
    const auto bytes = out_.size() / static_cast<std::size_t>(std::max<std::int64_t>(1, records));
    const std::byte* from = records_.data() + stored_.record_offset;
    for (std::int64_t r = 0; r < records; ++r, from += stored_.record_bytes) {
      std::memcpy(out_.data() + static_cast<std::size_t>(r) * bytes, from, bytes);
    }
  }
  if (stored_.big_endian) swap_bytes(out_, size_bytes(stored_.dtype));
}

void StoredRows::decode(const Piece& piece) {
  const Extents& extents = stored_.extents;
  const ChunkFilters filters(extents.filters, chunk_bytes_ * extents.series);
  const bool whole = fills_rows_ && extents.series == 1 && piece.start[0] >= first_ &&
                     piece.start[0] + extents.chunk[0] <= first_ + count_;
  thread_local std::vector<std::byte> memory;
  std::span<std::byte> chunk;
  if (whole) {
    chunk = target_.subspan(static_cast<std::size_t>((piece.start[0] - first_) * row_bytes()),
                            static_cast<std::size_t>(chunk_bytes_));
  } else {
    const auto bytes = static_cast<std::size_t>(chunk_bytes_ * extents.series);
    if (memory.size() < bytes) memory.resize(bytes);
    chunk = std::span(memory).first(bytes);
  }
  std::optional<Hdf5Guard> guard;
  if (filters.may_crash()) guard.emplace(file_.path().c_str());
  const std::string fault = filters.decode(piece.raw, piece.extent->mask, chunk);
  if (!fault.empty()) {
    const std::int64_t last = std::min(piece.start[0] + extents.chunk[0], stored_.rows()) - 1;
    throw Error(ErrorKind::data,
                fmt::format("{}:{} cannot be read in rows {} to {}: {}", file_.path(), stored_.path,
                            piece.start[0], last, fault));
  }
  if (whole) return;
  const auto part = static_cast<std::size_t>(chunk_bytes_);
  copy_part(piece, chunk.subspan(static_cast<std::size_t>(extents.place) * part, part));
}

// What the chunk and the wanted rows have in common, line by line of the last axis.
void StoredRows::copy_part(const Piece& piece, std::span<const std::byte> chunk) {
  const Shape& extent = stored_.extents.chunk;
  const Shape& shape = stored_.shape;
  const std::size_t axes = extent.size();
  const std::int64_t size = stored_.stored_element_bytes();
  std::vector<std::int64_t> from(axes, 0), to(axes), at(axes);
  for (std::size_t d = 0; d < axes; ++d) {
    to[d] = std::min(extent[d], shape[d] - piece.start[d]);
  }
  from[0] = std::max<std::int64_t>(0, first_ - piece.start[0]);
  to[0] = std::min(to[0], first_ + count_ - piece.start[0]);
  at = from;
  // A dataset of one axis is one line.
  const std::size_t last = axes - 1;
  const std::int64_t line = (to[last] - from[last]) * size;
  for (;;) {
    std::int64_t source = 0, target = 0;
    for (std::size_t d = 0; d < axes; ++d) {
      source = source * extent[d] + at[d];
      target = target * (d == 0 ? 1 : shape[d]) + piece.start[d] + at[d] - (d == 0 ? first_ : 0);
    }
    std::memcpy(target_.data() + target * size, chunk.data() + source * size,
                static_cast<std::size_t>(line));
    std::size_t d = last;
    while (d > 0 && ++at[d - 1] == to[d - 1]) {
      at[d - 1] = from[d - 1];
      --d;
    }
    if (d == 0) return;
  }
}

}  // namespace hadal::io
