#include "io/block_reader.hpp"

#include <algorithm>

namespace hadal::io {
namespace {

// Open files cost memory and descriptors; a run may have tens of thousands of shards.
constexpr std::size_t kMaxOpenFiles = 32;
// Rows read together from a file that is not chunked, where all of it fits in memory anyway.
constexpr std::int64_t kContiguousRows = 64;

}  // namespace

BlockReader::BlockReader(const FieldIndex& field, std::int64_t memory_bytes)
    : field_(field), memory_bytes_(memory_bytes) {}

const Hdf5File& BlockReader::file_of(std::size_t part) {
  auto found = open_.find(part);
  if (found == open_.end()) {
    if (open_.size() >= kMaxOpenFiles) {
      open_.erase(std::min_element(open_.begin(), open_.end(), [](const auto& a, const auto& b) {
        return a.second.used < b.second.used;
      }));
    }
    found = open_.emplace(part, OpenFile{Hdf5File(field_.parts[part].file), 0}).first;
  }
  found->second.used = ++clock_;
  return found->second.file;
}

const std::vector<std::byte>& BlockReader::block(std::size_t part, std::int64_t number,
                                                 std::int64_t rows) {
  const std::uint64_t key =
      (static_cast<std::uint64_t>(part) << 40) | static_cast<std::uint64_t>(number);
  if (const auto hit = by_key_.find(key); hit != by_key_.end()) {
    blocks_.splice(blocks_.begin(), blocks_, hit->second);
    return hit->second->bytes;
  }
  const StoredDataset& stored = field_.parts[part].stored;
  const std::int64_t first = number * rows;
  const std::int64_t count = std::min(rows, stored.rows() - first);
  std::vector<std::byte> bytes(static_cast<std::size_t>(count * stored.row_bytes()));
  while (!blocks_.empty() &&
         cached_bytes_ + static_cast<std::int64_t>(bytes.size()) > memory_bytes_) {
    cached_bytes_ -= static_cast<std::int64_t>(blocks_.back().bytes.size());
    by_key_.erase(blocks_.back().key);
    blocks_.pop_back();
  }
  file_of(part).read_rows(stored.path, first, count, bytes);
  bytes_read_ += static_cast<std::int64_t>(bytes.size());
  cached_bytes_ += static_cast<std::int64_t>(bytes.size());
  blocks_.push_front({key, std::move(bytes)});
  by_key_[key] = blocks_.begin();
  return blocks_.front().bytes;
}

std::span<const std::byte> BlockReader::sample(std::int64_t id) {
  const std::size_t part = field_.part_of(id);
  const StoredDataset& stored = field_.parts[part].stored;
  const std::int64_t row = id - field_.row_starts[part];
  const bool all_fits = stored.row_bytes() * field_.row_starts.back() <= memory_bytes_;
  const std::int64_t rows =
      stored.chunk_rows > 0 ? stored.chunk_rows : (all_fits ? kContiguousRows : 1);
  const std::vector<std::byte>& bytes = block(part, row / rows, rows);
  const auto row_bytes = static_cast<std::size_t>(stored.row_bytes());
  return std::span(bytes).subspan(static_cast<std::size_t>(row % rows) * row_bytes, row_bytes);
}

}  // namespace hadal::io
