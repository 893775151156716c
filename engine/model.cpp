#include "engine/model.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "io/hashing_file.hpp"
#include "io/sample_order.hpp"

namespace hadal::engine {

void draw(const ParameterSpec& spec, std::uint64_t seed, std::span<float> values) {
  at::Tensor tensor = at::from_blob(values.data(), spec.shape, at::kFloat);
  const std::uint64_t name = io::hash_bytes(std::as_bytes(std::span(spec.name)));
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(io::mix(seed, name));
  switch (spec.init.kind) {
    case Init::Kind::constant:
      tensor.fill_(spec.init.value);
      break;
    case Init::Kind::uniform:
      tensor.uniform_(-spec.init.value, spec.init.value, generator);
      break;
    case Init::Kind::normal:
      tensor.normal_(0, spec.init.value, generator);
      break;
  }
}

void Model::initialise(std::uint64_t seed, std::span<const std::span<float>> values,
                       BufferValues& buffers, BufferValues& constants) const {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!values[i].empty()) draw(parameters_[i], seed, values[i]);
  }
  buffers = buffers_.initial();
  constants = constants_.initial();
}

}  // namespace hadal::engine
