#pragma once
// From sample numbers to the tensors of one micro-batch: read, converted, checked, transformed, in
// the order asked for. A value that is not finite or a label out of range is named with its file,
// dataset and row.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/augment.hpp"
#include "io/data_index.hpp"
#include "io/recycled_bytes.hpp"
#include "io/row_fetcher.hpp"

namespace hadal::io {

enum class CheckFinite { batch, off };
enum class OnBadSample { stop, skip };

struct BatchOptions {
  std::int64_t memory_bytes = std::int64_t{1} << 30;
  int readers = 2;      // threads, for whoever reads ahead
  bool direct = false;  // read past the system's cache
  // Images stay as they are stored, with what is to be done to them, for whoever has the means of
  // kernels/images.hpp.
  bool raw_images = false;
  CheckFinite check_finite = CheckFinite::batch;
  OnBadSample on_bad_sample = OnBadSample::stop;
};

// What is still to be done to a field's samples: kernels/images.hpp.
struct ImagePlan {
  kernels::ImageLayout layout;
  std::vector<kernels::ImageSample> samples;
  std::vector<float> constants;  // [3, channels]
};

// One field of a batch: C order, shape [count, …]. With a plan, `bytes` are the stored samples, and
// type and shape those of what becomes of them.
struct FieldBatch {
  DType dtype = DType::f32;
  Shape shape;
  RecycledBytes bytes;  // what resize() adds has no value yet
  std::optional<ImagePlan> plan;
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
  // `index` must outlive the reader.
  BatchReader(const DataIndex& index, const BatchOptions& options);

  // Throws a data error for what cannot be read or must not be trained on. Any thread; what one
  // has read and decoded serves all.
  // Without draws no transform is random, as for an evaluation.
  Batch read(std::span<const std::int64_t> ids, const std::optional<Draws>& draws = {});

  // How many threads read ahead, as the options say.
  int threads() const { return options_.readers; }

  // What has been read so far.
  RowFetcher::Counts counts() const { return fetcher_.counts(); }
  void set_watch(RowFetcher::Watch watch) { fetcher_.set_watch(std::move(watch)); }

 private:
  std::optional<ImagePlan> plan_of(std::size_t field) const;
  std::size_t bytes_of(std::size_t field) const;
  kernels::PixelMap stored_map(std::size_t field) const;
  void fill_raw(std::size_t field, std::int64_t id, std::span<const std::byte> raw,
                std::span<std::byte> out) const;
  void fill(std::size_t field, std::int64_t id, std::span<const std::byte> raw,
            std::span<std::byte> out, bool looks);
  void add(std::span<const std::int64_t> ids, std::size_t first, std::size_t count,
           std::vector<FieldBatch>& fields, Batch& batch, const std::optional<Draws>& draws);

  const DataIndex& index_;
  BatchOptions options_;
  std::vector<bool> stored_so_;                  // by field: needs no conversion
  std::vector<std::optional<ImagePlan>> plans_;  // of fields that stay raw, without samples
  std::vector<Augment> augments_;
  bool mixes_;
  RowFetcher fetcher_;
  std::atomic<bool> waits_ = true;  // for the disk, when last read
  // A bit a sample: it has been looked at and is good. Files do not change during a run.
  std::vector<std::atomic<std::uint64_t>> good_;
};

}  // namespace hadal::io
