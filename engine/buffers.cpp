#include "engine/buffers.hpp"

#include <fmt/format.h>

#include <cstring>

#include "io/error.hpp"
#include "io/hashing_file.hpp"

namespace hadal::engine {
namespace {

// Calls visit(spec number, its floats or integers as offset and count, whether they are floats).
template <class Visit>
void for_each_buffer(const std::vector<BufferSpec>& specs, Visit visit) {
  std::size_t floats = 0, integers = 0;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const auto count = static_cast<std::size_t>(io::element_count(specs[i].shape));
    const bool is_float = specs[i].dtype == io::DType::f32;
    visit(i, is_float ? floats : integers, count, is_float);
    (is_float ? floats : integers) += count;
  }
}

template <class T>
void put(std::string& out, const std::vector<T>& values) {
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

template <class T>
const char* get(const char* from, std::vector<T>& values) {
  if (!values.empty()) std::memcpy(values.data(), from, values.size() * sizeof(T));
  return from + values.size() * sizeof(T);
}

}  // namespace

BufferValues initial_buffers(const std::vector<BufferSpec>& specs) {
  BufferValues values;
  for_each_buffer(specs, [&](std::size_t i, std::size_t, std::size_t count, bool is_float) {
    if (is_float) {
      values.floats.insert(values.floats.end(), count, static_cast<float>(specs[i].value));
    } else {
      values.integers.insert(values.integers.end(), count,
                             static_cast<std::int64_t>(specs[i].value));
    }
  });
  return values;
}

BufferSum buffer_leaf(const std::vector<BufferSpec>& specs, BufferValues values) {
  BufferSum leaf{.one = std::move(values), .sum = {}, .hashes = {}};
  leaf.sum = leaf.one.floats;
  for_each_buffer(specs, [&](std::size_t, std::size_t offset, std::size_t count, bool is_float) {
    const auto bytes = is_float
                           ? std::as_bytes(std::span(leaf.one.floats).subspan(offset, count))
                           : std::as_bytes(std::span(leaf.one.integers).subspan(offset, count));
    // 0 means "differs"; a hash of 0 loses nothing but a shortcut.
    leaf.hashes.push_back(io::hash_bytes(bytes) | 1u);
  });
  return leaf;
}

BufferSum add_buffers(BufferSum sum, BufferSum addend) {
  kernels::add_into(sum.sum, addend.sum);
  for (std::size_t i = 0; i < sum.hashes.size(); ++i) {
    if (sum.hashes[i] != addend.hashes[i]) sum.hashes[i] = 0;
  }
  return sum;
}

BufferValues join_buffers(Communicator& comm, const std::vector<BufferSpec>& specs,
                          const Leaves& leaves,
                          const std::map<kernels::TreeNode, BufferSum>& nodes) {
  if (specs.empty()) return {};
  const BufferValues shape = initial_buffers(specs);
  std::string mine;
  for (const auto& [node, value] : nodes) {
    const std::vector<std::int64_t> place{node.level, node.index};
    put(mine, place);
    put(mine, value.hashes);
    put(mine, value.sum);
    put(mine, value.one.floats);
    put(mine, value.one.integers);
  }
  CanonicalFold<BufferSum> fold(leaves, {0, leaves.count()}, add_buffers);
  for (const std::string& theirs : all_gather_text(comm, mine)) {
    const char* at = theirs.data();
    while (at < theirs.data() + theirs.size()) {
      std::vector<std::int64_t> place(2);
      BufferSum value{
          .one = shape, .sum = shape.floats, .hashes = std::vector<std::uint64_t>(specs.size())};
      at = get(at, place);
      at = get(at, value.hashes);
      at = get(at, value.sum);
      at = get(at, value.one.floats);
      at = get(at, value.one.integers);
      fold.arrive(kernels::TreeNode{static_cast<int>(place[0]), place[1]}, std::move(value));
    }
  }
  BufferSum root = std::move(fold.take().begin()->second);
  const auto count = static_cast<float>(leaves.present());
  for_each_buffer(specs, [&](std::size_t i, std::size_t offset, std::size_t size, bool is_float) {
    if (root.hashes[i] != 0) return;
    if (!is_float) {
      throw io::Error(io::ErrorKind::bug,
                      fmt::format("the integer buffer {} differs between micro-batches of one step",
                                  specs[i].name));
    }
    for (std::size_t k = offset; k < offset + size; ++k) root.one.floats[k] = root.sum[k] / count;
  });
  return root.one;
}

}  // namespace hadal::engine
