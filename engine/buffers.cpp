#include "engine/buffers.hpp"

#include <fmt/format.h>

#include <cstring>

#include "io/error.hpp"
#include "io/hashing_file.hpp"

namespace hadal::engine {
namespace {

template <class T>
void put(std::string& out, const std::vector<T>& values) {
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

template <class T>
const char* get(const char* from, std::vector<T>& values) {
  if (!values.empty()) std::memcpy(values.data(), from, values.size() * sizeof(T));
  return from + values.size() * sizeof(T);
}

bool has_mean(const BufferLayout& layout, std::size_t number) {
  return layout.specs()[number].dtype == io::DType::f32;
}

}  // namespace

BufferSum buffer_leaf(const BufferLayout& layout, BufferValues values) {
  BufferSum leaf{.one = std::move(values), .sum = {}, .hashes = {}};
  for (std::size_t i = 0; i < layout.size(); ++i) {
    const std::span<std::byte> bytes = layout.of(leaf.one, i);
    // 0 means "differs"; a hash of 0 loses nothing but a shortcut.
    leaf.hashes.push_back(io::hash_bytes(bytes) | 1u);
    if (!has_mean(layout, i)) continue;
    const std::size_t before = leaf.sum.size();
    leaf.sum.resize(before + bytes.size() / sizeof(float));
    std::memcpy(leaf.sum.data() + before, bytes.data(), bytes.size());
  }
  return leaf;
}

BufferSum add_buffers(BufferSum sum, BufferSum addend) {
  kernels::add_into(sum.sum, addend.sum);
  for (std::size_t i = 0; i < sum.hashes.size(); ++i) {
    if (sum.hashes[i] != addend.hashes[i]) sum.hashes[i] = 0;
  }
  return sum;
}

BufferValues join_buffers(Communicator& comm, const BufferLayout& layout, const Leaves& leaves,
                          const std::map<kernels::TreeNode, BufferSum>& nodes) {
  if (layout.empty()) return {};
  const BufferSum shape = buffer_leaf(layout, layout.initial());
  std::string mine;
  for (const auto& [node, value] : nodes) {
    const std::vector<std::int64_t> place{node.level, node.index};
    put(mine, place);
    put(mine, value.hashes);
    put(mine, value.sum);
    put(mine, value.one.bytes);
  }
  CanonicalFold<BufferSum> fold(leaves, {0, leaves.count()}, add_buffers);
  for (const std::string& theirs : all_gather_text(comm, mine)) {
    const char* at = theirs.data();
    while (at < theirs.data() + theirs.size()) {
      std::vector<std::int64_t> place(2);
      BufferSum value = shape;
      at = get(at, place);
      at = get(at, value.hashes);
      at = get(at, value.sum);
      at = get(at, value.one.bytes);
      fold.arrive(kernels::TreeNode{static_cast<int>(place[0]), place[1]}, std::move(value));
    }
  }
  BufferSum root = std::move(fold.take().begin()->second);
  const auto count = static_cast<float>(leaves.present());
  for (float& value : root.sum) value /= count;
  std::size_t offset = 0;
  for (std::size_t i = 0; i < layout.size(); ++i) {
    const std::span<std::byte> bytes = layout.of(root.one, i);
    if (root.hashes[i] == 0 && !has_mean(layout, i)) {
      throw io::Error(io::ErrorKind::bug,
                      fmt::format("the buffer {} is no float32 and differs between micro-batches "
                                  "of one step",
                                  layout.specs()[i].name));
    }
    if (!has_mean(layout, i)) continue;
    if (root.hashes[i] == 0) std::memcpy(bytes.data(), root.sum.data() + offset, bytes.size());
    offset += bytes.size() / sizeof(float);
  }
  return root.one;
}

}  // namespace hadal::engine
