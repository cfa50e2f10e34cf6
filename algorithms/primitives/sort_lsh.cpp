#include "algorithms/primitives/sort_lsh.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <utility>

#include "core/cloned.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/timing.h"

// The hash is a small matrix product in plain loops. This file is compiled with -ffp-contract=off.

namespace hyperattn {
namespace {

constexpr int64_t kLanes = 8;
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));

// Through an array: g++ 12 with -fsanitize=undefined reads an uninitialised index when a vector is
// subscripted.
uint32_t positive_lanes(const Lanes& lanes) {
  const auto values = std::bit_cast<std::array<float, kLanes>>(lanes);
  uint32_t bits = 0;
  for (size_t t = 0; t < values.size(); ++t) bits |= (values[t] > 0 ? 1U : 0U) << t;
  return bits;
}

// Eight rows are read side by side, in which processors see no stream to fetch ahead of; so the next eight
// are asked for. `lsh` with blocks of 64 took 6.1 ms at n = 16384, d = 128 and 14.8 ms at n = 65536, d = 64,
// where asking 32 rows ahead it took 6.5 and 15.1 ms, 128 rows ahead 6.3 and 15.6 ms (Zen 4, two threads).
constexpr int64_t kHashPrefetchAhead = 8;

[[gnu::always_inline]] inline void prefetch_eight_rows(MatrixView<const float> rows, int64_t begin,
                                                       int64_t end) {
  constexpr int64_t kLine = 16;
  for (int64_t i = begin; i < std::min(begin + 8, end); ++i)
    for (int64_t c = 0; c < rows.cols; c += kLine) __builtin_prefetch(rows.row(i) + c);
}

// Sets the 8 bits from `shift` on in the codes of rows [begin, end).
HYPERATTN_CLONED void hash_eight_directions(MatrixView<const float> rows, int64_t begin, int64_t end,
                                            const float* directions, int shift, uint32_t* codes) {
  const auto* direction = reinterpret_cast<const Lanes*>(directions);
  int64_t i = begin;
  for (; i + 8 <= end; i += 8) {
    const float* x = rows.row(i);
    const int64_t stride = rows.stride;
    prefetch_eight_rows(rows, i + kHashPrefetchAhead, end);
    Lanes sums[8] = {};
    for (int64_t c = 0; c < rows.cols; ++c)
      for (int64_t r = 0; r < 8; ++r) sums[r] += x[r * stride + c] * direction[c];
    for (int64_t r = 0; r < 8; ++r) codes[i - begin + r] |= positive_lanes(sums[r]) << shift;
  }
  for (; i < end; ++i) {
    Lanes sum = {};
    for (int64_t c = 0; c < rows.cols; ++c) sum += rows.row(i)[c] * direction[c];
    codes[i - begin] |= positive_lanes(sum) << shift;
  }
}

// `lsh` with blocks of 64 at n = 65536, d = 64 took 15.4 ms, with chunks of 512 rows 16.2 ms and of
// 32768 15.4 ms; at n = 8192 1.30, 1.40 and 1.34 ms or more (Zen 4, two threads).
constexpr int64_t kMinChunkRows = 4096;

// A run of rows of one request: the unit of parallel work.
struct Chunk {
  size_t request = 0;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t code_begin = 0;  // where its codes start in the shared buffer
};

// A counting sort touches every bucket once a chunk, so chunks are not made smaller than that is worth.
std::vector<Chunk> chunks_of(const std::vector<SortRequest>& requests, int64_t bucket_count) {
  const int64_t step = std::max(kMinChunkRows, 4 * bucket_count);
  std::vector<Chunk> chunks;
  int64_t codes = 0;
  for (size_t r = 0; r < requests.size(); ++r) {
    const int64_t rows = requests[r].rows.rows;
    for (int64_t begin = 0; begin < rows; begin += step) {
      const int64_t end = std::min(begin + step, rows);
      chunks.push_back({r, begin, end, codes});
      codes += end - begin;
    }
  }
  return chunks;
}

