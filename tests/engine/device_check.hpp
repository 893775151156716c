#pragma once
// What devices must do for ranks, whatever they are and whatever carries the bytes between them.
// Collective; throw std::runtime_error with what went wrong.

#include <vector>

#include "engine/device/device_communicator.hpp"

namespace hadal::tests {

// Messages of many sizes between all ranks, and sums.
void check_device_messages(engine::Communicator& comm, engine::Device& device,
                           engine::DeviceCommunicator& messages);

// The canonical reduction of synthetic gradients, one for each leaf that is present, and its way
// back, against sums that every rank makes for itself.
void check_device_reduction(engine::Communicator& comm, engine::Device& device,
                            engine::DeviceCommunicator& messages, const std::vector<bool>& present);

}  // namespace hadal::tests
