#include <nlohmann/json.hpp>

#include "engine/program/exported_model.hpp"
#include "io/error.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(HADAL_SOURCE_DIR) / "tests/golden/pt2/torch-2.13.0" /
         (name + ".pt2");
}

const std::vector<engine::InputSpec> kImage{{"x", io::DType::f32, {3, 8, 8}}};
const std::vector<engine::InputSpec> kTokens{{"x", io::DType::i64, {6}}};

// The graph of a golden program with one node's target replaced.
nlohmann::json with_target(const std::string& from, const std::string& to) {
  nlohmann::json program = engine::ProgramFile(golden("conv")).program();
  for (auto& node : program["graph_module"]["graph"]["nodes"]) {
    if (node["target"] == from) node["target"] = to;
  }
  return program;
}

std::string refusal(const nlohmann::json& program) {
  return tests::error_of(io::ErrorKind::checkpoint, [&] {
    engine::compile_graph(program, "net.pt2", engine::GraphMode::as_exported);
  });
}

}  // namespace

TEST_CASE("a program's parameters are in order of first use, tied ones once") {
  const engine::ExportedModel conv(golden("conv"), kImage);
  REQUIRE(conv.batch() == 4);
  REQUIRE(conv.uses_batch_statistics());
  REQUIRE(conv.parameters().front().name == "conv1.weight");
  REQUIRE(conv.parameters().back().name == "fc.bias");
  REQUIRE(conv.buffers().size() == 6);
  REQUIRE(conv.constants().empty());
  const engine::ExportedModel lm(golden("lm"), kTokens);
  REQUIRE(lm.parameters().front().aliases.size() == 1);
  REQUIRE(lm.parameters().size() == 12);
  REQUIRE(engine::program_output(golden("lm"), 0) == io::Shape{6, 17});
  REQUIRE(engine::program_output(golden("lm"), 1).empty());
}

TEST_CASE("inputs that do not fit a program are refused with what it takes") {
  const auto fault = [](const std::vector<engine::InputSpec>& inputs) {
    return tests::error_of(io::ErrorKind::config,
                           [&] { engine::ExportedModel(golden("conv"), inputs); });
  };
  REQUIRE(tests::contains(fault({{"image", io::DType::i64, {3, 8, 8}}}),
                          "x (float32 [4, 3, 8, 8]); set data.inputs.image.dtype = \"float32\""));
  REQUIRE(
      tests::contains(fault({{"image", io::DType::f32, {3, 9, 8}}}), "has the shape [3, 9, 8]"));
  REQUIRE(
      tests::contains(fault({{"a", io::DType::f32, {3, 8, 8}}, {"b", io::DType::f32, {3, 8, 8}}}),
                      "[data.inputs] has a, b"));
}

TEST_CASE("what cannot run is refused with the operator and the user's line") {
  const std::string unknown =
      refusal(with_target("torch.ops.aten.conv2d.default", "torch.ops.mine.conv.default"));
  REQUIRE(tests::contains(unknown, "torch.ops.mine.conv.default"));
  REQUIRE(tests::contains(unknown, "golden.py"));
  REQUIRE(tests::contains(unknown, "no operator of this libtorch"));
  REQUIRE(tests::contains(
      refusal(with_target("torch.ops.aten.relu.default", "torch.ops.higher_order.cond")),
      "control flow"));
  REQUIRE(tests::contains(
      refusal(with_target("torch.ops.aten.relu.default", "torch.ops.aten.randperm.default")),
      "n is missing"));
}

TEST_CASE("another schema and pickled weights are refused with the line that exports right") {
  const tests::TemporaryFolder folder;
  const io::ZipArchive archive(golden("conv"));
  std::string text = archive.read_text(*archive.find("models/model.json"));
  const std::size_t at = text.find("\"major\": 8");
  REQUIRE(at != std::string::npos);
  text[at + 9] = '9';
  const auto bytes = std::as_bytes(std::span(text));
  io::copy_zip_with(archive, golden("conv"), folder / "new.pt2",
                    {{"models/model.json", {bytes.begin(), bytes.end()}}});
  const std::string fault =
      tests::error_of(io::ErrorKind::checkpoint, [&] { engine::ProgramFile(folder / "new.pt2"); });
  REQUIRE(tests::contains(fault, "export schema 9.20"));
  REQUIRE(tests::contains(fault, "torch.export.save"));
}
