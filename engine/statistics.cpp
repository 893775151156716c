#include "engine/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "engine/canonical_fold.hpp"
#include "engine/comm/collectively.hpp"
#include "engine/thread_team.hpp"

namespace hadal::engine {
namespace {

// Samples that are added up for themselves: what a sum consists of never depends on who adds.
constexpr std::int64_t kSamplesOfALeaf = 64;

// Of the values of one channel.
struct Moments {
  double count = 0;
  double mean = 0;
  double squares = 0;  // of the distances from the mean, summed
  double least = std::numeric_limits<double>::infinity();
  double most = -std::numeric_limits<double>::infinity();
};

using AllMoments = std::vector<Moments>;  // field by field, channel by channel

// Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", equation 2.1.
Moments joined(const Moments& a, const Moments& b) {
  if (a.count == 0) return b;
  if (b.count == 0) return a;
  const double count = a.count + b.count;
  const double apart = b.mean - a.mean;
  return {.count = count,
          .mean = a.mean + apart * b.count / count,
          .squares = a.squares + b.squares + apart * apart * a.count * b.count / count,
          .least = std::min(a.least, b.least),
          .most = std::max(a.most, b.most)};
}

AllMoments joined_all(AllMoments a, const AllMoments& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = joined(a[i], b[i]);
  return a;
}

Moments moments_of(std::span<const float> values) {
  Moments found{.count = static_cast<double>(values.size())};
  if (values.empty()) return found;
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value);
  found.mean = sum / found.count;
  for (const float value : values) {
    const double distance = static_cast<double>(value) - found.mean;
    found.squares += distance * distance;
  }
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  found.least = static_cast<double>(*least);
  found.most = static_cast<double>(*most);
  return found;
}

std::int64_t channels_of(const io::Shape& sample) { return sample.empty() ? 1 : sample.front(); }

// Of the inputs of a batch, in the order of the fields.
AllMoments moments_of(const io::Batch& batch, const std::vector<io::FieldIndex>& fields) {
  AllMoments all;
  std::size_t input = 0;
  for (const io::FieldIndex& field : fields) {
    if (field.options.role != io::FieldRole::input) continue;
    const io::FieldBatch& values = batch.inputs[input++];
    if (values.dtype != io::DType::f32) continue;
    const auto channels = static_cast<std::size_t>(channels_of(field.sample_shape));
    const auto each = static_cast<std::size_t>(io::element_count(field.sample_shape)) / channels;
    const std::span<const float> whole(reinterpret_cast<const float*>(values.bytes.data()),
                                       values.bytes.size() / sizeof(float));
    AllMoments own(channels);
    for (std::size_t at = 0, c = 0; at < whole.size(); at += each, c = (c + 1) % channels) {
      own[c] = joined(own[c], moments_of(whole.subspan(at, each)));
    }
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

std::string packed(const std::map<kernels::TreeNode, AllMoments>& nodes) {
  std::string bytes;
  for (const auto& [node, moments] : nodes) {
    bytes.append(reinterpret_cast<const char*>(&node), sizeof node);
    bytes.append(reinterpret_cast<const char*>(moments.data()), moments.size() * sizeof(Moments));
  }
  return bytes;
}

}  // namespace

std::vector<InputStatistics> measure_inputs(Communicator& comm, const io::DataIndex& data,
                                            const io::BatchOptions& options) {
  io::DataIndex plain = data;
  std::size_t width = 0;  // channels of all fields
  for (io::FieldIndex& field : plain.fields) {
    field.options.mean.clear();
    field.options.std.clear();
    field.options.augment.clear();
    field.sample_shape = field.whole_shape;
    const bool counts =
        field.options.role == io::FieldRole::input && field.options.dtype == io::DType::f32;
    if (counts) width += static_cast<std::size_t>(channels_of(field.sample_shape));
  }
  const std::int64_t count = (plain.samples + kSamplesOfALeaf - 1) / kSamplesOfALeaf;
  const Leaves leaves(std::vector<bool>(static_cast<std::size_t>(count), true));
  // A rank without leaves has nothing to add.
  const Share share = shares(count, comm.size())[static_cast<std::size_t>(comm.rank())];
  CanonicalFold<AllMoments> fold(leaves, share, joined_all);
  run_collectively(comm, "reading the data", [&] {
    io::BatchReader reader(plain, options);
    ThreadTeam team(1);
    while (team.size() < options.readers) team.add();
    team.run(share.begin, share.end, [&](int, std::int64_t leaf) {
      const std::int64_t first = leaf * kSamplesOfALeaf;
      std::vector<std::int64_t> ids(
          static_cast<std::size_t>(std::min(kSamplesOfALeaf, plain.samples - first)));
      std::iota(ids.begin(), ids.end(), first);
      AllMoments moments = moments_of(reader.read(ids), plain.fields);
      moments.resize(width);
      fold.arrive(leaf, std::move(moments));
    });
  });
  CanonicalFold<AllMoments> join(leaves, {0, count}, joined_all);
  const std::size_t record = sizeof(kernels::TreeNode) + width * sizeof(Moments);
  for (const std::string& bytes : all_gather_text(comm, packed(fold.take()))) {
    for (std::size_t at = 0; at < bytes.size(); at += record) {
      kernels::TreeNode node;
      AllMoments moments(width);
      std::memcpy(&node, bytes.data() + at, sizeof node);
      std::memcpy(moments.data(), bytes.data() + at + sizeof node, width * sizeof(Moments));
      join.arrive(node, std::move(moments));
    }
  }
  const AllMoments total = std::move(join.take().begin()->second);
  std::vector<InputStatistics> found;
  std::size_t at = 0;
  for (const io::FieldIndex& field : plain.fields) {
    if (field.options.role != io::FieldRole::input || field.options.dtype != io::DType::f32)
      continue;
    InputStatistics& its = found.emplace_back();
    its.name = field.options.name;
    for (std::int64_t c = 0; c < channels_of(field.sample_shape); ++c, ++at) {
      its.values = static_cast<std::int64_t>(total[at].count);
      its.mean.push_back(total[at].mean);
      its.std.push_back(std::sqrt(total[at].squares / total[at].count));
      its.least.push_back(total[at].least);
      its.most.push_back(total[at].most);
    }
  }
  return found;
}

}  // namespace hadal::engine
