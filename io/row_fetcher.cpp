#include "io/row_fetcher.hpp"

#include <algorithm>

#include "io/convert.hpp"
#include "io/error.hpp"

namespace hadal::io {
namespace {

// A run may have tens of thousands of shards; an open file costs memory and a descriptor, the
// library's much more.
constexpr std::size_t kMostRawFiles = 256;
constexpr std::size_t kMostLibraryFiles = 32;
// Read together from a dataset that is not chunked, where all of it stays in memory anyway.
constexpr std::int64_t kContiguousBytes = std::int64_t{256} << 10;
// Raw data on their way at a time.
constexpr std::int64_t kRawBytes = std::int64_t{64} << 20;

std::int64_t bytes_of(const FieldIndex& field) {
  std::int64_t bytes = 0;
  for (const ScannedDataset& part : field.parts) {
    bytes += (part.bounds != nullptr ? part.stored.rows() : part.rows) * part.stored.row_bytes();
  }
  return bytes;
}

// Over and over the bytes of one number.
void fill(std::span<std::byte> out, const std::vector<std::byte>& number) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = number[i % number.size()];
}

const std::string& raw_path(const ScannedDataset& part) {
  return part.stored.extents.file.empty() ? part.file : part.stored.extents.file;
}

}  // namespace

RowFetcher::RowFetcher(const DataIndex& index, std::int64_t memory_bytes, bool direct)
    : index_(index),
      cache_(memory_bytes),
      raw_files_(kMostRawFiles,
                 [direct](const std::string& path, const std::string& place) {
                   return std::make_shared<const RawFile>(path, place, direct);
                 }),
      library_files_(kMostLibraryFiles, [](const std::string&, const std::string& place) {
        return std::make_shared<const Hdf5File>(place);
      }) {
  std::int64_t all = 0;
  for (const FieldIndex& field : index.fields) all += bytes_of(field);
  for (const FieldIndex& field : index.fields) {
    stays_.push_back(all <= memory_bytes || bytes_of(field) <= memory_bytes / 8);
    std::vector<std::vector<std::byte>>& pads = pads_.emplace_back();
    for (const ScannedDataset& part : field.parts) {
      pads.push_back(stored_as(field.options.pad, part.stored.dtype).value());
    }
  }
}

// Where a file is read.
const std::string& RowFetcher::place_of(const std::string& path) const {
  const auto copy = index_.staged.find(path);
  return copy == index_.staged.end() ? path : copy->second;
}

std::shared_ptr<const RawFile> RowFetcher::raw_file(const ScannedDataset& part) {
  const std::string& path = raw_path(part);
  return raw_files_.get(path, place_of(path));
}

std::int64_t RowFetcher::block_rows(std::size_t field, const StoredDataset& stored) const {
  if (stored.chunk_rows > 0) {
    return std::min(stored.chunk_rows, std::max<std::int64_t>(1, stored.rows()));
  }
  if (!stays_[field]) return 1;
  return std::max<std::int64_t>(1,
                                kContiguousBytes / std::max<std::int64_t>(1, stored.row_bytes()));
}

RowFetcher::Fetched RowFetcher::fetch(std::span<const std::int64_t> ids,
                                      std::span<const std::span<std::byte>> places) {
  Plan plan;
  plan.fetched.rows.resize(index_.fields.size());
  for (std::size_t f = 0; f < index_.fields.size(); ++f) {
    plan.fetched.rows[f].resize(ids.size());
    for (std::size_t k = 0; k < ids.size(); ++k) {
      const std::int64_t bytes = index_.fields[f].sample_bytes(index_.fields[f].parts.front());
      const auto row = static_cast<std::size_t>(bytes);
      asked_ += bytes;
      add(f, k, ids[k], places[f].empty() ? places[f] : places[f].subspan(k * row, row), plan);
    }
  }
  plan.fetched.waited = run(plan.loads);
  for (const Share& share : plan.shares) {
    cache_.wait(*share.block);
    const std::span<const std::byte> bytes =
        share.block->bytes().subspan(share.offset, share.bytes);
    if (share.to.empty()) {
      plan.fetched.rows[share.field][share.sample] = bytes;
    } else {
      std::ranges::copy(bytes, share.to.begin());
    }
  }
  for (std::size_t f = 0; f < index_.fields.size(); ++f) {
    if (index_.fields[f].parts.front().stored.is_heap) follow(f, ids, plan.fetched);
  }
  return std::move(plan.fetched);
}

