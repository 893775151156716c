#pragma once
// A trained model in the forms that other programs take. Each file gets its name when it is
// complete. Throws checkpoint errors for weights that do not fit, storage errors for the rest.

#include <filesystem>

namespace hadal::engine {

// The weights of a checkpoint folder or safetensors file as one safetensors file.
void export_safetensors(const std::filesystem::path& weights, const std::filesystem::path& output);

// The exported program `program` with these weights: `torch.export.load` opens it.
void export_program(const std::filesystem::path& program, const std::filesystem::path& weights,
                    const std::filesystem::path& output);

// A Python script that turns program and weights into an ONNX file: the converter is PyTorch's own.
void export_onnx_helper(const std::filesystem::path& program, const std::filesystem::path& weights,
                        const std::filesystem::path& output);

}  // namespace hadal::engine
