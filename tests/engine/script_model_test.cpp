// The code of TorchScript archives on another device. "meta" stands for it: its operators take no
// tensor of the host.
#include "engine/script_model.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#include "tests/support/catch.hpp"

using namespace hadal;
using namespace hadal::tests;

namespace {

namespace jit = torch::jit;

// y = x weight' + 1 (a buffer) + 0 1 2 (made here and there) + 10 (the module's own) + 100 (the
// code's own)
void save_module(const std::filesystem::path& path) {
  jit::Module inner("Inner");
  inner.register_attribute("shift", c10::TensorType::get(), at::full({3}, 10.0f));
  inner.define(R"(
def forward(self, y):
    return y.to("cpu") + self.shift
)");
  jit::Module module("Net");
  module.register_parameter("weight", at::eye(3), /*is_buffer=*/false);
  module.register_buffer("seen", at::ones({3}));
  module.register_module("inner", inner);
  module.define(R"(
def forward(self, x):
    y = torch.matmul(x, self.weight) + self.seen
    if x.size(0) > 1:
        y = y + torch.zeros([3], device=torch.device("cpu")) + torch.arange(3)
    like = torch.zeros_like(y)
    return self.inner.forward((y + like).cpu())
)");
  const std::shared_ptr<jit::Graph> graph = module.get_method("forward").graph();
  const jit::WithInsertPoint end(graph->return_node());
  jit::Value* const constant = graph->insertConstant(at::full({3}, 100.0f));
  graph->block()->replaceOutput(0, graph->insert(jit::aten::add, {graph->outputs()[0], constant}));
  module.save(path.string());
}

at::Tensor forward(const engine::Model& model, at::Device device) {
  const std::vector<at::Tensor> parameters{at::eye(3).to(device)};
  std::vector<at::Tensor> buffers{at::ones({3}).to(device)};
  engine::ForwardContext context{.specs = model.parameters(),
                                 .parameters = parameters,
                                 .buffers = buffers,
                                 .constants = {},
                                 .training = false};
  const std::vector<at::Tensor> inputs{at::zeros({2, 3}).to(device)};
  return model.forward(inputs, context).at(0);
}

}  // namespace

TEST_CASE("a script's code computes on the device of its inputs, whatever device it names") {
  const TemporaryFolder folder;
  save_module(folder / "net.pt");
  const std::vector<engine::InputSpec> inputs{{"x", io::DType::f32, {3}}};
  const auto model = engine::script_model(folder / "net.pt", inputs);
  const at::Tensor expected = at::arange(3).add(111).to(at::kFloat).expand({2, 3});
  for (int round = 0; round < 2; ++round) {
    REQUIRE(forward(*model, at::kCPU).equal(expected));
    const at::Tensor there = forward(*model, at::kMeta);
    REQUIRE(there.is_meta());
    REQUIRE(there.sizes() == expected.sizes());
  }
}
