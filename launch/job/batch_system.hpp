#pragma once
// Who takes jobs: Slurm by its commands, Slurm's REST interface, or QCG's gateway. All speak of a
// job in the same words here.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "launch/job/description.hpp"

namespace hadal::launch {

enum class JobState { queued, running, ending, done, failed, cancelled, unknown };

std::string name_of(JobState state);
// Whether it waits, runs or is about to end.
bool is_alive(JobState state);

struct JobReport {
  std::string id;
  JobState state = JobState::unknown;
  std::string native;  // the state in the system's own word
  std::string reason;  // why it waits or failed, where the system tells
};

// What a run is doing that goes on under several numbers: of its jobs the one that runs, else one
// that is about to end, else one that waits. `unknown` where none is alive.
JobReport foremost(const std::vector<JobReport>& jobs);

// Where and how to reach one.
struct BatchSystemAddress {
  std::string system = "slurm";  // slurm, slurmrestd, qcg
  std::string endpoint;          // of the last two
  std::filesystem::path token;   // a file; empty: none
  int api = 38;                  // of slurmrestd
};

// All functions throw a launch error where the system does not answer or refuses.
class BatchSystem {
 public:
  virtual ~BatchSystem() = default;
  // What submit() would hand over, to look at.
  virtual std::string preview(const JobDescription& job) const = 0;
  // Returns the job's number. Where the system cannot be handed a script, it stands in the run
  // folder.
  virtual std::string submit(const JobDescription& job) = 0;
  // `name` is the job's too: a run that goes on by itself may have another number by now. Empty:
  // this number and no other.
  virtual JobReport report(const std::string& id, const std::string& name) = 0;
  // A job that is over already is no error.
  virtual void cancel(const std::string& id, const std::string& name) = 0;
};

std::vector<std::string> batch_system_names();
// Throws a usage error where the address is not whole.
std::unique_ptr<BatchSystem> reach(const BatchSystemAddress& address);

// Slurm's states (squeue(1), JOB STATE CODES) and QCG's in our words.
JobState state_of_slurm(const std::string& native);
JobState state_of_qcg(const std::string& native);

// The three.
std::unique_ptr<BatchSystem> slurm_commands();
std::unique_ptr<BatchSystem> slurm_rest(const BatchSystemAddress& address);
std::unique_ptr<BatchSystem> qcg_gateway(const BatchSystemAddress& address);

}  // namespace hadal::launch
