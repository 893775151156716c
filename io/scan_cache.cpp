#include "io/scan_cache.hpp"

#include <fmt/format.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "io/hashing_file.hpp"

namespace hadal::io {
namespace {

using nlohmann::json;

// Of what bytes() writes: raise it with every change of what a scan finds. Which chunks are decoded
// here depends on the build too.
std::string version() { return fmt::format("hadal scans 1; {}\n", optional_decoders()); }

std::string key_of(const std::filesystem::path& file, const std::vector<DatasetQuery>& queries) {
  std::string key = file.string();
  for (const DatasetQuery& query : queries) {
    key += fmt::format("\n{}\n{}{}\n{}\n{}", query.path, query.one_sample ? "one" : "",
                       query.series ? "series" : "", query.offsets, query.lengths);
  }
  return key;
}

std::uint64_t hash_of(std::string_view bytes) {
  return hash_bytes(std::as_bytes(std::span(bytes)));
}

}  // namespace

// The version, a hash of what follows, the length of the chunk tables, these, and the rest as CBOR.
ScanCache::ScanCache(std::string_view bytes) {
  std::uint64_t hash = 0, table_bytes = 0;
  const std::string line = version();
  const std::size_t head = line.size() + 2 * sizeof hash;
  if (bytes.size() < head || !bytes.starts_with(line)) return;
  std::memcpy(&hash, bytes.data() + line.size(), sizeof hash);
  std::memcpy(&table_bytes, bytes.data() + line.size() + sizeof hash, sizeof table_bytes);
  if (hash != hash_of(bytes.substr(line.size() + sizeof hash)) ||
      table_bytes > bytes.size() - head) {
    return;
  }
  std::vector<Extent> extents(table_bytes / sizeof(Extent));
  if (!extents.empty()) {
    std::memcpy(extents.data(), bytes.data() + head, extents.size() * sizeof(Extent));
  }
  const ChunkTable tables(std::move(extents));
  std::size_t next = 0;
  for (const json& one : json::from_cbor(bytes.substr(head + table_bytes))) {
    const json& state = one.at("state");
    entries_[one.at("key").get<std::string>()] = {.state = {state.at(0), state.at(1), state.at(2)},
                                                  .scans = unpacked(one.at("found"), tables, next)};
  }
}

std::string ScanCache::bytes() const {
  json document = json::array();
  std::vector<Extent> tables;
  for (const auto& [key, entry] : entries_) {
    const FileState& state = entry.state;
    document.push_back({{"key", key},
                        {"state", {state.bytes, state.changed, state.content_hash}},
                        {"found", packed(entry.scans, tables)}});
  }
  const auto number = [](std::uint64_t value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof value);
  };
  std::string body = number(tables.size() * sizeof(Extent));
  for (const Extent& extent : tables) {
    body.append(reinterpret_cast<const char*>(&extent), sizeof extent);
  }
  json::to_cbor(document, body);
  return version() + number(hash_of(body)) + body;
}

const FileScans* ScanCache::find(const std::filesystem::path& file,
                                 const std::vector<DatasetQuery>& queries,
                                 const FileState& state) const {
  const auto found = entries_.find(key_of(file, queries));
  return found != entries_.end() && found->second.state == state ? &found->second.scans : nullptr;
}

void ScanCache::put(const std::filesystem::path& file, const std::vector<DatasetQuery>& queries,
                    const FileState& state, FileScans scans) {
  for (const std::vector<ScannedDataset>& found : scans) {
    for (const ScannedDataset& scan : found) {
      if (!scan.fault.empty() || scan.file != scan.listed || !scan.stored.extents.file.empty() ||
          !scan.stored.sources.empty()) {
        return;
      }
    }
  }
  entries_[key_of(file, queries)] = {state, std::move(scans)};
}

}  // namespace hadal::io
