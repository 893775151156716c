#include "engine/checkpoint_assembly.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

namespace hadal::engine {
namespace {

constexpr std::chrono::microseconds kLook(200);

Share cut(Share blocks, Share window) {
  return {std::min(blocks.begin + window.begin, blocks.end),
          std::min(blocks.begin + window.end, blocks.end)};
}

template <class Visit>
void for_each_in(const CheckpointParts& parts, Share blocks, Visit visit) {
  for (const CheckpointPart& part : parts) {
    if (part.block >= blocks.begin && part.block < blocks.end) visit(part);
  }
}

std::int64_t bytes_in(const CheckpointParts& parts, Share blocks) {
  std::int64_t sum = 0;
  for_each_in(parts, blocks, [&](const CheckpointPart& part) { sum += part.bytes; });
  return sum;
}

}  // namespace

CheckpointAssembly::CheckpointAssembly(Communicator& comm, CheckpointMemory& memory, int copiers)
    : comm_(comm), memory_(memory) {
  while (copiers_.size() < copiers) copiers_.add();
}

void CheckpointAssembly::begin() {
  ++begun_;
  exchanged_ = memory_.hosts().size() == 1;
  if (!memory_.is_whole()) return;
  window_ = {0, memory_.image.capacity()};
  // What goes to other hosts is copied first, so that it travels early.
  sent_.clear();
  struct Copy {
    const CheckpointPart* part;
    std::byte* to;  // null: into the image
  };
  auto copies = std::make_shared<std::vector<Copy>>();
  for (const CheckpointMemory::Route& route : memory_.outgoing) {
    sent_.push_back(AlignedBuffer::for_overwrite(bytes_of(route.parts) / 4));
    auto* to = reinterpret_cast<std::byte*>(sent_.back().data());
    for (const CheckpointPart& part : route.parts) {
      copies->push_back({&part, to});
      to += part.bytes;
    }
  }
  for (const CheckpointPart& part : memory_.local) copies->push_back({&part, nullptr});
  if (copies->empty()) return;
  copying_.emplace(copiers_.start(0, std::ssize(*copies), [this, copies](int, std::int64_t i) {
    const auto& [part, to] = (*copies)[static_cast<std::size_t>(i)];
    if (to != nullptr) {
      std::memcpy(to, part->memory, static_cast<std::size_t>(part->bytes));
    } else {
      copy_part(*part);
    }
  }));
}

void CheckpointAssembly::copy_part(const CheckpointPart& part) {
  memory_.image.put(part.block - memory_.blocks.begin, part.offset,
                    {part.memory, static_cast<std::size_t>(part.bytes)},
                    memory_.layout.blocks()[static_cast<std::size_t>(part.block)].bytes);
}

void CheckpointAssembly::copy() {
  if (copying_) {
    seconds_ = copying_->finish();
    copying_.reset();
  }
  if (exchanged_ || !memory_.is_whole()) return;
  start_exchange(window_);
  exchanged_ = true;
}

// Messages of the blocks in a window of every host, from `sent_`.
void CheckpointAssembly::start_exchange(Share window) {
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for (std::size_t r = 0; r < memory_.outgoing.size(); ++r) {
    out.push_back({memory_.outgoing[r].peer, std::as_bytes(sent_[r].span())});
  }
  received_.clear();
  for (const CheckpointMemory::Route& route : memory_.incoming) {
    received_.push_back(
        AlignedBuffer::for_overwrite(bytes_in(route.parts, cut(memory_.blocks, window)) / 4));
    in.push_back({route.peer, std::as_writable_bytes(received_.back().span())});
  }
  std::erase_if(out, [](const Outgoing& message) { return message.bytes.empty(); });
  std::erase_if(in, [](const Incoming& message) { return message.bytes.empty(); });
  exchange_ = comm_.start(out, in);
}

// What has arrived goes to its places.
void CheckpointAssembly::land() {
  for (std::size_t r = 0; r < memory_.incoming.size(); ++r) {
    auto* from = reinterpret_cast<std::byte*>(received_[r].data());
    for_each_in(memory_.incoming[r].parts, cut(memory_.blocks, window_), [&](CheckpointPart part) {
      part.memory = from;
      copy_part(part);
      from += part.bytes;
    });
  }
}

bool CheckpointAssembly::done() {
  if (exchange_ && exchange_->done()) {
    exchange_.reset();
    sent_.clear();
    if (!received_.empty()) {
      copying_.emplace(copiers_.start(0, 1, [this](int, std::int64_t) { land(); }));
    }
  }
  if (copying_ && !copiers_.busy()) {
    copying_->finish();
    copying_.reset();
    if (exchanged_ && !exchange_) received_.clear();
  }
  return !copying_ && !exchange_ && exchanged_;
}

void CheckpointAssembly::fill_by_windows() {
  if (memory_.is_whole()) return;
  const std::int64_t each = std::max<std::int64_t>(memory_.image.capacity() / 2, 1);
  std::int64_t most = 0;
  for (std::size_t h = 0; h < memory_.hosts().size(); ++h) {
    most = std::max(most, memory_.blocks_of(h).count());
  }
  const std::int64_t released_before = (begun_ - 1) * memory_.blocks.count();
  for (std::int64_t first = 0; first < most; first += each) {
    const std::int64_t needed =
        released_before + std::clamp<std::int64_t>(first + each - memory_.image.capacity(), 0,
                                                   memory_.blocks.count());
    while (memory_.image.released() < needed) std::this_thread::sleep_for(kLook);
    window_ = {first, first + each};
    for_each_in(memory_.local, cut(memory_.blocks, window_),
                [&](const CheckpointPart& part) { copy_part(part); });
    if (memory_.hosts().size() == 1) continue;
    sent_.clear();
    for (const CheckpointMemory::Route& route : memory_.outgoing) {
      sent_.emplace_back();
      for (std::size_t h = 0; h < memory_.hosts().size(); ++h) {
        const Share theirs = cut(memory_.blocks_of(h), window_);
        if (h == static_cast<std::size_t>(memory_.image.host().host())) continue;
        const std::vector<int>& ranks = memory_.hosts()[h];
        if (std::find(ranks.begin(), ranks.end(), route.peer) == ranks.end()) continue;
        sent_.back() = AlignedBuffer::for_overwrite(bytes_in(route.parts, theirs) / 4);
        auto* to = reinterpret_cast<std::byte*>(sent_.back().data());
        for_each_in(route.parts, theirs, [&](const CheckpointPart& part) {
          std::memcpy(to, part.memory, static_cast<std::size_t>(part.bytes));
          to += part.bytes;
        });
      }
    }
    start_exchange(window_);
    while (!exchange_->done()) std::this_thread::sleep_for(kLook);
    exchange_.reset();
    land();
  }
  exchanged_ = true;
}

}  // namespace hadal::engine
