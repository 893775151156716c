#include "engine/device/device_optimizer.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/adamw.hpp"
#include "kernels/average.hpp"
#include "kernels/lamb.hpp"
#include "kernels/norm.hpp"
#include "kernels/sgd.hpp"

namespace hadal::engine {
namespace {

using Lane = Device::Lane;

std::vector<kernels::Block> owned_blocks(const ArenaLayout& layout, int rank, int ranks) {
  std::vector<kernels::Block> blocks;
  std::int64_t owned = 0;
  for (std::size_t b = 0; b < layout.bucket_count(); ++b) {
    const ArenaSlice slice = layout.slice(b, rank, ranks);
    for (std::size_t k = slice.first_block; k < slice.last_block; ++k) {
      const ArenaBlock& block = layout.blocks()[k];
      blocks.push_back({.offset = block.offset,
                        .state = owned + block.offset - slice.begin,
                        .count = static_cast<std::int32_t>(block.count),
                        .entry = static_cast<std::int32_t>(block.entry)});
    }
    owned += slice.count();
  }
  return blocks;
}

constexpr std::size_t kRowBytes = std::max({sizeof(kernels::UpdateRow<kernels::AdamwStep>),
                                            sizeof(kernels::UpdateRow<kernels::SgdStep>),
                                            sizeof(kernels::UpdateRow<kernels::LambStep>)});

}  // namespace

DeviceOptimizer::DeviceOptimizer(Device& device, Optimizer& optimizer, const ArenaLayout& layout,
                                 int rank, int ranks)
    : device_(device), optimizer_(optimizer), layout_(layout) {
  const std::vector<kernels::Block> blocks = owned_blocks(layout, rank, ranks);
  blocks_ = DeviceArray<kernels::Block>(device, blocks.size());
  device.copy_now(blocks_.bytes(), std::as_bytes(std::span(blocks)));
  for (std::size_t s = 0; s < optimizer.state_names().size(); ++s) {
    states_.emplace_back(device, optimizer.state(s).size());
    pinned_.push_back(device.pin(std::as_writable_bytes(optimizer.state(s))));
  }
  if (const auto master = optimizer.master_state()) {
    used_ = DeviceArray<float>(device, optimizer.state(*master).size());
    changes_ = DeviceArray<std::uint16_t>(device, static_cast<std::size_t>(layout.size()));
  }
  sums_ = DeviceArray<double>(device, 2 * blocks.size());
  rows_ = DeviceArray<std::byte>(device, layout.entries().size() * kRowBytes);
  host_sums_ = {device.allocate_host(sums_.bytes().size()), sums_.size()};
  host_rows_ = {device.allocate_host(rows_.size()), rows_.size()};
}

void DeviceOptimizer::push() {
  for (std::size_t s = 0; s < states_.size(); ++s) {
    device_.copy(Lane::compute, states_[s].bytes(), std::as_bytes(optimizer_.state(s)));
  }
  device_.finish(Lane::compute);
}

void DeviceOptimizer::pull() {
  for (std::size_t s = 0; s < states_.size(); ++s) {
    device_.copy(Lane::compute, std::as_writable_bytes(optimizer_.state(s)), states_[s].bytes());
  }
  device_.finish(Lane::compute);
}

std::vector<double> DeviceOptimizer::take_sums(Lane lane, std::size_t count,
                                               const std::function<void()>& meanwhile) {
  const std::size_t bytes = count * sizeof(double);
  device_.copy(lane, host_sums_.bytes().first(bytes), sums_.bytes().first(bytes));
  device_.finish(lane, meanwhile);
  const std::span<double> sums = host_sums_.span().first(count);
  return {sums.begin(), sums.end()};
}

std::vector<double> DeviceOptimizer::squares(Lane lane, const float* gradient,
                                             const std::function<void()>& meanwhile) {
  kernels::sums_of_squares(device_.stream(lane), table(), gradient, sums_.data(), 1);
  return take_sums(lane, blocks_.size(), meanwhile);
}

kernels::UpdateMemory DeviceOptimizer::memory_of(const DeviceWeights& weights,
                                                 const float* gradient) const {
  kernels::UpdateMemory memory{.param = weights.parameters().data(), .grad = gradient};
  const std::size_t own =
      states_.size() - (optimizer_.has_average() ? 1 : 0) - (has_masters() ? 1 : 0);
  if (own > 0) memory.first = states_[0].data();
  if (own > 1) memory.second = states_[1].data();
  return memory;
}

kernels::MasterMemory DeviceOptimizer::masters_of(const DeviceWeights& weights) const {
  return {.param = weights.parameters().data(),
          .change = changes_.data(),
          .master = states_[*optimizer_.master_state()].data(),
          .used = used_.data()};
}

void DeviceOptimizer::take_masters(const DeviceWeights& weights) {
  if (!has_masters() || std::exchange(masters_are_taken_, true)) return;
  kernels::take_masters(device_.stream(Lane::compute), table(), masters_of(weights));
}

// One row a parameter, in device memory. They are written anew when the kernels that read the last
// ones are through: the host has waited for a norm since.
template <class Step, class Make>
const kernels::UpdateRow<Step>* DeviceOptimizer::rows(std::int64_t update, Make make) {
  std::vector<kernels::UpdateRow<Step>> made(layout_.entries().size());
  for (std::size_t e = 0; e < made.size(); ++e) {
    made[e] = make(e);
    made[e].trains = optimizer_.trains(e, update);
  }
  const std::span<const std::byte> bytes = std::as_bytes(std::span(made));
  std::copy(bytes.begin(), bytes.end(), host_rows_.span().begin());
  device_.copy(Lane::compute, rows_.bytes().first(bytes.size()),
               host_rows_.bytes().first(bytes.size()));
  return reinterpret_cast<const kernels::UpdateRow<Step>*>(rows_.data());
}

std::vector<double> DeviceOptimizer::measure(const DeviceWeights& weights, const float* gradient,
                                             double lr, std::int64_t update, float grad_scale) {
  const kernels::Stream stream = device_.stream(Lane::compute);
  const kernels::UpdateMemory memory = memory_of(weights, gradient);
  take_masters(weights);
  kernels::sums_of_squares(stream, table(), memory.param, sums_.data(), 2);
  if (optimizer_.options().kind == OptimizerKind::lars) {
    kernels::sums_of_squares(stream, table(), gradient, sums_.data() + 1, 2);
  } else {
    const auto* const steps = rows<kernels::LambStep>(update, [&](std::size_t e) {
      return kernels::UpdateRow<kernels::LambStep>{
          .step = optimizer_.lamb_step_of(e, lr, update, grad_scale)};
    });
    kernels::lamb_moments(stream, table(), memory, steps);
    kernels::lamb_update_squares(stream, table(), memory, steps, sums_.data() + 1, 2);
  }
  std::vector<double> sums = take_sums(Lane::compute, 2 * blocks_.size(), {});
  if (optimizer_.options().kind != OptimizerKind::lars) return sums;
  const double scale = static_cast<double>(grad_scale);
  for (std::size_t k = 1; k < sums.size(); k += 2) sums[k] = sums[k] * scale * scale;
  return sums;
}

void DeviceOptimizer::update(const DeviceWeights& weights, const float* gradient, double lr,
                             std::int64_t update, float grad_scale, bool rounds) {
  const kernels::Stream stream = device_.stream(Lane::compute);
  kernels::UpdateMemory memory = memory_of(weights, gradient);
  take_masters(weights);
  if (rounds && !weights.rounded().empty()) memory.rounded = weights.rounded().data();
  if (optimizer_.has_average()) {
    memory.average = states_.back().data();
    memory.average_rate = static_cast<float>(1 - *optimizer_.options().average);
  }
  switch (optimizer_.options().kind) {
    case OptimizerKind::adamw:
      kernels::adamw(stream, table(), memory, rows<kernels::AdamwStep>(update, [&](std::size_t e) {
                       return kernels::UpdateRow<kernels::AdamwStep>{
                           .step = optimizer_.adamw_step_of(e, lr, update, grad_scale)};
                     }));
      break;
    case OptimizerKind::lamb:
      kernels::lamb(stream, table(), memory, rows<kernels::LambStep>(update, [&](std::size_t e) {
                      return kernels::UpdateRow<kernels::LambStep>{
                          .step = optimizer_.lamb_step_of(e, lr, update, grad_scale),
                          .factor = optimizer_.lamb_factor_of(e, lr)};
                    }));
      break;
    case OptimizerKind::sgd:
    case OptimizerKind::lars:
      kernels::sgd(stream, table(), memory, rows<kernels::SgdStep>(update, [&](std::size_t e) {
                     return kernels::UpdateRow<kernels::SgdStep>{
                         .step = optimizer_.sgd_step_of(e, lr, grad_scale)};
                   }));
      break;
  }
  if (!std::exchange(masters_are_taken_, false)) return;
  kernels::put_masters(stream, table(), masters_of(weights));
}

void DeviceOptimizer::swap_average(const DeviceWeights& weights) {
  kernels::swap_average(device_.stream(Lane::compute), table(), weights.parameters().data(),
                        states_.back().data());
}

}  // namespace hadal::engine
