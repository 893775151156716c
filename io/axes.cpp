#include "io/axes.hpp"

#include <iterator>

namespace hadal::io {

std::string axes_of(const FieldOptions& options, std::size_t axes) {
  static const std::string kUsual[] = {"", "W", "HW", "CHW", "CDHW"};
  if (options.layout.empty()) return axes < std::size(kUsual) ? kUsual[axes] : "";
  std::string letters = options.layout.substr(1);  // N, the samples
  if (const std::size_t at = letters.find('C'); at != std::string::npos) {
    letters = "C" + letters.erase(at, 1);
  }
  return letters;
}

std::size_t spatial_axes(const std::string& letters) {
  return letters.size() - (letters.starts_with('C') ? 1 : 0);
}

}  // namespace hadal::io
