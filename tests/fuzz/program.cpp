// Damaged and hostile torch.export archives: the zip container as it is, and its graph's JSON put
// back into an archive with the right checksums.

#include <filesystem>

#include "engine/program/graph.hpp"
#include "engine/program/program_file.hpp"
#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/json.hpp"
#include "tests/fuzz/target.hpp"

using namespace hadal;

namespace {

std::string golden(const std::string& name) {
  return io::read_file(std::filesystem::path(HADAL_SOURCE_DIR) / "tests" / "golden" / "pt2" /
                       "torch-2.11.0" / (name + ".pt2"));
}

io::ZipArchive archive_of(const std::string& bytes) {
  return {std::as_bytes(std::span(bytes)), "input"};
}

// Reads everything that a run would read.
void use_archive(const std::string& bytes) {
  const engine::ProgramFile file(archive_of(bytes));
  for (const engine::Payload& payload : file.weights()) static_cast<void>(file.read(payload));
  engine::compile_graph(file.program(), "input", engine::GraphMode::as_exported);
  engine::compile_graph(file.program(), "input", engine::GraphMode::evaluation);
}

void use_graph(const std::string& text) {
  const auto program = hadal::io::parse_json(text);
  if (!program.is_object()) return;
  const engine::Graph graph =
      engine::compile_graph(program, "input", engine::GraphMode::as_exported);
  engine::compile_graph(program, "input", engine::GraphMode::evaluation);
  // What is accepted reads no slot outside of its own.
  const auto check = [&](int slot) {
    if (slot >= graph.slot_count) throw std::logic_error("an accepted graph has a slot too many");
  };
  for (const engine::Instruction& instruction : graph.code) {
    for (const engine::Operand& operand : instruction.operands) {
      check(operand.slot);
      for (const int slot : operand.slots) check(slot);
    }
  }
}

}  // namespace

void fuzz_one(const std::string& input) {
  try {
    if (input.starts_with("PK")) {
      use_archive(input);
    } else {
      use_graph(input);
    }
  } catch (const io::Error& error) {
    if (error.kind() != io::ErrorKind::checkpoint) throw;
  }
}

std::vector<std::string> fuzz_corpus() {
  std::vector<std::string> corpus;
  for (const std::string name : {"conv", "lm", "lstm"}) {
    corpus.push_back(golden(name));
    const io::ZipArchive archive = archive_of(corpus.back());
    corpus.push_back(archive.read_text(*archive.find("models/model.json")));
    corpus.push_back(archive.read_text(*archive.find("data/weights/model_weights_config.json")));
  }
  return corpus;
}
