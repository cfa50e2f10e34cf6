// Thinning (Thinformer, arXiv 2502.12063): halving after halving leaves keys, each with the product of its
// own halvings' factors 2 as weight, whose weighted sums stay near those of all keys.
//
// Kernel halving. Points in order, two and two: a pair (a, b) of weights w_a and w_b is the difference
//   f = w_a κ(a, ·) − w_b κ(b, ·),   κ(i, j) = exp(|s|·k_i·k_j)·(v_i·v_j + b²),
// b the largest entry of |V| (1 where V is 0; a factor of κ changes nothing). The walk W, the sum of the ±f
// of the pairs so far, takes the sign of pair i against it,
//   P(+) = ½(1 − ⟨W, f_i⟩/a_i) held in [0, 1],   a_i = L·√D_ii·max_{j ≤ i} √D_jj,   D_ij = ⟨f_i, f_j⟩,
// L = ½ + ln(2S/δ), where S is the number of pairs that the failure probability δ is shared over: each pair
// fails to stay within its threshold with probability at most δ/S. Minus keeps a and plus keeps b, or all of
// them the other way around with probability ½, so that each point is kept with probability exactly ½, with
// twice its weight. A point without a partner stays as it is.
//
// Compress. n keys go into 4^R buckets of equal size (to one key); a round joins four neighbours and halves
// them; R rounds, or as many as there are keys for, leave n/2^R keys of one bucket, which is halved on where
// fewer are wanted. The last halving takes only as many pairs, evenly spaced, as leave the wanted number. For
// n a power of four and 2^g·√n keys this is Compress with buckets of 4^(g+1) keys and equal weights n/m.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/primitives/column_sample.h"
#include "core/parameters.h"
#include "core/random.h"
#include "core/tensor.h"

namespace hyperattn {

/// A key that stands for 2^halvings keys.
struct ThinnedKey {
  int32_t row = 0;
  int32_t halvings = 0;
};

/// What κ is made of: the keys and values of a head.
struct ThinningKernel {
  MatrixView<const float> keys;
  MatrixView<const float> values;
  double scale = 0;
};

/// `thinning_delta`.
[[nodiscard]] ParameterSpec thinning_delta_parameter();

/// The failure probability δ of a thinning, and the pairs S that share it.
struct FailureShare {
  double delta = 0.5;
  double pairs = 1;
};

/// A halving that starts from random number N takes number N + i for pair i and N + kChoiceOfHalf for the
/// half; round t of compress starts the bucket of rows begin + p, … from t·kNumbersOfRound + p.
constexpr uint64_t kChoiceOfHalf = uint64_t{1} << 33;
constexpr uint64_t kNumbersOfRound = uint64_t{1} << 34;

/// One halving by `pairs` ≤ points/2 pairs, evenly spaced among all; the others stay. Random numbers are
/// those from `number` on, one for each pair, and one. O(points² · (d + d_v)).
[[nodiscard]] std::vector<ThinnedKey> halve(const ThinningKernel& kernel,
                                            const std::vector<ThinnedKey>& points, int64_t pairs,
                                            const FailureShare& failure, const RandomStream& stream,
                                            uint64_t number);

/// Rows [begin, end) thinned to min(keep, end − begin) of them, keep ≥ 1. Each pair loses one row, so that
/// there are end − begin − keep pairs. O(keep² · log(n/keep) · (d + d_v)). Parallel over buckets; independent
/// of threads.
[[nodiscard]] std::vector<ThinnedKey> thin_rows(const ThinningKernel& kernel, int64_t begin, int64_t end,
                                                int64_t keep, const FailureShare& failure,
                                                const RandomStream& stream);

/// Streaming (Express, arXiv 2606.10944). The weighted cache before each block of `block` rows, of `rows` in
/// all, and after the last: entry t stands for rows [first, t·block). All rows are kept up to `capacity`;
/// beyond it the cache is halved, and from then on every block is thinned by the cache's factor before it
/// joins. A pair that goes when N rows have come has the share 1/(N(N + 1)) of δ, so that the promise needs
/// no length. Nothing of entry t depends on later rows. A block costs O(block² · (d + d_v)), the halvings
/// O(capacity² · log(rows/capacity) · (d + d_v)).
[[nodiscard]] std::vector<std::vector<ThinnedKey>> streamed_caches(const ThinningKernel& kernel,
                                                                   int64_t first, int64_t rows, int64_t block,
                                                                   int64_t capacity, double delta,
                                                                   const RandomStream& stream);

/// The keys as a weighted sample of rows counted from `begin`.
[[nodiscard]] ColumnSample as_sample(const std::vector<ThinnedKey>& keys, int64_t begin);

}  // namespace hyperattn
