// AdamW on one thread: hadal's kernel, ATen's fused one, torch::optim's, and a twin that only moves
// the memory. Every round runs each once, in turn; medians and spread over the rounds.

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels/adamw.hpp"
#include "kernels/flush_to_zero.hpp"

namespace {

constexpr std::int64_t kCount = 25'000'000;
constexpr int kRounds = 60;
constexpr double kBytes = 28.0 * kCount;

struct Arrays {
  at::Tensor param = at::randn({kCount}), grad = at::randn({kCount}), first = at::zeros({kCount}),
             second = at::zeros({kCount});
};

std::span<float> span(at::Tensor& tensor) {
  return {tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel())};
}

double seconds(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The bytes of an AdamW update with as little arithmetic as keeps the loads and stores.
void memory_twin(std::span<float> p, std::span<const float> g, std::span<float> m,
                 std::span<float> v) {
  for (std::size_t i = 0; i < p.size(); ++i) {
    m[i] += g[i];
    v[i] += g[i];
    p[i] += m[i];
  }
}

}  // namespace

int main() {
  hadal::kernels::set_flush_to_zero();
  at::set_num_threads(1);
  at::manual_seed(1);
  Arrays ours, fused, twin, plain;
  at::Tensor fused_step = at::zeros({}, at::kFloat);
  plain.param.requires_grad_(true);
  plain.param.mutable_grad() = plain.grad;
  torch::optim::AdamW optimizer({plain.param}, torch::optim::AdamWOptions(1e-3).weight_decay(0.01));
  std::int64_t t = 0;
  const std::vector<std::pair<std::string, std::function<void()>>> contestants = {
      {"hadal",
       [&] {
         hadal::kernels::adamw(span(ours.param), span(ours.grad), span(ours.first),
                               span(ours.second), hadal::kernels::adamw_step({}, ++t, 1.0f));
       }},
      {"at::_fused_adamw_",
       [&] {
         fused_step.add_(1);
         std::vector<at::Tensor> p{fused.param}, g{fused.grad}, m{fused.first}, v{fused.second},
             s{fused_step};
         at::_fused_adamw_(p, g, m, v, {}, s, 1e-3, 0.9, 0.999, 0.01, 1e-8, false, false);
       }},
      {"torch::optim::AdamW", [&] { optimizer.step(); }},
      {"memory only", [&] {
         memory_twin(span(twin.param), span(twin.grad), span(twin.first), span(twin.second));
       }}};
  std::map<std::string, std::vector<double>> times;
  for (int round = -2; round < kRounds; ++round) {
    // Another one begins each round, so that none always follows the same.
    for (std::size_t i = 0; i < contestants.size(); ++i) {
      const auto& [name, body] =
          contestants[(i + static_cast<std::size_t>(round + 2)) % contestants.size()];
      const double elapsed = seconds(body);
      if (round >= 0) times[name].push_back(elapsed);
    }
  }
  const auto median = [&](const std::string& name) {
    std::vector<double>& all = times[name];
    std::sort(all.begin(), all.end());
    return all[all.size() / 2];
  };
  fmt::print("AdamW, {} float32 parameters, 1 thread, {} rounds\n", kCount, kRounds);
  for (const auto& [name, body] : contestants) {
    const double middle = median(name);
    fmt::print(
        "{:<22} {:7.2f} ms  (min {:.2f}, max {:.2f})  {:5.1f} GB/s  hadal is {:.2f} times as "
        "fast\n",
        name, 1e3 * middle, 1e3 * times[name].front(), 1e3 * times[name].back(),
        kBytes / middle / 1e9, middle / median("hadal"));
  }
  return 0;
}