// Overwrites the codes of one chunk's rows with the ranks of their buckets.
void hash_chunk(const SortRequest& request, const Chunk& chunk, int64_t bucket_count, BucketOrder order,
                uint32_t* codes) {
  const int64_t count = chunk.end - chunk.begin;
  if (request.directions != nullptr) {
    request.directions->hash(request.rows, chunk.begin, chunk.end, codes);
    for (int64_t i = 0; i < count; ++i) codes[i] = bucket_rank(codes[i], order);
    return;
  }
  for (int64_t i = 0; i < count; ++i)
    codes[i] = static_cast<uint32_t>(request.random_buckets->below(
        request.random_offset + static_cast<uint64_t>(chunk.begin + i), static_cast<uint64_t>(bucket_count)));
}

class BatchSort {
 public:
  BatchSort(const std::vector<SortRequest>& requests, int64_t bucket_count, BucketOrder order)
      : requests_(requests),
        bucket_count_(bucket_count),
        order_(order),
        chunks_(chunks_of(requests, bucket_count)),
        results_(requests.size()) {
    int64_t rows = 0;
    for (const Chunk& chunk : chunks_) rows += chunk.end - chunk.begin;
    codes_ = Buffer<uint32_t>(rows);
  }

  void hash() {
    parallel_for(static_cast<int64_t>(chunks_.size()), [&](int64_t index, int) {
      const Chunk& chunk = chunks_[static_cast<size_t>(index)];
      hash_chunk(requests_[chunk.request], chunk, bucket_count_, order_, codes_.data() + chunk.code_begin);
    });
  }

  std::vector<SortedRows> sort() {
    first_chunk_.assign(requests_.size() + 1, chunks_.size());
    for (size_t c = chunks_.size(); c-- > 0;) first_chunk_[chunks_[c].request] = c;
    for (size_t r = requests_.size(); r-- > 0;)  // requests without rows have no chunk
      first_chunk_[r] = std::min(first_chunk_[r], first_chunk_[r + 1]);
    histograms_.resize(chunks_.size());
    const auto chunk_count = static_cast<int64_t>(chunks_.size());
    parallel_for(chunk_count, [&](int64_t c, int) { count_chunk(static_cast<size_t>(c)); });
    parallel_for(static_cast<int64_t>(requests_.size()),
                 [&](int64_t r, int) { prepare_request(static_cast<size_t>(r)); });
    parallel_for(chunk_count, [&](int64_t c, int) { place_chunk(static_cast<size_t>(c)); });
    return std::move(results_);
  }

 private:
  // With far more buckets than rows, comparing is cheaper than visiting every bucket.
  [[nodiscard]] bool counts(size_t request) const {
    return bucket_count_ <= kMinChunkRows + 8 * requests_[request].rows.rows;
  }

  void count_chunk(size_t c) {
    const Chunk& chunk = chunks_[c];
    if (!counts(chunk.request)) return;
    std::vector<int32_t>& histogram = histograms_[c];
    histogram.assign(static_cast<size_t>(bucket_count_), 0);
    const uint32_t* codes = codes_.data() + chunk.code_begin;
    for (int64_t i = 0; i < chunk.end - chunk.begin; ++i) ++histogram[codes[i]];
  }

  // Turns the counts of a request's chunks into the ranks at which each chunk places its first row of each
  // bucket; earlier chunks come first, which makes the sort stable.
  void prepare_request(size_t r) {
    const SortRequest& request = requests_[r];
    SortedRows& result = results_[r];
    result.order.resize(static_cast<size_t>(request.rows.rows));
    if (request.wants_ranks()) result.ranks.resize(static_cast<size_t>(request.rows.rows));
    if (!counts(r)) return sort_by_comparison(r);
    int32_t next = 0;
    for (size_t bucket = 0; bucket < static_cast<size_t>(bucket_count_); ++bucket)
      for (size_t c = first_chunk_[r]; c < first_chunk_[r + 1]; ++c)
        next += std::exchange(histograms_[c][bucket], next);
  }

  void sort_by_comparison(size_t r) {
    const SortRequest& request = requests_[r];
    SortedRows& result = results_[r];
    if (request.rows.rows == 0) return;
    const uint32_t* codes = codes_.data() + chunks_[first_chunk_[r]].code_begin;
    std::vector<uint64_t> keys(static_cast<size_t>(request.rows.rows));
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<uint64_t>(codes[i]) << 32 | i;
    std::sort(keys.begin(), keys.end());
    for (size_t rank = 0; rank < keys.size(); ++rank) {
      const auto row = static_cast<int32_t>(static_cast<uint32_t>(keys[rank]));
      result.order[rank] = request.first_row + row;
      if (request.wants_ranks()) result.ranks[static_cast<size_t>(row)] = static_cast<int32_t>(rank);
    }
  }

