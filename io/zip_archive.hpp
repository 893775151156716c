#pragma once
// The subset of zip that PyTorch writes (`torch.export.save`, `torch.save`): entries stored without
// compression, under one leading folder, zip64 where large (PKWARE APPNOTE 6.3.10); and deflated
// entries, as numpy writes them, for whoever asks. The reader is
// strict: sizes that do not fit the file, overlapping or doubled entries, wrong checksums are
// errors, and nothing is allocated that the file's size does not warrant.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/atomic_file.hpp"

namespace hadal::io {

struct ZipEntry {
  std::string name;        // without the leading folder
  std::int64_t begin = 0;  // of its bytes in the file
  std::int64_t size = 0;
  std::int64_t stored_bytes = 0;  // as many, or what deflate made of them
  bool deflated = false;
  std::uint32_t crc = 0;
  std::int64_t header = 0;   // of its local header
  std::int64_t central = 0;  // of its central header
  bool has_descriptor = false;
};

enum class ZipMethods { stored, deflate_too };

// Movable; the file stays open for as long as it lives.
class ZipArchive {
 public:
  // Throws a checkpoint error that names the file and what is wrong.
  explicit ZipArchive(const std::filesystem::path& path, ZipMethods methods = ZipMethods::stored);
  // From memory; `name` stands for the path in messages. The bytes must outlive the archive.
  ZipArchive(std::span<const std::byte> bytes, const std::string& name);

  const ZipEntry* find(const std::string& name) const;
  const std::map<std::string, ZipEntry>& entries() const { return entries_; }

  // The bytes of an entry, their checksum verified. Throws a checkpoint error.
  std::vector<std::byte> read(const ZipEntry& entry) const;
  std::string read_text(const ZipEntry& entry) const;

  const std::string& name() const { return name_; }

 private:
  using Read = std::function<void(std::int64_t offset, std::span<std::byte> out)>;

  void parse(std::int64_t size);
  std::int64_t find_directory(std::int64_t size, std::int64_t& count, std::int64_t& bytes) const;
  ZipEntry parse_entry(std::span<const std::byte> directory, std::size_t& at) const;
  void locate(ZipEntry& entry, std::int64_t limit) const;

  std::string name_;
  ZipMethods methods_ = ZipMethods::stored;
  Read read_;
  std::map<std::string, ZipEntry> entries_;
};

// True where the file begins like a zip archive.
bool is_zip(const std::filesystem::path& path);

// Copies an archive to `target` (synced, not renamed) with the bytes of some entries replaced by
// others of the same size.
void copy_zip_with(const ZipArchive& archive, const std::filesystem::path& source,
                   const std::filesystem::path& target,
                   const std::map<std::string, std::vector<std::byte>>& replaced);

}  // namespace hadal::io
