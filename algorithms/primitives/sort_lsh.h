// Hamming sorted LSH (paper, Definition 1 and Algorithm 1): rows are hashed to the sign pattern of r Gaussian
// projections, patterns are ranked so that similar ones are near, and rows are sorted by that rank. Rows
// whose directions are similar end up near each other, at the cost of one narrow matrix product and a
// counting sort.
//
// For rows x, y at angle θ, P[same bucket] = (1 − θ/π)^r, and in the `gray` order P[neighbouring buckets,
// the two ends counted as neighbours] = (2θ/π)(1 − θ/π)^(r−1).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/random.h"
#include "core/tensor.h"

namespace hyperattn {

class RemoteNumbers;

/// How sign patterns are ranked.
enum class BucketOrder {
  gray,       ///< by the inverse Gray map: neighbouring ranks differ in exactly one sign
  reference,  ///< the authors' c ^ (c >> 1), which does not have that property from r = 3 on
};

constexpr int kMaxHashBits = 20;

/// Rank of the sign pattern `code` among all patterns; a bijection of [0, 2^r) for every r.
[[nodiscard]] uint32_t bucket_rank(uint32_t code, BucketOrder order);

/// log2 of a bucket count. Throws Error(usage) unless it is a power of two in [1, 2^20].
[[nodiscard]] int hash_bits(int64_t bucket_count);

/// The r hyperplanes of one hash function. Bit t of a row's code is 1 where row·direction_t > 0, and counts
/// 2^t; rows need no normalisation, since signs do not change with length.
class HashDirections {
 public:
  HashDirections() = default;
  /// Standard normal directions, drawn when they are first asked for. Direction t does not depend on r, so
  /// bucket counts are nested refinements. Rounds are independent functions of one stream.
  HashDirections(const RandomStream& stream, int64_t head_dim, int bits, int64_t round = 0);
  /// Given directions (d, r): products are then computed in double, so that a replay hashes alike everywhere.
  explicit HashDirections(DenseMatrix<double> directions);

  [[nodiscard]] int bits() const { return bits_; }
  /// What directions that are not given are drawn from: element c of direction t is normal number
  /// first + t·d + c.
  [[nodiscard]] const std::optional<StreamPlace>& source() const { return source_; }
  /// Of drawn directions: in groups of 8 of them, d × 8 each, zeros beyond the last. Thread-safe.
  [[nodiscard]] const Buffer<float>& packed() const;
  [[nodiscard]] int64_t packed_size() const;  ///< 0 for given ones
  /// Codes of rows [begin, end). 2·d·r FLOPs a row, in a fixed order of operations: the same bits on every
  /// instruction set and for any number of threads.
  void hash(MatrixView<const float> rows, int64_t begin, int64_t end, uint32_t* codes) const;

 private:
  void hash_in_double(MatrixView<const float> rows, int64_t begin, int64_t end, uint32_t* codes) const;

  struct Packed {
    std::once_flag drawn;
    Buffer<float> values;
  };
  int bits_ = 0;
  int64_t head_dim_ = 0;
  DenseMatrix<double> given_;
  std::optional<StreamPlace> source_;
  std::shared_ptr<Packed> packed_;
};

/// The buckets of rows that a device has hashed before they are sorted.
class HashedRows {
 public:
  virtual ~HashedRows() = default;
};

/// Rows to be sorted by bucket, with one hash function or with buckets drawn at random.
struct SortRequest {
  MatrixView<const float> rows;
  int32_t first_row = 0;                         ///< added to the row numbers in the result
  const HashDirections* directions = nullptr;    ///< null: random buckets from `random_buckets`
  const RandomStream* random_buckets = nullptr;  ///< a control that shows what the hash buys
  uint64_t random_offset = 0;                    ///< row i uses number random_offset + i
  bool want_ranks = false;
  /// Of `rows`, those whose ranks alone are wanted; null: all or none.
  const std::vector<int32_t>* asked_rows = nullptr;
  /// Where the rows are hashed already (all of a sort, or none), and the request's number there; else null.
  const HashedRows* hashed = nullptr;
  int64_t hashed_number = 0;

  [[nodiscard]] bool wants_ranks() const { return want_ranks || asked_rows != nullptr; }
};

/// Asked rows, where the sort was on a device.
struct RemoteRanks {
  std::shared_ptr<const RemoteNumbers> ranks = nullptr;  ///< in the order of asking
  /// In the order of ranks, and of asking for rows that were asked for twice.
  std::shared_ptr<const RemoteNumbers> sorted_ranks = nullptr;
  std::shared_ptr<const RemoteNumbers> sorted_rows = nullptr;  ///< first_row + row
};

struct SortedRows {
  std::vector<int32_t> order;  ///< rank → first_row + row
  std::vector<int32_t> ranks;  ///< row → rank; empty unless wanted
  /// Where the sort was on a device the order lies there, and the ranks of the asked rows.
  std::shared_ptr<const RemoteNumbers> remote = nullptr;
  RemoteRanks asked = {};
};

struct SortSeconds {
  double hash = 0;
  double sort = 0;
};

/// Stable sort of every request by bucket. O(rows · d · r + rows + buckets); parallel over all requests and
/// chunks of their rows together, and independent of the number of threads. Adds its wall time to `seconds`.
[[nodiscard]] std::vector<SortedRows> sort_by_bucket(const std::vector<SortRequest>& requests,
                                                     int64_t bucket_count, BucketOrder order,
                                                     SortSeconds* seconds = nullptr);

/// The bucket of every row. With `centre` the hash sees rows minus their mean. O(rows · d · r); parallel,
/// independent of threads.
[[nodiscard]] std::vector<uint32_t> bucket_codes(MatrixView<const float> rows,
                                                 const HashDirections& directions, BucketOrder order,
                                                 bool centre);

/// Query positions [query_begin, query_end) share the key ranks [key_begin, key_end).
struct RankBlock {
  int64_t query_begin = 0;
  int64_t query_end = 0;
  int64_t key_begin = 0;
  int64_t key_end = 0;
};

/// Key rank ρ lies in block ⌊ρ/b⌋, a query of rank ρ in ⌊⌊ρ·n_k/n_q⌋/b⌋. The last block is ragged; blocks
/// without queries (possible when n_q < n_k) are left out.
[[nodiscard]] std::vector<RankBlock> aligned_blocks(int64_t query_count, int64_t key_count,
                                                    int64_t block_size);

/// Rows of a query tile of `banded_blocks`.
constexpr int64_t kBandedTileRows = 128;

/// Each tile of 128 query ranks against a window of `block_size` key ranks centred on the tile (on its image
/// under ρ·n_k/n_q), wrapped modulo n_k: a tile whose window wraps has two blocks in a row.
[[nodiscard]] std::vector<RankBlock> banded_blocks(int64_t query_count, int64_t key_count,
                                                   int64_t block_size);

}  // namespace hyperattn