  void place_chunk(size_t c) {
    const Chunk& chunk = chunks_[c];
    if (!counts(chunk.request)) return;
    const int32_t first_row = requests_[chunk.request].first_row;
    const uint32_t* codes = codes_.data() + chunk.code_begin;
    int32_t* next = histograms_[c].data();
    SortedRows& result = results_[chunk.request];
    const bool want_ranks = !result.ranks.empty();
    for (int64_t row = chunk.begin; row < chunk.end; ++row) {
      const int32_t rank = next[codes[row - chunk.begin]]++;
      result.order[static_cast<size_t>(rank)] = first_row + static_cast<int32_t>(row);
      if (want_ranks) result.ranks[static_cast<size_t>(row)] = rank;
    }
  }

  const std::vector<SortRequest>& requests_;
  int64_t bucket_count_;
  BucketOrder order_;
  std::vector<Chunk> chunks_;
  std::vector<size_t> first_chunk_;
  Buffer<uint32_t> codes_;
  std::vector<std::vector<int32_t>> histograms_;
  std::vector<SortedRows> results_;
};

int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

DenseMatrix<float> centred(MatrixView<const float> rows) {
  std::vector<double> mean(static_cast<size_t>(rows.cols), 0.0);
  for (int64_t i = 0; i < rows.rows; ++i)
    for (size_t c = 0; c < mean.size(); ++c) mean[c] += static_cast<double>(rows.row(i)[c]);
  DenseMatrix<float> moved(rows.rows, rows.cols);
  for (size_t c = 0; c < mean.size(); ++c) mean[c] /= static_cast<double>(rows.rows);
  for (int64_t i = 0; i < rows.rows; ++i)
    for (size_t c = 0; c < mean.size(); ++c) moved.row(i)[c] = rows.row(i)[c] - static_cast<float>(mean[c]);
  return moved;
}

}  // namespace

uint32_t bucket_rank(uint32_t code, BucketOrder order) {
  if (order == BucketOrder::reference) return code ^ (code >> 1);
  // The prefix exclusive-or of the bits from the top: the inverse of g(k) = k ^ (k >> 1).
  for (uint32_t shift = 1; shift < 32; shift *= 2) code ^= code >> shift;
  return code;
}

int hash_bits(int64_t bucket_count) {
  for (int bits = 0; bits <= kMaxHashBits; ++bits)
    if (bucket_count == int64_t{1} << bits) return bits;
  fail_usage("bucket_count must be a power of two between 1 and " + std::to_string(1 << kMaxHashBits) +
             ", but is " + std::to_string(bucket_count));
}

HashDirections::HashDirections(const RandomStream& stream, int64_t head_dim, int bits, int64_t round)
    : bits_(bits),
      head_dim_(head_dim),
      source_(StreamPlace{stream.name(), static_cast<uint64_t>(round * kMaxHashBits * head_dim)}),
      packed_(std::make_shared<Packed>()) {}

int64_t HashDirections::packed_size() const {
  return source_ ? divide_up(bits_, kLanes) * head_dim_ * kLanes : 0;
}

const Buffer<float>& HashDirections::packed() const {
  std::call_once(packed_->drawn, [&] {
    std::vector<double> drawn(static_cast<size_t>(bits_ * head_dim_));
    RandomStream(source_->stream).normals(source_->first, std::ssize(drawn), drawn.data());
    packed_->values = Buffer<float>(packed_size(), 0.0F);
    for (int64_t t = 0; t < bits_; ++t)
      for (int64_t c = 0; c < head_dim_; ++c)
        packed_->values[(t / kLanes * head_dim_ + c) * kLanes + t % kLanes] =
            static_cast<float>(drawn[static_cast<size_t>(t * head_dim_ + c)]);
  });
  return packed_->values;
}

HashDirections::HashDirections(DenseMatrix<double> directions)
    : bits_(static_cast<int>(directions.cols)), given_(std::move(directions)) {
  if (bits_ > kMaxHashBits)
    fail_input("a replay may hold at most " + std::to_string(kMaxHashBits) + " hash directions, but holds " +
               std::to_string(bits_));
}

