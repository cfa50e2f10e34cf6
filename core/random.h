// Counter-based random numbers (Philox 4x32-10): value number `index` of a stream is a pure function of the
// stream's key, so results do not depend on the number of threads or on the order in which values are asked
// for.
#pragma once

#include <cstdint>
#include <vector>

namespace hyperattn {

/// What a stream is for. Part of its key: two purposes never share numbers. Append only: the order is the
/// key.
enum class Purpose : uint32_t {
  query = 0,
  key,
  value,
  cluster,
  hash,
  key_sample,
  value_sample,
  row_sample,
  bucket,
  operator_start,
  other,
  output_gradient,
  centroid,
  query_moves,
  base_sample,
  pivot,
  thinning,
  prescore,
};

/// The random numbers of one (seed, purpose, trial, head, node). Cheap to copy; all members are const and
/// thread-safe.
class RandomStream {
 public:
  RandomStream(uint64_t seed, Purpose purpose, uint32_t trial = 0, uint32_t head = 0, uint32_t node = 0);

  /// Its numbers are a function of this and their index, for who computes them elsewhere: normal(i) is
  /// `box_muller` of the 128 bits that Philox 4x32-10 makes of the key and (i, counter_high).
  struct Name {
    uint32_t key[2];
    uint32_t counter_high[2];
  };
  explicit RandomStream(const Name& name) : name_(name) {}
  [[nodiscard]] const Name& name() const { return name_; }

  /// 64 uniformly random bits.
  [[nodiscard]] uint64_t bits(uint64_t index) const;
  /// Uniform in [0, 1), 53 bits.
  [[nodiscard]] double uniform(uint64_t index) const;
  /// Standard normal (`box_muller` of one 128-bit block).
  [[nodiscard]] double normal(uint64_t index) const;
  /// normal(first), normal(first + 1), … in less time.
  void normals(uint64_t first, int64_t count, double* target) const;
  /// Uniform integer in [0, bound), without modulo bias beyond 2^-64 · bound.
  [[nodiscard]] uint64_t below(uint64_t index, uint64_t bound) const;
  /// below(first, first + 1), below(first + 1, first + 2), … in less time; first + count is at most 2^31.
  void below_last(uint64_t first, int64_t count, int32_t* target) const;

 private:
  Name name_;
};

/// The numbers first, first + 1, … of a stream.
struct StreamPlace {
  RandomStream::Name stream;
  uint64_t first;
};

/// `count` distinct integers of [0, population) in increasing order, each subset equally likely (Floyd's
/// algorithm; O(count + population/4096), and clearing population/8 bytes). Requires 0 <= count <=
/// population.
[[nodiscard]] std::vector<int32_t> sample_without_replacement(const RandomStream& stream, int64_t population,
                                                              int64_t count);

}  // namespace hyperattn
