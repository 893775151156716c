#pragma once
// What training and evaluation share: the model, its arena and state, the workers bound to it, and
// the fingerprint of this machine's arithmetic.

#include <memory>
#include <string>

#include "engine/device/device_weights.hpp"
#include "engine/fingerprint.hpp"
#include "engine/gradient_pool.hpp"
#include "engine/objective.hpp"
#include "engine/place.hpp"
#include "engine/training_state.hpp"
#include "engine/worker_pool.hpp"

namespace hadal::engine {

// A session that only applies the model keeps no optimizer state and computes no gradient.
class Session {
 public:
  enum class Purpose { train, apply };

  // Collective. `model` is that of check_model(). Initialises the weights from the seed or from
  // model.weights, takes the fingerprint and settles the number of workers: as wished for, cut down
  // to what the memory limit holds.
  Session(const RunConfig& config, const Place& place, Communicator& comm,
          const io::DataIndex& data, std::unique_ptr<Model> model, Purpose purpose);

  const Model& model() const { return *model_; }
  const Objective& objective() const { return objective_; }
  WorkerPool& pool() { return *pool_; }
  TrainingState& state() { return *state_; }
  HostMemory& host() { return *host_; }
  // Null where the host's cores compute. The rest is there with it.
  Device* device() { return device_.get(); }
  DeviceCommunicator& messages() { return *messages_; }
  DeviceWeights& device_weights() { return *device_weights_; }
  // How its workers want their batches: a device gets images as they are stored.
  io::BatchOptions batch_options(const RunConfig& config) const {
    io::BatchOptions options = config.data.batch;
    options.raw_images = device_ != nullptr;
    return options;
  }
  // A step's micro-batches by rank.
  const std::vector<Share>& shares() const { return shares_; }
  // Collective. After the host's weights have been changed: takes them to the device.
  void take_weights();
  // Of the host's cores.
  GradientPool& gradients() { return *gradients_; }
  // Whether this rank's limit leaves memory for a copy of what it saves.
  bool can_copy_state() const { return can_copy_state_; }
  std::uint64_t fingerprint() const { return fingerprint_.arithmetic; }

 private:
  void open_place(const RunConfig& config, const Place& place, Communicator& comm);
  void take_memory(const RunConfig& config, const Place& place, Communicator& comm,
                   const Weights::Layouts& layouts, Purpose purpose);
  void start_workers(const RunConfig& config, const Place& place, Communicator& comm,
                     const io::DataIndex& data, Purpose purpose);

  Objective objective_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<HostMemory> host_;
  std::unique_ptr<GradientPool> gradients_;
  std::vector<Share> shares_;
  std::optional<PartRounding> rounding_;  // until the state has it
  std::unique_ptr<TrainingState> state_;
  std::unique_ptr<DeviceWeights> device_weights_;
  std::unique_ptr<DeviceCommunicator> messages_;  // ends before any memory that it uses
  std::unique_ptr<WorkerPool> pool_;
  Fingerprint fingerprint_;
  bool can_copy_state_ = true;
  std::string fewer_workers_;  // the reason, where memory does not hold as many as cores
};

// Collective. The weights to apply: of a checkpoint folder or safetensors file (`given`); else the
// run's own model where there is one; else those that the session began with (model.weights, or the
// program's own). Throws a checkpoint error where there are none but random ones.
void load_trained(const RunConfig& config, const std::filesystem::path& given, Communicator& comm,
                  Session& session);

// The inputs of the model, from the data's own headers.
std::vector<InputSpec> input_specs(const io::DataIndex& data);

// The shape of what the model gives for a sample: [classes] of its options, or the target's, which
// for cross_entropy headers do not tell. Throws a config error in that case.
io::Shape output_shape(const RunConfig& config, const io::DataIndex& data);

}  // namespace hadal::engine