// The bytes that rows refer to, in their place.
void RowFetcher::follow(std::size_t f, std::span<const std::int64_t> ids, Fetched& fetched) {
  const FieldIndex& field = index_.fields[f];
  std::vector<std::shared_ptr<const RawFile>> files;
  std::vector<HeapReference> references;
  for (std::size_t k = 0; k < ids.size(); ++k) {
    const ScannedDataset& part = field.parts[field.part_of(ids[k])];
    files.push_back(raw_file(part));
    references.push_back(
        {fetched.rows[f][k], files.back()->fd(), &files.back()->path(), part.stored.heap_base});
  }
  fetched.objects.push_back(std::make_unique<RecycledBytes>());
  fetched.rows[f] = read_heap_objects(references, *fetched.objects.back());
  for (const std::span<const std::byte> object : fetched.rows[f]) read_ += std::ssize(object);
}

// What sample number `k` needs of a field: rows of its own, or shares of blocks.
void RowFetcher::add(std::size_t f, std::size_t k, std::int64_t id, std::span<std::byte> place,
                     Plan& plan) {
  const FieldIndex& field = index_.fields[f];
  const std::size_t number = field.part_of(id);
  const ScannedDataset& part = field.parts[number];
  const StoredDataset& stored = part.stored;
  const auto bytes = static_cast<std::size_t>(field.sample_bytes(part));
  std::int64_t row = part.first_row + id - field.row_starts[number];
  std::int64_t count = field.rows_of_sample();
  if (part.bounds != nullptr) {
    const auto at = static_cast<std::size_t>(row);
    row = (*part.bounds)[at] + field.options.window_first;
    count = std::clamp<std::int64_t>((*part.bounds)[at + 1] - row, 0, count);
  }
  const std::int64_t rows = block_rows(f, stored);
  const bool is_alone = rows == 1 && !stays_[f];  // nothing of it is kept
  if (count == 1 && part.bounds == nullptr && !is_alone) {
    add_share({.field = f, .sample = k, .block = nullptr, .offset = 0, .bytes = 0, .to = {}}, row,
              1, number, plan);
    return;
  }
  // Parts of other types have rows of other sizes.
  if (place.size() != bytes) {
    plan.fetched.held.push_back(std::make_shared<Block>());
    place = plan.fetched.held.back()->allocate(bytes);
  }
  plan.fetched.rows[f][k] = place;
  const auto row_bytes = static_cast<std::size_t>(stored.row_bytes());
  const auto filled = static_cast<std::size_t>(count) * row_bytes;
  fill(place.subspan(filled), pads_[f][number]);
  if (is_alone) {
    if (count > 0) {
      plan.loads.push_back(
          {.part = &part, .first = row, .count = count, .out = place.first(filled)});
    }
    return;
  }
  // Rows that lie in several blocks come together in the place.
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t next = std::min(count - done, rows - (row + done) % rows);
    const auto at = static_cast<std::size_t>(done) * row_bytes;
    add_share({.field = f,
               .sample = k,
               .block = nullptr,
               .offset = 0,
               .bytes = 0,
               .to = place.subspan(at, static_cast<std::size_t>(next) * row_bytes)},
              row + done, next, number, plan);
    done += next;
  }
}

