#pragma once
// A `torch.export` program as a model: its parameters bound to the arena under their state-dict
// names (tied ones tied), its graph run with autograd on. For evaluation it runs the program that
// the export helper stored beside it, or its own with dropout and batch statistics turned off.

#include <filesystem>
#include <optional>

#include "engine/model.hpp"
#include "engine/program/graph.hpp"
#include "engine/program/program_file.hpp"

namespace hadal::engine {

class ExportedModel : public Model {
 public:
  // `inputs` are bound to the forward arguments by name, or where the names differ by order. Throws
  // a checkpoint error for a program that cannot be used, a config error for inputs that do not
  // fit.
  ExportedModel(const std::filesystem::path& path, const std::vector<InputSpec>& inputs);

  void initialise(std::uint64_t seed, std::span<const std::span<float>> values,
                  BufferValues& buffers, BufferValues& constants) const override;

  std::vector<at::Tensor> forward(std::span<const at::Tensor> inputs,
                                  ForwardContext& context) const override;

  void keep_statistics(std::size_t parameter) override;

  std::string reason_against_training() const override;
  std::string reason_against_evaluation() const override;

  const ProgramFile& file() const { return file_; }
  const Graph& graph() const { return train_; }

 private:
  // Where each of a graph's inputs comes from.
  struct Binding {
    enum class Source { parameter, buffer, constant, user };
    Source source = Source::user;
    std::size_t index = 0;
    int slot = -1;
  };

  Init usual_init(const std::string& name) const;
  void collect_parameters();
  void collect_buffers();
  std::vector<Binding> bind(const Graph& graph, const std::vector<InputSpec>& inputs) const;
  std::size_t input_index(const Graph& graph, const GraphInput& wanted,
                          const std::vector<InputSpec>& inputs) const;

  ProgramFile file_;
  Graph train_;
  Graph evaluate_;
  std::vector<Binding> train_bindings_;
  std::vector<Binding> evaluate_bindings_;
};

}  // namespace hadal::engine
