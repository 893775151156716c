#pragma once
// The code of a TorchScript archive on another device than the one it was written or traced on.

#include <c10/core/Device.h>

namespace torch::jit {
struct Module;
}

namespace hadal::engine {

// Makes every method and function of a module that has not run yet compute on `device`, as exported
// programs do: whatever device its code names becomes this one, and new tensors of which it does
// not say where they are to lie (torch.zeros(3)) lie there. The tensors that the module holds are
// its loader's affair (torch::jit::load takes a device).
void move_code(const torch::jit::Module& module, c10::Device device);

}  // namespace hadal::engine
