#include "engine/model.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "io/hashing_file.hpp"
#include "io/sample_order.hpp"

namespace hadal::engine {

void initialise(const Model& model, std::uint64_t seed, std::span<const std::span<float>> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const ParameterSpec& spec = model.parameters()[i];
    at::Tensor tensor = at::from_blob(values[i].data(), spec.shape, at::kFloat);
    const std::uint64_t name = io::hash_bytes(std::as_bytes(std::span(spec.name)));
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(io::mix(seed, name));
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
}

}  // namespace hadal::engine
