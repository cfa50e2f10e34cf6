// Planning on the card: norms, means of runs, nearest centres, covariances, and the routing tree. What a
// kernel's thread, or team of threads, computes is a function here that the host can call, too, and that sums
// in the order of the host's kernels (kernels/routing.h, kernels/products.h): their bits are equal. Compiled
// by both compilers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "algorithms/engines/cuda/kernels.h"
#include "algorithms/primitives/row_sums.h"
#include "core/everywhere.h"

namespace hyperattn::cuda {

/// Rows of `depth` numbers: row i is data + i·stride.
struct PlanningRows {
  const float* data = nullptr;
  int64_t stride = 0;
  int64_t depth = 0;

  [[nodiscard]] HYPERATTN_EVERYWHERE const float* row(int64_t i) const { return data + i * stride; }
};

/// A team of one thread: what the host has. Those of the card are in planning.cu.
struct LoneThread {
  [[nodiscard]] HYPERATTN_EVERYWHERE static int index() { return 0; }
  [[nodiscard]] HYPERATTN_EVERYWHERE static int size() { return 1; }
  HYPERATTN_EVERYWHERE static void sync() {}
  /// Sum over the team.
  [[nodiscard]] HYPERATTN_EVERYWHERE static int sum(int x) { return x; }
  /// Threads before this one with a true condition.
  [[nodiscard]] HYPERATTN_EVERYWHERE static int before(bool /*is*/) { return 0; }
  [[nodiscard]] HYPERATTN_EVERYWHERE static int count(bool is) { return is ? 1 : 0; }
  [[nodiscard]] HYPERATTN_EVERYWHERE static uint64_t largest(uint64_t x) { return x; }
};

// Norms, means, centres.

struct NormArguments {
  PlanningRows rows;
  int64_t count = 0;
  double* norms = nullptr;
};
HYPERATTN_EVERYWHERE inline void norm_of_row(const NormArguments& a, int64_t i) {
  a.norms[i] = squared_norm(a.rows.row(i), a.rows.depth);
}

struct GatherArguments {
  PlanningRows rows;
  const int32_t* names = nullptr;
  int64_t count = 0;
  float* target = nullptr;  ///< count × depth
};

/// Means of runs of rows, or the squared deviations of their members.
struct RunArguments {
  PlanningRows rows;
  const int32_t* members = nullptr;
  const int64_t* begins = nullptr;  ///< runs + 1
  const float* shares = nullptr;    ///< by member
  int64_t runs = 0;
  const float* centre = nullptr;  ///< runs × depth: about which squares are taken
  float* target = nullptr;        ///< runs × depth
};
/// Σ share·row of one column: in float within 64 members, in double over these.
HYPERATTN_EVERYWHERE inline void mean_of_run(const RunArguments& a, int64_t run, int64_t column) {
  constexpr int64_t kChunk = 64;
  const int64_t end = a.begins[run + 1];
  double total = 0;
  for (int64_t first = a.begins[run]; first < end; first += kChunk) {
    const int64_t last = first + kChunk < end ? first + kChunk : end;
    float sum = 0;
    for (int64_t i = first; i < last; ++i) sum = fmaf(a.shares[i], a.rows.row(a.members[i])[column], sum);
    total += static_cast<double>(sum);
  }
  a.target[run * a.rows.depth + column] = static_cast<float>(total);
}
HYPERATTN_EVERYWHERE inline void squares_of_run(const RunArguments& a, int64_t run, int64_t column) {
  const float centre = a.centre[run * a.rows.depth + column];
  float squares = 0;
  for (int64_t i = a.begins[run]; i < a.begins[run + 1]; ++i) {
    const float deviation = a.rows.row(a.members[i])[column] - centre;
    squares += deviation * deviation;
  }
  a.target[run * a.rows.depth + column] = squares;
}

struct CentreArguments {
  PlanningRows rows;
  int64_t count = 0;
  const float* centres = nullptr;  ///< centre_count × depth, times the factor
  const float* bias = nullptr;
  int64_t centre_count = 0;
  uint32_t* best = nullptr;
};
HYPERATTN_EVERYWHERE inline void best_of_row(const CentreArguments& a, int64_t i) {
  constexpr int kAtOnce = 4;
  const float* row = a.rows.row(i);
  float largest = -INFINITY;
  uint32_t best = 0;
  for (int64_t first = 0; first < a.centre_count; first += kAtOnce) {
    float sum[kAtOnce];
    const float* centre[kAtOnce];
    for (int64_t j = 0; j < kAtOnce; ++j) {
      const int64_t own = first + j < a.centre_count ? first + j : a.centre_count - 1;
      sum[j] = a.bias[own];
      centre[j] = a.centres + own * a.rows.depth;
    }
    for (int64_t c = 0; c < a.rows.depth; ++c)
      for (int j = 0; j < kAtOnce; ++j) sum[j] = fmaf(row[c], centre[j][c], sum[j]);
    for (int j = 0; j < kAtOnce; ++j)
      if (sum[j] > largest) {  // the last ones twice, which changes nothing
        largest = sum[j];
        best = static_cast<uint32_t>(first + j);
      }
  }
  a.best[i] = best;
}

// Masses (primitives/column_masses.h): keys of a node in chunks, and a few queries.

struct MassArguments {
  PlanningRows keys;  ///< of the node
  int64_t count = 0;
  const float* factors = nullptr;  ///< queries × depth: base-2 scores are products with them
  int64_t queries = 0;
  int64_t chunk = 0;              ///< keys of a chunk
  int64_t chunks = 0;             ///< of them
  float* weights = nullptr;       ///< count × queries: scores, then 2^(score − largest of the chunk)
  float* maximum = nullptr;       ///< chunks × queries
  float* sum = nullptr;           ///< chunks × queries
  const float* scales = nullptr;  ///< chunks × queries: what weights are multiplied by
  float* mass = nullptr;          ///< by key
};
HYPERATTN_EVERYWHERE inline void score_key(const MassArguments& a, int64_t key, int64_t query) {
  const float* row = a.keys.row(key);
  const float* factors = a.factors + query * a.keys.depth;
  float score = 0;
  for (int64_t c = 0; c < a.keys.depth; ++c) score = fmaf(row[c], factors[c], score);
  a.weights[key * a.queries + query] = score;
}
/// The host's 2^x for x ≤ 0, by the lanes of its vectors.
template <int Lanes>
HYPERATTN_EVERYWHERE float host_exp2(float x) {
  if (Lanes == 16) {
    if (x < -200) return 0;
    const float whole = floorf(x);
    const float f = x - whole;
    float p = 1.86713005e-3F;
    p = fmaf(p, f, 9.01703071e-3F);
    p = fmaf(p, f, 5.57999127e-2F);
    p = fmaf(p, f, 2.40164444e-1F);
    p = fmaf(p, f, 6.93151295e-1F);
    p = fmaf(p, f, 1.0F);
    return ldexpf(p, static_cast<int>(whole));
  }
  constexpr float kRounder = 12582912.0F;
  const float bounded = x < -127.0F ? -127.0F : x;
  const float shifted = bounded + kRounder;
  const float f = bounded - (shifted - kRounder);
  float p = 0.00132647273F;
  p = fmaf(p, f, 0.00967151299F);
  p = fmaf(p, f, 0.0555073358F);
  p = fmaf(p, f, 0.240222424F);
  p = fmaf(p, f, 0.693147004F);
  p = fmaf(p, f, 1.0F);
  uint32_t bits = 0;
  uint32_t exponent = 0;
  memcpy(&bits, &p, sizeof(bits));
  memcpy(&exponent, &shifted, sizeof(exponent));
  bits += exponent << 23;
  memcpy(&p, &bits, sizeof(bits));
  return p;
}
template <int Lanes>
HYPERATTN_EVERYWHERE void weigh_chunk(const MassArguments& a, int64_t chunk, int64_t query) {
  const int64_t first = chunk * a.chunk;
  const int64_t last = first + a.chunk < a.count ? first + a.chunk : a.count;
  float maximum = -INFINITY;
  for (int64_t key = first; key < last; ++key) {
    const float score = a.weights[key * a.queries + query];
    maximum = maximum < score ? score : maximum;
  }
  float sum = 0;
  for (int64_t key = first; key < last; ++key) {
    float& weight = a.weights[key * a.queries + query];
    weight = host_exp2<Lanes>(weight - maximum);
    sum += weight;
  }
  a.maximum[chunk * a.queries + query] = maximum;
  a.sum[chunk * a.queries + query] = sum;
}
HYPERATTN_EVERYWHERE inline void mass_of_key(const MassArguments& a, int64_t key) {
  a.mass[key] = sum_of_products(a.weights + key * a.queries, a.scales + key / a.chunk * a.queries, a.queries);
}

// Covariances (primitives/covariance.h): rows [begin, end) in parts of `part` rows, these in chunks.

struct CovarianceArguments {
  PlanningRows a;
  PlanningRows b;
  const float* mean_a = nullptr;
  const float* mean_b = nullptr;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t part = 0;
  int64_t parts = 0;
  int64_t chunk = 0;
  double* sums = nullptr;  ///< parts × a.depth × b.depth
};
/// Σ (a − mean)(b − mean) of two columns over a part: in float within a chunk, in double over these.
HYPERATTN_EVERYWHERE inline void covariance_of_part(const CovarianceArguments& a, int64_t part, int64_t i,
                                                    int64_t j) {
  const int64_t part_begin = a.begin + part * a.part;
  const int64_t part_end = part_begin + a.part < a.end ? part_begin + a.part : a.end;
  const float mean_a = a.mean_a[i];
  const float mean_b = a.mean_b[j];
  double total = 0;
  for (int64_t first = part_begin; first < part_end; first += a.chunk) {
    const int64_t last = first + a.chunk < part_end ? first + a.chunk : part_end;
    float sum = 0;
    for (int64_t row = first; row < last; ++row)
      sum = fmaf(a.a.row(row)[i] - mean_a, a.b.row(row)[j] - mean_b, sum);
    total += static_cast<double>(sum);
  }
  a.sums[(part * a.a.depth + i) * a.b.depth + j] = total;
}

struct PartSumArguments {
  PlanningRows rows;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t part = 0;
  int64_t parts = 0;
  double* sums = nullptr;  ///< parts × depth
};
HYPERATTN_EVERYWHERE inline void sum_of_part(const PartSumArguments& a, int64_t part, int64_t column) {
  const int64_t first = a.begin + part * a.part;
  const int64_t last = first + a.part < a.end ? first + a.part : a.end;
  double total = 0;
  for (int64_t row = first; row < last; ++row) total += static_cast<double>(a.rows.row(row)[column]);
  a.sums[part * a.rows.depth + column] = total;
}

struct ColumnSquareArguments {
  PlanningRows rows;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t step = 0;  ///< between rows that are taken
  const float* centre = nullptr;
  float* sums = nullptr;  ///< depth
};
HYPERATTN_EVERYWHERE inline void squares_of_column(const ColumnSquareArguments& a, int64_t column) {
  const float centre = a.centre[column];
  float sum = 0;
  for (int64_t row = a.begin; row < a.end; row += a.step) {
    const float deviation = a.rows.row(row)[column] - centre;
    sum += deviation * deviation;
  }
  a.sums[column] = sum;
}

// The balanced tree (primitives/key_tree.h).

constexpr int64_t kDirectionKeys = 64;  // of a segment, that its direction is found from

/// The host's product of a row and a direction: `Lanes` sums side by side, folded, and the columns beyond.
template <int Lanes>
HYPERATTN_EVERYWHERE float folded_product(const float* row, const float* direction, int64_t depth) {
  float sums[Lanes] = {};
  const int64_t whole = depth / Lanes * Lanes;
  for (int64_t c = 0; c < whole; c += Lanes)
    for (int l = 0; l < Lanes; ++l) sums[l] = fmaf(row[c + l], direction[c + l], sums[l]);
  for (int width = Lanes / 2; width > 0; width /= 2)
    for (int l = 0; l < width; ++l) sums[l] += sums[l + width];
  float product = sums[0];
  for (int64_t c = whole; c < depth; ++c) product = fmaf(row[c], direction[c], product);
  return product;
}

/// One round: every segment that `sorted` says is sorted along a direction of its own.
struct HalvingArguments {
  PlanningRows keys;
  int32_t* order = nullptr;         ///< rows of keys, by rank
  const int64_t* begins = nullptr;  ///< segments + 1
  const uint8_t* sorted = nullptr;  ///< by segment
  int64_t segments = 0;
  int64_t count = 0;            ///< ranks
  float* directions = nullptr;  ///< segments × depth
  uint64_t* places = nullptr;   ///< by rank: segment · 2^32 + bits that order as the products
};
/// Floats that a team needs for a direction.
[[nodiscard]] HYPERATTN_EVERYWHERE constexpr int64_t direction_scratch(int64_t depth) {
  return kDirectionKeys * depth + kDirectionKeys + depth + 3;
}
template <int Lanes, class Team>
HYPERATTN_EVERYWHERE void find_direction(const Team& team, const HalvingArguments& a, int64_t segment,
                                         float* scratch) {
  constexpr int kRounds = 3;
  constexpr float kLeastNorm = 1e-20F;
  const int64_t depth = a.keys.depth;
  const int64_t begin = a.begins[segment];
  const int64_t count = a.begins[segment + 1] - begin;
  const int64_t taken = count < kDirectionKeys ? count : kDirectionKeys;
  float* deviations = scratch;  // taken × depth
  float* places = deviations + kDirectionKeys * depth;
  float* direction = places + kDirectionKeys;
  float* middle = direction + depth;  // the two middle places; then the norm
  for (int64_t c = team.index(); c < depth; c += team.size()) {
    float mean = 0;
    for (int64_t i = 0; i < taken; ++i) {
      const float x = a.keys.row(a.order[begin + i * count / taken])[c];
      deviations[i * depth + c] = x;
      mean += x;
    }
    mean /= static_cast<float>(taken);
    for (int64_t i = 0; i < taken; ++i) deviations[i * depth + c] -= mean;
    direction[c] = deviations[c] + 1e-6F;
  }
  team.sync();
  for (int round = 0; round < kRounds; ++round) {
    for (int64_t i = team.index(); i < taken; i += team.size())
      places[i] = folded_product<Lanes>(deviations + i * depth, direction, depth);
    if (team.index() == 0) middle[0] = middle[1] = 0;
    team.sync();
    for (int64_t i = team.index(); i < taken; i += team.size()) {
      int64_t rank = 0;
      for (int64_t j = 0; j < taken; ++j)
        rank += places[j] < places[i] || (places[j] == places[i] && j < i) ? 1 : 0;
      if (rank == taken / 2) middle[0] = places[i];
      if (rank == taken / 2 - 1) middle[1] = places[i];
    }
    team.sync();
    const float median = taken % 2 == 1 ? middle[0] : 0.5F * (middle[0] + middle[1]);
    for (int64_t c = team.index(); c < depth; c += team.size()) {
      float sum = 0;
      for (int64_t i = 0; i < taken; ++i)
        sum = fmaf(places[i] > median ? 1.0F : -1.0F, deviations[i * depth + c], sum);
      direction[c] = sum;
    }
    team.sync();
    if (team.index() == 0) {
      double square = 0;
      for (int64_t c = 0; c < depth; ++c) square += static_cast<double>(direction[c] * direction[c]);
      const auto norm = static_cast<float>(sqrt(square));
      middle[2] = norm < kLeastNorm ? kLeastNorm : norm;
    }
    team.sync();
    for (int64_t c = team.index(); c < depth; c += team.size()) direction[c] /= middle[2];
    team.sync();
  }
  for (int64_t c = team.index(); c < depth; c += team.size())
    a.directions[segment * depth + c] = direction[c];
}

/// Bits that order as the floats do, as unsigned numbers; −0 is 0.
HYPERATTN_EVERYWHERE inline uint32_t ordered_bits(float x) {
  x += 0.0F;
  uint32_t bits = 0;
  memcpy(&bits, &x, sizeof(bits));
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}

/// The number R of the interval [begins[R], begins[R + 1]) that holds `rank`.
HYPERATTN_EVERYWHERE inline int64_t interval_of(const int64_t* begins, int64_t count, int64_t rank) {
  int64_t low = 0;
  int64_t high = count - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (begins[middle] <= rank)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

template <int Lanes>
HYPERATTN_EVERYWHERE void place_rank(const HalvingArguments& a, int64_t rank) {
  const int64_t segment = interval_of(a.begins, a.segments, rank);
  uint32_t place = 0;
  if (a.sorted[segment] != 0)
    place = ordered_bits(folded_product<Lanes>(a.keys.row(a.order[rank]),
                                               a.directions + segment * a.keys.depth, a.keys.depth));
  a.places[rank] = static_cast<uint64_t>(segment) << 32 | place;
}

// The beam (primitives/beam.h): rows of a part of the queries, one level.

struct BeamArguments {
  PlanningRows queries;
  int64_t rows = 0;
  const float* means = nullptr;  ///< depth × count: of this level's segments
  const float* roots = nullptr;  ///< √r of this level's segments; null: 0
  int64_t count = 0;             ///< segments of this level
  float scale = 0;
  float limit = 0;                  ///< of σ
  const float* variance = nullptr;  ///< by row; null: no spread in the gate
  /// What rows opened on the level above, `above_width` a row, and its segments' children; null: all
  /// segments are looked at.
  const int32_t* above = nullptr;
  int64_t above_width = 0;
  const int64_t* first_child = nullptr;
  int64_t children = 0;             ///< of a segment above, at most
  int64_t candidates = 0;           ///< a row: `count`, or above_width · children
  float* gates = nullptr;           ///< rows × candidates; −∞ for what is no segment
  int64_t keep = 0;                 ///< segments that a row opens
  int64_t budget = 0;               ///< of keys, where not 0
  const int64_t* begins = nullptr;  ///< of this level's segments, for the budget
  int32_t* opened = nullptr;        ///< rows × width, −1 beyond what a row opens
  int64_t width = 0;
};

/// −1: none.
HYPERATTN_EVERYWHERE inline int64_t candidate(const BeamArguments& a, int64_t row, int64_t place) {
  if (a.above == nullptr) return place;
  const int32_t parent = a.above[row * a.above_width + place / a.children];
  if (parent < 0) return -1;
  const int64_t child = a.first_child[parent] + place % a.children;
  return child < a.first_child[parent + 1] ? child : -1;
}

HYPERATTN_EVERYWHERE inline float gate_of_product(const BeamArguments& a, int64_t row, int64_t segment,
                                                  float product) {
  const float root = a.variance != nullptr ? sqrtf(a.variance[row]) : 0.0F;
  const float sigma = root * (a.roots != nullptr ? a.roots[segment] : 0.0F);
  const float limit = a.variance != nullptr ? a.limit : 0.0F;
  const float tangent = sigma < limit ? sigma : limit;
  const float mean = fmaf(product, a.scale, 0.0F);
  return fmaf(tangent, fmaf(-0.5F, tangent, sigma), mean);
}

HYPERATTN_EVERYWHERE inline void gate_candidate(const BeamArguments& a, int64_t row, int64_t place) {
  const int64_t segment = candidate(a, row, place);
  float gate = -INFINITY;
  if (segment >= 0) {
    const float* query = a.queries.row(row);
    float product = 0;
    for (int64_t c = 0; c < a.queries.depth; ++c)
      product = fmaf(query[c], a.means[c * a.count + segment], product);
    gate = gate_of_product(a, row, segment, product);
  }
  a.gates[row * a.candidates + place] = gate;
}

/// The `keep`-th largest of what is above −∞, and how many equal to it are taken.
struct Border {
  uint32_t bits = 0;
  int64_t equal = 0;
};
constexpr uint32_t kNoGate = 0x007FFFFFU;  // ordered_bits(−∞)

template <class Team>
HYPERATTN_EVERYWHERE int count_from(const Team& team, const float* gates, int64_t count, uint32_t bits) {
  int own = 0;
  for (int64_t i = team.index(); i < count; i += team.size()) own += ordered_bits(gates[i]) >= bits ? 1 : 0;
  return team.sum(own);
}

template <class Team>
HYPERATTN_EVERYWHERE Border border_of(const Team& team, const float* gates, int64_t count, int64_t keep) {
  if (count_from(team, gates, count, kNoGate + 1) <= keep) return {kNoGate, 0};
  Border border;
  for (int bit = 31; bit >= 0; --bit) {
    const uint32_t bits = border.bits | 1U << bit;
    if (count_from(team, gates, count, bits) >= keep) border.bits = bits;
  }
  border.equal = keep - (border.bits == UINT32_MAX ? 0 : count_from(team, gates, count, border.bits + 1));
  return border;
}

/// In order of the largest gates, those whose keys fit the budget, at least one.
template <class Team>
HYPERATTN_EVERYWHERE Border border_of_budget(const Team& team, const BeamArguments& a, int64_t row) {
  const float* gates = a.gates + row * a.candidates;
  Border border{UINT32_MAX, 0};
  uint64_t last = UINT64_MAX;
  int64_t keys = 0;
  int64_t opened = 0;
  while (true) {
    uint64_t next = 0;  // the largest gate after the last one, the first of equals
    for (int64_t i = team.index(); i < a.candidates; i += team.size()) {
      const uint32_t bits = ordered_bits(gates[i]);
      const uint64_t place = static_cast<uint64_t>(bits) << 32 | (UINT32_MAX - static_cast<uint32_t>(i));
      if (bits > kNoGate && place < last && place > next) next = place;
    }
    next = team.largest(next);
    if (next == 0) return border;
    const int64_t segment = candidate(a, row, UINT32_MAX - static_cast<uint32_t>(next));
    keys += a.begins[segment + 1] - a.begins[segment];
    if (opened > 0 && keys > a.budget) return border;
    ++opened;
    const auto bits = static_cast<uint32_t>(next >> 32);
    border = {bits, border.bits == bits ? border.equal + 1 : 1};
    last = next;
  }
}

/// Writes what a row opens, increasing; −1 where there is room left.
template <class Team>
HYPERATTN_EVERYWHERE void open_largest(const Team& team, const BeamArguments& a, int64_t row) {
  const float* gates = a.gates + row * a.candidates;
  int32_t* opened = a.opened + row * a.width;
  const Border border =
      a.budget > 0 ? border_of_budget(team, a, row) : border_of(team, gates, a.candidates, a.keep);
  int64_t written = 0;
  int64_t equal = 0;
  for (int64_t first = 0; first < a.candidates; first += team.size()) {
    const int64_t i = first + team.index();
    const uint32_t bits = i < a.candidates ? ordered_bits(gates[i]) : 0;
    const bool is_equal = i < a.candidates && bits == border.bits;
    const int64_t equals_before = equal + team.before(is_equal);
    const bool is_open = bits > border.bits || (is_equal && equals_before < border.equal);
    const int64_t place = written + team.before(is_open);
    if (is_open) opened[place] = static_cast<int32_t>(candidate(a, row, i));
    equal += team.count(is_equal);
    written += team.count(is_open);
  }
  for (int64_t i = written + team.index(); i < a.width; i += team.size()) opened[i] = -1;
}

/// s²·Σ_c q_c²·δ_c of rows.
struct VarianceArguments {
  PlanningRows queries;
  int64_t rows = 0;
  const float* scaled = nullptr;  ///< levels × depth: s²·δ
  int64_t levels = 0;
  float* variance = nullptr;  ///< levels × rows
};
HYPERATTN_EVERYWHERE inline void variance_of_row(const VarianceArguments& a, int64_t level, int64_t row) {
  const float* query = a.queries.row(row);
  const float* scaled = a.scaled + level * a.queries.depth;
  float sum = 0;
  for (int64_t c = 0; c < a.queries.depth; ++c) sum = fmaf(query[c] * query[c], scaled[c], sum);
  a.variance[level * a.rows + row] = sum;
}

// The kernels. `lanes`: of the host's vectors, 8 or 16.

[[nodiscard]] LaunchError launch_norms(const NormArguments& arguments, void* stream);
[[nodiscard]] LaunchError launch_gather(const GatherArguments& arguments, void* stream);
[[nodiscard]] LaunchError launch_run_means(const RunArguments& arguments, void* stream);
[[nodiscard]] LaunchError launch_run_squares(const RunArguments& arguments, void* stream);
[[nodiscard]] LaunchError launch_best_centres(const CentreArguments& arguments, void* stream);
/// Weights, and the sums of the chunks.
[[nodiscard]] LaunchError launch_mass_weights(int lanes, const MassArguments& arguments, void* stream);
[[nodiscard]] LaunchError launch_masses(const MassArguments& arguments, void* stream);
[[nodiscard]] LaunchError launch_covariance(const CovarianceArguments& arguments, void* stream);
[[nodiscard]] LaunchError launch_part_sums(const PartSumArguments& arguments, void* stream);
[[nodiscard]] LaunchError launch_column_squares(const ColumnSquareArguments& arguments, void* stream);
/// Directions of all segments that are sorted, and the places of all ranks.
[[nodiscard]] LaunchError launch_halving(int lanes, const HalvingArguments& arguments, void* stream);
/// Stable sort by the lowest `bits` of places; without `scratch` it only says how many bytes it wants.
[[nodiscard]] LaunchError sort_places(void* scratch, size_t& scratch_bytes, const uint64_t* places,
                                      uint64_t* sorted_places, const int32_t* rows, int32_t* sorted_rows,
                                      int64_t count, int bits, void* stream);
[[nodiscard]] LaunchError launch_variances(const VarianceArguments& arguments, void* stream);
/// Gates of all rows, and what they open.
[[nodiscard]] LaunchError launch_beam(const BeamArguments& arguments, void* stream);

}  // namespace hyperattn::cuda
