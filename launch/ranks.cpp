#include "launch/ranks.hpp"

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <vector>

#include "engine/comm/collectively.hpp"
#include "io/error.hpp"
#include "launch/environment.hpp"
#include "launch/fabric.hpp"

namespace hadal::launch {
namespace {

std::optional<int> number(const std::string& name) {
  const auto text = environment_variable(name);
  int value = 0;
  if (!text) return std::nullopt;
  const auto parsed = std::from_chars(text->data(), text->data() + text->size(), value);
  return parsed.ec == std::errc{} ? std::optional(value) : std::nullopt;
}

io::Error contradiction(const std::string& variable, int claimed, int real) {
  return {
      io::ErrorKind::launch,
      fmt::format("the environment says {} tasks ({}), MPI says {}: this program would run as {} "
                  "separate jobs; start it with \"srun --mpi=pmix\" (see \"srun --mpi=list\") or "
                  "with the mpirun of its own MPI, or add --single for one rank on purpose",
                  claimed, variable, real, claimed)};
}

bool mpi_launcher() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMI_FD", "PMIX_RANK"}) {
    if (environment_variable(name)) return true;
  }
  return false;
}

// "2(x3),1" is 7 tasks; nothing where the text is no such list.
std::optional<int> sum_of_tasks_per_node(const std::string& text) {
  int sum = 0;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    int tasks = 0, nodes = 1;
    auto parsed = std::from_chars(at, end, tasks);
    if (parsed.ec != std::errc{}) return std::nullopt;
    at = parsed.ptr;
    if (end - at > 2 && at[0] == '(' && at[1] == 'x') {
      parsed = std::from_chars(at + 2, end, nodes);
      if (parsed.ec != std::errc{} || parsed.ptr == end || *parsed.ptr != ')') return std::nullopt;
      at = parsed.ptr + 1;
    }
    sum += tasks * nodes;
    if (at < end && *at++ != ',') return std::nullopt;
  }
  return sum;
}

// Open MPI ends the process itself inside a Slurm step without its interface, so this comes first.
void check_before_mpi() {
  if (mpi_launcher()) {
    if (environment_variable("PMIX_RANK") && variables_with_prefix("PMIX_SERVER_URI").empty()) {
      throw io::Error(
          io::ErrorKind::launch,
          "PMIX_RANK is set but no PMIx server is there (PMIX_SERVER_URI): the launcher's "
          "variables leaked into a plain start; unset them, or use srun --mpi=pmix");
    }
    return;
  }
  const bool task = environment_variable("SLURM_PROCID").has_value();
  for (const char* name : {"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "QCG_PM_NTASKS"}) {
    const auto claimed = number(name);
    if (claimed && *claimed > 1) throw contradiction(name, *claimed, 1);
    // A step of one task describes this process; what the allocation holds besides does not matter.
    if (claimed && task && std::string(name) == "SLURM_STEP_NUM_TASKS") return;
  }
}

// What describes the ranks, most exact first: under mpirun Slurm's variables are its daemons', in a
// step the allocation's are not the step's.
void check_after_mpi(int size) {
  const bool mpirun = environment_variable("OMPI_COMM_WORLD_SIZE").has_value();
  const bool step = !mpirun && environment_variable("SLURM_STEP_NUM_TASKS").has_value();
  std::vector<const char*> names{"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "QCG_PM_NTASKS"};
  if (step) names.push_back("SLURM_STEP_NUM_TASKS");
  if (!step && !mpirun) names.push_back("SLURM_NTASKS");
  for (const char* name : names) {
    const auto claimed = number(name);
    if (claimed && *claimed != size) throw contradiction(name, *claimed, size);
  }
  if (step || mpirun) return;
  const auto ntasks = number("SLURM_NTASKS");
  const auto per_node = number("SLURM_NTASKS_PER_NODE");
  const int nodes = number("SLURM_NNODES").value_or(1);
  if (ntasks && per_node && *per_node * nodes > *ntasks && nodes * (*per_node - 1) >= *ntasks) {
    throw io::Error(io::ErrorKind::launch,
                    fmt::format("SLURM_NTASKS={} contradicts SLURM_NTASKS_PER_NODE={} on {} nodes; "
                                "repair the job's header",
                                *ntasks, *per_node, nodes));
  }
  const auto list = environment_variable("SLURM_TASKS_PER_NODE");
  const auto sum = list ? sum_of_tasks_per_node(*list) : std::nullopt;
  if (sum && ntasks && *sum != size) {
    throw contradiction("SLURM_TASKS_PER_NODE=" + *list, *sum, size);
  }
}

}  // namespace

std::unique_ptr<engine::Communicator> join_ranks(bool single) {
  if (single) return engine::solo_communicator();
  check_before_mpi();
  tune_mpi();
  tune_fabric();
  return mpi_launcher() ? engine::mpi_communicator() : engine::solo_communicator();
}

void check_ranks(engine::Communicator& comm, bool single) {
  if (single) return;
  engine::run_collectively(comm, "compare ranks", [&] { check_after_mpi(comm.size()); });
}

}  // namespace hadal::launch
