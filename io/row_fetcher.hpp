#pragma once
// Stored rows of samples, for any number of threads: what is needed of all fields is read together
// and decoded by the thread that asks. A block is what is decoded at once, a chunk's rows; blocks
// that hold more than one sample are kept, as memory allows.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "io/block_cache.hpp"
#include "io/data_index.hpp"
#include "io/heap_objects.hpp"
#include "io/open_files.hpp"
#include "io/stored_rows.hpp"

namespace hadal::io {

class RowFetcher {
 public:
  // `index` must outlive this; `memory_bytes` bounds the blocks that nobody is using; `direct`:
  // chunks and rows are read past the system's cache, where the file system can.
  RowFetcher(const DataIndex& index, std::int64_t memory_bytes, bool direct = false);

  struct Fetched {
    // By field, then by sample: in this machine's byte order, valid as long as this lives. Of
    // references, the bytes that they lead to.
    std::vector<std::vector<std::span<const std::byte>>> rows;
    std::vector<std::shared_ptr<Block>> held;
    std::vector<std::unique_ptr<RecycledBytes>> objects;
    // Reads that had to wait for the disk.
    std::size_t waited = 0;
  };

  // `places[f]`, if not empty, is memory for the rows of field f back to back: what need not be
  // kept is read right there. Throws a data error that names file, dataset and rows. Any thread.
  Fetched fetch(std::span<const std::int64_t> ids, std::span<const std::span<std::byte>> places);

  // `watch` is told of every read past the library, before it is done; not while others fetch.
  using Watch = std::function<void(const RawRead&)>;
  void set_watch(Watch watch) { watch_ = std::move(watch); }

  // So far: bytes read from files, bytes that they became, bytes of the samples asked for.
  struct Counts {
    std::int64_t read = 0;
    std::int64_t decoded = 0;
    std::int64_t asked = 0;
    Counts operator-(const Counts& other) const {
      return {read - other.read, decoded - other.decoded, asked - other.asked};
    }
    Counts operator+(const Counts& other) const {
      return {read + other.read, decoded + other.decoded, asked + other.asked};
    }
  };
  Counts counts() const { return {read_, decoded_, asked_}; }

 private:
  // Rows to be read into a block or a place.
  struct Load {
    const ScannedDataset* part = nullptr;
    std::int64_t first = 0;
    std::int64_t count = 0;
    std::span<std::byte> out;
    Block* block = nullptr;  // that has been claimed
    BlockCache::Key key = {};
  };

  // Of a sample, in a block that may not be there yet.
  struct Share {
    std::size_t field;
    std::size_t sample;
    const Block* block;
    std::size_t offset;
    std::size_t bytes;
    std::span<std::byte> to;  // where it is copied to, with other shares; empty: it stays there
  };
  // What a fetch gives, and what has to be done for it.
  struct Plan {
    Fetched fetched;
    std::vector<Load> loads;
    std::vector<Share> shares;
  };

  void add(std::size_t field, std::size_t k, std::int64_t id, std::span<std::byte> place,
           Plan& plan);
  void add_share(Share share, std::int64_t row, std::int64_t count, std::size_t number, Plan& plan);
  void follow(std::size_t field, std::span<const std::int64_t> ids, Fetched& fetched);
  const std::string& place_of(const std::string& path) const;
  std::shared_ptr<const RawFile> raw_file(const ScannedDataset& part);
  std::int64_t block_rows(std::size_t field, const StoredDataset& stored) const;
  std::size_t run(std::vector<Load>& loads);
  std::size_t run_now(std::span<Load> loads);
  std::size_t run_raw(std::span<Load*> loads);

  const DataIndex& index_;
  std::vector<bool> stays_;  // by field: small enough to be kept whole
  std::vector<std::vector<std::vector<std::byte>>> pads_;  // by field and part: FieldOptions::pad
  Watch watch_;
  BlockCache cache_;
  OpenFiles<RawFile> raw_files_;
  OpenFiles<Hdf5File> library_files_;
  std::atomic<std::int64_t> read_ = 0;
  std::atomic<std::int64_t> decoded_ = 0;
  std::atomic<std::int64_t> asked_ = 0;
};

}  // namespace hadal::io
