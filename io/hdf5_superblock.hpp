#pragma once
// What the first bytes of a file tell that the library does not open.

#include <filesystem>
#include <string>

namespace hadal::io {

// Why a file did not open, from its superblock (HDF5 File Format Specification 3.0, section II.A);
// `library` is what the library says.
std::string reason_not_opened(const std::filesystem::path& path, const std::string& library);

}  // namespace hadal::io
