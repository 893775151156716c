#include "engine/random_operators.hpp"

#include <ATen/ATen.h>
#include <ATen/NativeFunctions.h>
#include <torch/library.h>

#include <mutex>
#include <set>

#include "engine/quiet_warnings.hpp"

namespace hadal::engine {
namespace {

thread_local const at::Generator* current_generator = nullptr;

using Given = std::optional<at::Generator>;

Given chosen(const Given& given) {
  if (given.has_value() || current_generator == nullptr) return given;
  return *current_generator;
}

at::Tensor& bernoulli_float(at::Tensor& self, double p, Given generator) {
  return at::native::bernoulli_(self, p, chosen(generator));
}
at::Tensor& bernoulli_tensor(at::Tensor& self, const at::Tensor& p, Given generator) {
  return at::native::bernoulli_(self, p, chosen(generator));
}
at::Tensor& uniform(at::Tensor& self, double from, double to, Given generator) {
  return at::native::uniform_(self, from, to, chosen(generator));
}
at::Tensor& normal(at::Tensor& self, double mean, double std, Given generator) {
  return at::native::normal_(self, mean, std, chosen(generator));
}
at::Tensor& random(at::Tensor& self, Given generator) {
  return at::native::random_(self, chosen(generator));
}
at::Tensor& random_to(at::Tensor& self, std::int64_t to, Given generator) {
  return at::native::random_(self, to, chosen(generator));
}
at::Tensor& random_from(at::Tensor& self, std::int64_t from, std::optional<std::int64_t> to,
                        Given generator) {
  return at::native::random_(self, from, to, chosen(generator));
}
at::Tensor& exponential(at::Tensor& self, double lambda, Given generator) {
  return at::native::exponential_(self, lambda, chosen(generator));
}

void install_once() {
  static std::once_flag once;
  std::call_once(once, [] {
    const QuietWarnings quiet;
    static torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__,
                                  __LINE__);
    library.impl("bernoulli_.float", bernoulli_float);
    library.impl("bernoulli_.Tensor", bernoulli_tensor);
    library.impl("uniform_", uniform);
    library.impl("normal_", normal);
    library.impl("random_", random);
    library.impl("random_.to", random_to);
    library.impl("random_.from", random_from);
    library.impl("exponential_", exponential);
  });
}

}  // namespace

WorkerGenerator::WorkerGenerator(const at::Generator& generator) : outer_(current_generator) {
  install_once();
  current_generator = &generator;
}

WorkerGenerator::~WorkerGenerator() { current_generator = outer_; }

bool draws_from_worker(const std::string& name) {
  static const std::set<std::string> names{"bernoulli_",
                                           "uniform_",
                                           "normal_",
                                           "random_",
                                           "exponential_",
                                           "dropout",
                                           "dropout_",
                                           "feature_dropout",
                                           "feature_dropout_",
                                           "alpha_dropout",
                                           "alpha_dropout_",
                                           "feature_alpha_dropout",
                                           "feature_alpha_dropout_",
                                           "native_dropout",
                                           "rand",
                                           "randn",
                                           "rand_like",
                                           "randn_like",
                                           "randint",
                                           "randint_like",
                                           "lstm",
                                           "gru",
                                           "rnn_tanh",
                                           "rnn_relu",
                                           "scaled_dot_product_attention",
                                           "_scaled_dot_product_attention_math"};
  return names.contains(name);
}

}  // namespace hadal::engine
