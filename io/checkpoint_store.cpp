#include "io/checkpoint_store.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/json.hpp"

namespace hadal::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// 2: with a hash of itself.
constexpr int kManifestVersion = 2;
constexpr const char* kOwnHash = "manifest_xxh3";
constexpr std::string_view kPrefix = "step-";

std::optional<std::int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t step = 0;
  const char* begin = name.data() + kPrefix.size();
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(begin, end, step);
  if (parsed.ec != std::errc{} || parsed.ptr != end || name != checkpoint_name(step)) {
    return std::nullopt;
  }
  return step;
}

std::string text_of(const json& manifest) { return json_text(manifest, 1) + "\n"; }

// Of a manifest without its hash.
std::string hash_of(const json& manifest) {
  const std::string text = text_of(manifest);
  return hash_text(hash_bytes(std::as_bytes(std::span(text))));
}

json to_json(const CheckpointManifest& manifest) {
  json files = json::array();
  for (const FileDigest& file : manifest.files) {
    std::vector<std::string> blocks;
    for (const std::uint64_t block : file.blocks) blocks.push_back(hash_text(block));
    files.push_back({{"name", file.name},
                     {"bytes", file.bytes},
                     {"block_bytes", file.block_bytes},
                     {"xxh3", blocks}});
  }
  json document = {{"version", kManifestVersion},
                   {"step", manifest.step},
                   {"files", files},
                   {"run", manifest.run}};
  document[kOwnHash] = hash_of(document);
  return document;
}

CheckpointManifest parse_manifest(const std::string& text) {
  json parsed = parse_json(text);
  if (parsed.at("version").get<int>() > kManifestVersion) {
    throw Error(ErrorKind::checkpoint,
                fmt::format("its manifest has version {}, this program reads up to version {}",
                            json_text(parsed.at("version")), kManifestVersion));
  }
  if (parsed.contains(kOwnHash) || parsed.at("version").get<int>() > 1) {
    const bool is_as_written = text_of(parsed) == text;
    const std::string stored = parsed.at(kOwnHash).get<std::string>();
    parsed.erase(kOwnHash);
    if (!is_as_written || hash_of(parsed) != stored) {
      throw Error(ErrorKind::checkpoint, "its manifest.json is not as it was written");
    }
  }
  CheckpointManifest manifest{
      .step = parsed.at("step").get<std::int64_t>(), .files = {}, .run = {}};
  for (const json& file : parsed.at("files")) {
    FileDigest digest{.name = file.at("name").get<std::string>(),
                      .bytes = file.at("bytes").get<std::int64_t>(),
                      .blocks = {},
                      .block_bytes = file.at("block_bytes").get<std::int64_t>()};
    for (const json& block : file.at("xxh3")) {
      digest.blocks.push_back(std::stoull(block.get<std::string>(), nullptr, 16));
    }
    if (digest.block_bytes < 1 ||
        std::ssize(digest.blocks) != (digest.bytes + digest.block_bytes - 1) / digest.block_bytes) {
      throw Error(ErrorKind::checkpoint, "its manifest.json does not cover " + digest.name);
    }
    manifest.files.push_back(std::move(digest));
  }
  manifest.run = parsed.at("run");
  return manifest;
}

}  // namespace

std::string checkpoint_name(std::int64_t step) { return fmt::format("{}{:09}", kPrefix, step); }

namespace {

Error unusable(const fs::path& folder, const std::string& why) {
  return Error(ErrorKind::checkpoint, fmt::format("checkpoint {}: {}", folder.string(), why));
}

}  // namespace

StoredCheckpoint read_manifest(const fs::path& folder) {
  const fs::path manifest = folder / "manifest.json";
  std::error_code ignored;
  if (!fs::exists(manifest, ignored)) throw unusable(folder, "it has no manifest.json");
  try {
    return {.folder = folder, .manifest = parse_manifest(read_file(manifest))};
  } catch (const Error& error) {
    throw unusable(folder, error.what());
  } catch (const std::exception& error) {
    throw unusable(folder, fmt::format("its manifest.json is damaged ({})", error.what()));
  }
}

StoredCheckpoint open_checkpoint(const fs::path& folder) {
  StoredCheckpoint checkpoint = read_manifest(folder);
  for (const FileDigest& file : checkpoint.manifest.files) {
    std::string found;
    try {
      found = difference(folder, file);
    } catch (const Error& error) {
      found = error.what();
    }
    if (!found.empty()) throw unusable(folder, found);
  }
  return checkpoint;
}

void CheckpointStore::remove_leftovers() noexcept {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder_, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kPrefix) && name.ends_with(".partial"))
      fs::remove_all(entry.path(), ignored);
  }
}

fs::path CheckpointStore::partial_folder(std::int64_t step) const {
  return folder_ / (checkpoint_name(step) + ".partial");
}

fs::path CheckpointStore::begin(std::int64_t step) {
  const fs::path partial = partial_folder(step);
  std::error_code failure;
  fs::remove_all(partial, failure);
  create_folders(partial);
  return partial;
}

fs::path CheckpointStore::commit(const CheckpointManifest& manifest) {
  const fs::path partial = partial_folder(manifest.step);
  const fs::path final_folder = folder_ / checkpoint_name(manifest.step);
  write_file_atomically(partial / "manifest.json", text_of(to_json(manifest)));
  std::error_code failure;
  // A damaged checkpoint of the same step may be in the way after a fall back to an older one.
  if (fs::exists(final_folder)) fs::remove_all(final_folder, failure);
  fs::rename(partial, final_folder, failure);
  if (failure) {
    throw Error(ErrorKind::storage, fmt::format("cannot rename {} to {}: {}", partial.string(),
                                                final_folder.string(), failure.message()));
  }
  sync_folder(folder_);
  return final_folder;
}

void CheckpointStore::abandon(std::int64_t step) noexcept {
  std::error_code ignored;
  fs::remove_all(partial_folder(step), ignored);
}

std::vector<std::int64_t> CheckpointStore::steps() const {
  std::vector<std::int64_t> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder_, ignored)) {
    if (const auto step = step_of(entry.path().filename().string())) found.push_back(*step);
  }
  std::sort(found.begin(), found.end(), std::greater<>());
  return found;
}

std::vector<std::string> CheckpointStore::strays() const {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder_, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!step_of(name) && !name.ends_with(".partial")) found.push_back(name);
  }
  return found;
}

Error CheckpointStore::none_usable(const std::vector<std::string>& reasons) const {
  return Error(
      ErrorKind::checkpoint,
      fmt::format("no checkpoint in {} can be used, and the run is not started from zero in "
                  "silence; restore one, or choose another run.dir:\n  {}",
                  folder_.string(), fmt::join(reasons, "\n  ")));
}

void CheckpointStore::prune(std::int64_t keep,
                            const std::function<bool(std::int64_t step)>& stays) {
  const std::vector<std::int64_t> newest_first = steps();
  for (std::size_t i = static_cast<std::size_t>(keep); i < newest_first.size(); ++i) {
    const std::int64_t step = newest_first[i];
    if (stays(step)) continue;
    std::error_code ignored;
    // The manifest goes first: a folder that is half removed is never taken for a checkpoint.
    fs::remove(folder_ / checkpoint_name(step) / "manifest.json", ignored);
    fs::remove_all(folder_ / checkpoint_name(step), ignored);
  }
}

}  // namespace hadal::io
