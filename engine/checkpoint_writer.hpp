#pragma once
// A checkpoint to disk while training goes on. Between two updates nothing of the state changes, so
// it is copied behind the next forward and backward; then one rank a host writes, and when all
// have, at a later step, rank 0 makes it a checkpoint. What a rank has done travels with the step's
// control record: nobody waits for anybody.

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/checkpoint_assembly.hpp"
#include "engine/thread_team.hpp"
#include "io/checkpoint_store.hpp"
#include "io/error.hpp"

namespace hadal::engine {

class CheckpointWriter {
 public:
  struct Options {
    std::filesystem::path folder;  // of the store
    std::int64_t keep = 1;
    std::function<bool(std::int64_t step)> stays;  // older ones that are not removed
  };

  // All must outlive it. `copiers` threads copy.
  CheckpointWriter(Communicator& comm, CheckpointMemory& memory, int copiers, Options options);
  ~CheckpointWriter();

  // Whether a save is under way.
  bool busy() const { return phase_ != kIdle; }

  // Collective, where none is under way. Begins to save the state of `step`; `run` goes into the
  // manifest.
  void begin(std::int64_t step, nlohmann::json run);

  // Waits until this rank has copied what it has. Before any of the state changes every rank must
  // have come back from here.
  void copy();

  // What this rank has done, to be agreed on by all: the smallest of all ranks' counts.
  std::int32_t progress();

  // Collective. With the agreed progress: goes on with what comes next. The folder once the
  // checkpoint is complete and older ones are pruned. Throws, where any rank's part has failed, an
  // agreed storage error; nothing is left of the checkpoint then.
  std::optional<std::filesystem::path> advance(std::int32_t agreed);

  // Collective. Waits for the end of the save under way.
  std::filesystem::path finish();

  // What this rank's part of the last save took, without the time between its phases.
  double seconds() const { return seconds_; }
  // Of its copy to memory.
  double copy_seconds() const { return assembly_.seconds(); }

 private:
  // In this order. On one host nothing has to be agreed on in between.
  enum Phase : std::int32_t { kIdle = -1, kPrepare, kWrite, kVerify, kCommit, kDone };

  void start_phase();
  void prepare();
  void write(std::optional<io::Error> failure);
  void verify();
  void commit();
  void gather_hashes();
  bool wait_until_whole(std::int64_t number) const;
  [[noreturn]] void give_up();

  bool one_host() const { return memory_.hosts().size() == 1; }
  bool is_writer() const { return memory_.image.host().rank() == 0; }
  std::filesystem::path partial() const { return store_.partial_folder(manifest_.step); }

  Communicator& comm_;
  CheckpointMemory& memory_;
  Options options_;
  io::CheckpointStore store_;
  std::int32_t phase_ = kIdle;
  io::CheckpointManifest manifest_;
  std::optional<io::Error> failure_;
  std::int64_t released_ = 0;          // blocks of this save, by the writer
  std::vector<std::uint64_t> hashes_;  // by block; of this host's until all have told
  double seconds_ = 0;
  std::atomic<bool> ends_ = false;
  CheckpointAssembly assembly_;
  // Its thread ends before what it uses.
  ThreadTeam worker_{1};
  std::optional<ThreadTeam::Running> job_;
};

}  // namespace hadal::engine