void HashDirections::hash(MatrixView<const float> rows, int64_t begin, int64_t end, uint32_t* codes) const {
  if (!source_) return hash_in_double(rows, begin, end, codes);
  std::fill_n(codes, end - begin, 0U);
  const float* directions = packed().data();
  for (int first = 0; first < bits_; first += static_cast<int>(kLanes))
    hash_eight_directions(rows, begin, end, directions + first * rows.cols, first, codes);
}

void HashDirections::hash_in_double(MatrixView<const float> rows, int64_t begin, int64_t end,
                                    uint32_t* codes) const {
  assert(given_.rows == rows.cols);
  for (int64_t i = begin; i < end; ++i) {
    uint32_t code = 0;
    for (int t = 0; t < bits_; ++t) {
      double product = 0;
      for (int64_t c = 0; c < rows.cols; ++c) product += static_cast<double>(rows.row(i)[c]) * given_(c, t);
      code |= (product > 0 ? 1U : 0U) << t;
    }
    codes[i - begin] = code;
  }
}

std::vector<uint32_t> bucket_codes(MatrixView<const float> rows, const HashDirections& directions,
                                   BucketOrder order, bool centre) {
  if (centre) {
    const DenseMatrix<float> moved = centred(rows);
    return bucket_codes({moved.values.data(), moved.rows, moved.cols, moved.cols}, directions, order, false);
  }
  std::vector<uint32_t> codes(static_cast<size_t>(rows.rows));
  parallel_for(divide_up(rows.rows, kMinChunkRows), [&](int64_t chunk, int) {
    const int64_t begin = chunk * kMinChunkRows;
    const int64_t end = std::min(rows.rows, begin + kMinChunkRows);
    directions.hash(rows, begin, end, codes.data() + begin);
    for (int64_t i = begin; i < end; ++i)
      codes[static_cast<size_t>(i)] = bucket_rank(codes[static_cast<size_t>(i)], order);
  });
  return codes;
}

std::vector<SortedRows> sort_by_bucket(const std::vector<SortRequest>& requests, int64_t bucket_count,
                                       BucketOrder order, SortSeconds* seconds) {
  Stopwatch watch;
  BatchSort batch(requests, bucket_count, order);
  batch.hash();
  if (seconds != nullptr) seconds->hash += watch.seconds();
  watch.restart();
  std::vector<SortedRows> result = batch.sort();
  if (seconds != nullptr) seconds->sort += watch.seconds();
  return result;
}

std::vector<RankBlock> aligned_blocks(int64_t query_count, int64_t key_count, int64_t block_size) {
  std::vector<RankBlock> blocks;
  blocks.reserve(static_cast<size_t>((key_count + block_size - 1) / block_size));
  for (int64_t key_begin = 0; key_begin < key_count; key_begin += block_size) {
    const int64_t key_end = std::min(key_begin + block_size, key_count);
    // ⌊ρ·n_k/n_q⌋ ≥ key_begin  ⇔  ρ ≥ key_begin·n_q/n_k
    const int64_t query_begin = divide_up(key_begin * query_count, key_count);
    const int64_t query_end = divide_up(key_end * query_count, key_count);
    if (query_begin < query_end) blocks.push_back({query_begin, query_end, key_begin, key_end});
  }
  return blocks;
}

std::vector<RankBlock> banded_blocks(int64_t query_count, int64_t key_count, int64_t block_size) {
  std::vector<RankBlock> blocks;
  const int64_t width = std::min(block_size, key_count);
  for (int64_t begin = 0; begin < query_count; begin += kBandedTileRows) {
    const int64_t end = std::min(begin + kBandedTileRows, query_count);
    const int64_t centre = (2 * begin + kBandedTileRows) * key_count / (2 * query_count);
    const int64_t first = ((centre - width / 2) % key_count + key_count) % key_count;
    if (first + width <= key_count) {
      blocks.push_back({begin, end, first, first + width});
    } else {
      blocks.push_back({begin, end, 0, first + width - key_count});
      blocks.push_back({begin, end, first, key_count});
    }
  }
  return blocks;
}

}  // namespace hyperattn
