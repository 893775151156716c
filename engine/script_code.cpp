#include "engine/script_code.hpp"

#include <ATen/core/function.h>
#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <vector>

namespace hadal::engine {
namespace {

namespace jit = torch::jit;

class Mover {
 public:
  Mover(jit::Graph& graph, c10::Device device) {
    const jit::WithInsertPoint here(graph.block()->param_node()->next());
    device_ = graph.insertConstant(device);
    move(*graph.block());
    if (!device_->hasUses()) device_->node()->destroy();
  }

 private:
  void move(jit::Block& block) {
    // What is replaced leaves the list.
    const std::vector<jit::Node*> nodes(block.nodes().begin(), block.nodes().end());
    for (jit::Node* node : nodes) {
      for (jit::Block* inner : node->blocks()) move(*inner);
      if (node == device_->node()) continue;
      if (names_a_device(*node)) {
        replace(*node, device_);
      } else if (node->kind() == c10::Symbol::aten("cpu") ||
                 node->kind() == c10::Symbol::aten("cuda")) {
        replace(*node, node->input(0));
      } else {
        place_new_tensors(*node);
      }
    }
  }

  // A device that the code spells out: torch.device("cpu"), or what tracing made of it.
  static bool names_a_device(const jit::Node& node) {
    if (node.kind() == jit::prim::Constant) {
      return node.output()->type()->kind() == c10::TypeKind::DeviceObjType &&
             !node.output()->mustBeNone();
    }
    return node.kind() == c10::Symbol::aten("device");
  }

  // Operators with tensors among their arguments make new ones where those are.
  void place_new_tensors(jit::Node& node) {
    const c10::FunctionSchema* schema = node.maybeSchema();
    if (schema == nullptr) return;
    const std::vector<c10::Argument>& arguments = schema->arguments();
    const auto is_tensor = [](const c10::Argument& argument) {
      return argument.type()->isSubtypeOf(*c10::TensorType::get());
    };
    const auto device = schema->argumentIndexWithName("device");
    if (!device || std::any_of(arguments.begin(), arguments.end(), is_tensor)) return;
    const auto index = static_cast<std::size_t>(*device);
    if (node.input(index)->mustBeNone()) node.replaceInput(index, device_);
  }

  static void replace(jit::Node& node, jit::Value* by) {
    node.output()->replaceAllUsesWith(by);
    node.destroy();
  }

  jit::Value* device_ = nullptr;
};

}  // namespace

void move_code(const torch::jit::Module& module, c10::Device device) {
  for (jit::Function* function : module._ivalue()->compilation_unit()->get_functions()) {
    function->ensure_defined();
    jit::GraphFunction* const written = jit::tryToGraphFunction(*function);
    if (written != nullptr) Mover(*written->graph(), device);
  }
}

}  // namespace hadal::engine
