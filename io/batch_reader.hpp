#pragma once
// From sample numbers to the tensors of one micro-batch: read, converted, checked, in the order
// asked for. A value that is not finite or a label out of range is named with its file, dataset and
// row.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/block_reader.hpp"
#include "io/data_index.hpp"

namespace hadal::io {

enum class CheckFinite { batch, off };
enum class OnBadSample { stop, skip };

struct BatchOptions {
  std::int64_t memory_bytes = std::int64_t{1} << 30;
  CheckFinite check_finite = CheckFinite::batch;
  OnBadSample on_bad_sample = OnBadSample::stop;
};

// One field of a batch: C order, shape [count, …].
struct FieldBatch {
  DType dtype = DType::f32;
  Shape shape;
  std::vector<std::byte> bytes;
};

struct Batch {
  std::vector<std::int64_t> ids;  // the samples that are in it, in order
  std::vector<FieldBatch> inputs;
  std::vector<FieldBatch> targets;
  std::vector<FieldBatch> sample_weights;  // float32 [count], where there is such a field
  std::vector<FieldBatch> sample_ids;      // int64 [count], where there is such a field
  std::vector<double> weights;             // what each loss divides by; set by the caller's rule
  std::int64_t skipped = 0;                // bad samples left out (on_bad_sample = skip)

  std::int64_t count() const { return static_cast<std::int64_t>(ids.size()); }
};

class BatchReader {
 public:
  // `index` must outlive the reader. One thread at a time.
  BatchReader(const DataIndex& index, const BatchOptions& options);

  // Throws a data error for what cannot be read or must not be trained on.
  Batch read(std::span<const std::int64_t> ids);

 private:
  const DataIndex& index_;
  BatchOptions options_;
  std::vector<std::unique_ptr<BlockReader>> readers_;  // one a field
};

}  // namespace hadal::io
