#pragma once
// What the first bytes of a file tell that the library does not open.

#include <cstdint>
#include <filesystem>
#include <string>

namespace hadal::io {

// Why a file did not open, from its superblock (HDF5 File Format Specification 3.0, section II.A);
// `library` is what the library says.
std::string reason_not_opened(const std::filesystem::path& path, const std::string& library);

// Why what an open file holds may change, or be half-written; empty: it may not. Its superblock
// begins at `at`. The library looks at that only for drivers of its own.
std::string reason_not_trusted(const std::filesystem::path& path, int fd, std::int64_t at);

}  // namespace hadal::io