// `count` rows from `row` on, of one block of part `number`.
void RowFetcher::add_share(Share share, std::int64_t row, std::int64_t count, std::size_t number,
                           Plan& plan) {
  const ScannedDataset& part = index_.fields[share.field].parts[number];
  const StoredDataset& stored = part.stored;
  const std::int64_t rows = block_rows(share.field, stored);
  const BlockCache::Key key{static_cast<std::uint32_t>(share.field),
                            static_cast<std::uint32_t>(number), row / rows};
  auto [block, claimed] = cache_.find_or_claim(key);
  const std::int64_t first = row / rows * rows;
  if (claimed) {
    plan.loads.push_back({.part = &part,
                          .first = first,
                          .count = std::min(rows, stored.rows() - first),
                          .block = block.get(),
                          .key = key});
  }
  share.block = block.get();
  share.offset = static_cast<std::size_t>((row - first) * stored.row_bytes());
  share.bytes = static_cast<std::size_t>(count * stored.row_bytes());
  plan.shares.push_back(share);
  plan.fetched.held.push_back(std::move(block));
}

// A large block is work for any thread that waits for one; small ones are read together. Returns
// how many of their reads had to wait.
std::size_t RowFetcher::run(std::vector<Load>& loads) {
  const auto small = std::stable_partition(loads.begin(), loads.end(), [](const Load& load) {
    return load.block != nullptr && load.count > 1;
  });
  for (auto load = loads.begin(); load != small; ++load) {
    cache_.queue([this, one = *load]() mutable { run_now({&one, 1}); });
  }
  return run_now({small, loads.end()});
}

// A claim is kept or given up, whatever happens; whoever waits for the block learns of it.
std::size_t RowFetcher::run_now(std::span<Load> loads) {
  std::size_t waited = 0;
  std::size_t settled = 0;  // loads before it are done
  try {
    for (Load& load : loads) {
      if (load.block == nullptr) continue;
      load.out = load.block->allocate(
          static_cast<std::size_t>(load.count * load.part->stored.row_bytes()));
    }
    std::vector<Load*> group;
    std::int64_t raw = 0;
    const auto run_group = [&] {
      waited += run_raw(group);
      group.clear();
      raw = 0;
    };
    const auto is_raw = [](const Load& load) { return load.part->stored.extents.past_library(); };
    std::stable_partition(loads.begin(), loads.end(), is_raw);
    for (std::size_t i = 0; i < loads.size(); ++i) {
      Load& load = loads[i];
      if (is_raw(load)) {
        group.push_back(&load);
        raw += std::ssize(load.out);
        const bool last = i + 1 == loads.size() || !is_raw(loads[i + 1]);
        if (raw < kRawBytes && !last) continue;
        run_group();
      } else {
        library_files_.get(load.part->file, place_of(load.part->file))
            ->read_rows(load.part->stored, load.first, load.count, load.out);
        read_ += std::ssize(load.out);
      }
      for (; settled <= i; ++settled) {
        decoded_ += std::ssize(loads[settled].out);
        if (loads[settled].block != nullptr) cache_.publish(loads[settled].key);
      }
    }
  } catch (...) {
    bool told = true;  // by the blocks
    for (; settled < loads.size(); ++settled) {
      if (loads[settled].block != nullptr) {
        cache_.fail(loads[settled].key, std::current_exception());
      } else {
        told = false;
      }
    }
    if (!told) throw;
  }
  return waited;
}

std::size_t RowFetcher::run_raw(std::span<Load*> loads) {
  std::vector<std::shared_ptr<const RawFile>> files;
  std::vector<StoredRows> rows;
  std::int64_t raw_bytes = 0;
  for (const Load* load : loads) {
    files.push_back(raw_file(*load->part));
    rows.emplace_back(load->part->stored, *files.back(), load->first, load->count, load->out);
    raw_bytes += rows.back().raw_bytes();
  }
  thread_local std::vector<std::byte> memory;
  if (std::ssize(memory) < raw_bytes) memory.resize(static_cast<std::size_t>(raw_bytes));
  std::vector<RawRead> reads;
  std::size_t used = 0;
  for (StoredRows& each : rows) {
    const auto bytes = static_cast<std::size_t>(each.raw_bytes());
    each.add_reads(std::span(memory).subspan(used, bytes), reads);
    used += bytes;
  }
  for (const RawRead& read : reads) {
    read_ += std::ssize(read.to);
    if (watch_) watch_(read);
  }
  const std::size_t waited = read_all(std::move(reads));
  for (StoredRows& each : rows) each.finish();
  return waited;
}

}  // namespace hadal::io
