#include "launch/data_check.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/identity.hpp"
#include "io/deep_check.hpp"
#include "io/error.hpp"

namespace hadal::launch {

CheckedData check_data(const engine::RunConfig& run, CheckDepth depth) {
  const auto comm = engine::solo_communicator();
  CheckedData checked;
  std::vector<std::string> faults;
  for (const engine::Split split :
       {engine::Split::train, engine::Split::valid, engine::Split::test}) {
    if (!engine::has_split(run.data, split)) continue;
    try {
      io::DataIndex data = engine::open_dataset(*comm, run.data, split);
      if (split == engine::Split::train) {
        checked.model = engine::check_model(run, data);
        engine::check_plan(run, data, *checked.model, 1);
      }
      if (depth == CheckDepth::samples) {
        const std::vector<std::string> found = io::deep_check(data, run.data.batch);
        faults.insert(faults.end(), found.begin(), found.end());
      }
      checked.splits.push_back({split, std::move(data)});
    } catch (const io::Error& error) {
      if (error.kind() != io::ErrorKind::data) throw;
      faults.push_back(error.what());
    }
  }
  if (faults.empty()) return checked;
  throw io::Error(io::ErrorKind::data, fmt::format("{}", fmt::join(faults, "\n  ")));
}

}  // namespace hadal::launch
