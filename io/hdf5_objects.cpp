#include "io/hdf5_objects.hpp"

#include <fnmatch.h>

#include <algorithm>
#include <iterator>

namespace hadal::io {

Objects list_objects(hid_t file) {
  Objects objects;
  H5Ovisit(
      file, H5_INDEX_NAME, H5_ITER_INC,
      [](hid_t, const char* name, const H5O_info_t* info, void* out) -> herr_t {
        auto& all = *static_cast<Objects*>(out);
        // The file's own group is called ".".
        const std::string path = name[0] == '.' ? "/" : std::string("/") + name;
        if (info->type == H5O_TYPE_DATASET) all.datasets.push_back(path);
        if (info->type == H5O_TYPE_GROUP) all.groups.push_back(path);
        return 0;
      },
      &objects);
  std::sort(objects.datasets.begin(), objects.datasets.end());
  return objects;
}

std::vector<std::string> matching_objects(const Objects& objects, const std::string& pattern) {
  std::vector<std::string> names;
  for (const auto* list : {&objects.datasets, &objects.groups}) {
    std::copy_if(list->begin(), list->end(), std::back_inserter(names),
                 [&](const std::string& name) {
                   return ::fnmatch(pattern.c_str(), name.c_str(), FNM_PATHNAME) == 0;
                 });
  }
  std::sort(names.begin(), names.end(), comes_before);
  return names;
}

bool comes_before(const std::string& a, const std::string& b) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  std::size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (!is_digit(a[i]) || !is_digit(b[j])) {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i, ++j;
      continue;
    }
    const auto number = [&](const std::string& text, std::size_t& at) {
      while (at + 1 < text.size() && text[at] == '0' && is_digit(text[at + 1])) ++at;
      const std::size_t first = at;
      while (at < text.size() && is_digit(text[at])) ++at;
      return text.substr(first, at - first);
    };
    const std::string own = number(a, i), other = number(b, j);
    if (own.size() != other.size()) return own.size() < other.size();
    if (own != other) return own < other;
  }
  if (i < a.size() || j < b.size()) return i == a.size();
  return a < b;
}

}  // namespace hadal::io
