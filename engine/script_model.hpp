#pragma once
// A TorchScript archive (torch.jit.save) as a model, for networks that exist in no other form.
// PyTorch has deprecated TorchScript; torch.export programs are the way on.

#include <filesystem>
#include <memory>
#include <vector>

#include "engine/model.hpp"

namespace hadal::engine {

// Inputs are the forward arguments in their order. Throws a checkpoint error for a file that is no
// such archive, has parameters that are not float32, or draws random numbers that cannot be
// repeated; a config error where the number of inputs differs.
std::unique_ptr<Model> script_model(const std::filesystem::path& path,
                                    const std::vector<InputSpec>& inputs);

}  // namespace hadal::engine
