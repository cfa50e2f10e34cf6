#include "algorithms/primitives/nystrom.h"

#include <Eigen/Core>
#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "algorithms/nodes/node_work.h"
#include "core/eigen.h"
#include "core/matrix_algebra.h"
#include "core/memory.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

using Matrix = RowMajorMatrix<double>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// A residual of 1e-10 leaves weights of about 1e-5 relative error in double precision, where single precision
// takes over; smaller ones would buy noise.
constexpr double kLeastResidual = 1e-10;
// Entries of g(S, S)⁻¹ g(S, all) below this are rounding errors of the factor, which exp(|x|²/2) would blow
// up.
constexpr double kLeastWeight = 1e-10;
// Keys that are worked on at once: a chunk's rows of the factor stay in cache.
constexpr int64_t kChunk = 512;
// Pivots that are proposed at once: the factor grows by matrix products.
constexpr int64_t kProposals = 32;

template <class Body>
void for_each_chunk(int64_t count, const Body& body) {
  parallel_for((count + kChunk - 1) / kChunk,
               [&](int64_t chunk, int) { body(chunk * kChunk, std::min(count, (chunk + 1) * kChunk)); });
}

/// Memory that counts, as a matrix; 0 at first.
struct CountedMatrix {
  Buffer<double> memory;
  Eigen::Map<Matrix> matrix;

  CountedMatrix(int64_t rows, int64_t columns)
      : memory(rows * columns, 0.0), matrix(memory.data(), rows, columns) {}
};

/// x_l and |x_l|²/2 of the keys of ranks [begin, end).
struct ScaledKeys {
  CountedMatrix memory;
  Eigen::Map<Matrix> x;
  std::vector<double> half_norms;

  ScaledKeys(int64_t keys, int64_t width)
      : memory(keys, width), x(memory.matrix), half_norms(static_cast<size_t>(keys)) {}
  [[nodiscard]] int64_t count() const { return x.rows(); }
  [[nodiscard]] MatrixView<const double> rows(int64_t begin, int64_t end) const {
    return {memory.memory.data() + begin * x.cols(), end - begin, x.cols(), x.cols()};
  }
};

ScaledKeys scaled_keys(const NystromKeys& all, const NystromOptions& options, int64_t begin, int64_t end) {
  ScaledKeys keys(end - begin, all.keys.cols);
  for (int64_t l = 0; l < keys.count(); ++l)
    keys.x.row(l) = as_eigen(all.keys).row(all.order[begin + l]).cast<double>();
  const Eigen::RowVectorXd mean = keys.x.colwise().mean();
  keys.x.rowwise() -= mean;
  const std::vector<double> norms = squared_norms(keys.rows(0, keys.count()));
  const double radius = std::sqrt(*std::max_element(norms.begin(), norms.end()));
  const double squared = squared_temperature(options, keys.count(), all.scale, radius, all.query_radius);
  keys.x *= std::isfinite(squared) ? std::sqrt(std::abs(all.scale) / squared) : 0.0;
  keys.half_norms = squared_norms(keys.rows(0, keys.count()));
  for (double& norm : keys.half_norms) norm *= 0.5;
  return keys;
}

ScaledKeys part_of(const ScaledKeys& keys, int64_t begin, int64_t end) {
  ScaledKeys part(end - begin, keys.x.cols());
  part.x = keys.x.middleRows(begin, end - begin);
  std::copy(keys.half_norms.begin() + begin, keys.half_norms.begin() + end, part.half_norms.begin());
  return part;
}

/// The factor F of g(all, all) ≈ F Fᵀ, which grows by pivots: F is n × r, lower triangular in the pivots'
/// rows.
class PivotedFactor {
 public:
  PivotedFactor(const ScaledKeys& keys, int64_t most)
      : keys_(keys),
        memory_(keys.count(), most),
        factor_(memory_.matrix),
        residual_(static_cast<size_t>(keys.count()), 1.0) {}

  [[nodiscard]] int64_t count() const { return static_cast<int64_t>(pivots_.size()); }
  /// Row l of F, or of Wᵀ.
  [[nodiscard]] auto row(int64_t key) { return factor_.row(key).head(count()); }
  [[nodiscard]] MatrixView<const double> rows(int64_t begin, int64_t end) const {
    return {memory_.memory.data() + begin * factor_.cols(), end - begin, count(), factor_.cols()};
  }
  [[nodiscard]] const std::vector<int32_t>& pivots() const { return pivots_; }
  [[nodiscard]] int64_t room() const { return factor_.cols() - count(); }
  /// What is left of g(x_l, x_l) = 1.
  [[nodiscard]] double residual(int64_t key) const {
    const double left = residual_[static_cast<size_t>(key)];
    return left > kLeastResidual ? left : 0.0;
  }

  /// Makes those of the candidates pivots, in their order, that have a residual beside the pivots so far and
  /// that accept(candidate, this residual) takes.
  template <class Accept>
  void add(const std::vector<int32_t>& candidates, const Accept& accept) {
    Matrix left = gram(candidates);
    Matrix lower = Matrix::Zero(left.rows(), left.rows());
    std::vector<int32_t> taken;
    std::vector<int64_t> places;
    for (int64_t i = 0; i < left.rows(); ++i) {
      const int32_t key = candidates[static_cast<size_t>(i)];
      const double own = left(i, i);
      if (std::find(taken.begin(), taken.end(), key) != taken.end()) continue;
      if (!(own > kLeastResidual)) {
        residual_[static_cast<size_t>(key)] = 0;
        continue;
      }
      if (!accept(key, own)) continue;
      const auto column = static_cast<int64_t>(taken.size());
      const int64_t rest = left.rows() - i;
      lower.col(column).tail(rest) = left.col(i).tail(rest) / std::sqrt(own);
      const Eigen::RowVectorXd step = lower.col(column).tail(rest);
      for (int64_t j = 0; j < rest; ++j) left.row(i + j).tail(rest) -= step(j) * step;
      taken.push_back(key);
      places.push_back(i);
    }
    Matrix own(static_cast<int64_t>(taken.size()), static_cast<int64_t>(taken.size()));
    for (int64_t i = 0; i < own.rows(); ++i)
      own.row(i) = lower.row(places[static_cast<size_t>(i)]).head(own.cols());
    append(taken, own);
  }

  /// Turns F into W relative to exp(log-weights), and returns these: of each pivot the largest |x_l|²/2 that
  /// it has weight of, less its own.
  std::vector<double> solve() {
    const DenseMatrix<double> pivot_rows = copied_rows(rows(0, keys_.count()), pivots_);
    std::vector<int64_t> place(static_cast<size_t>(keys_.count()), -1);
    for (int64_t i = 0; i < count(); ++i) place[static_cast<size_t>(pivots_[static_cast<size_t>(i)])] = i;
    const int64_t chunks = (keys_.count() + kChunk - 1) / kChunk;
    Matrix largest = Matrix::Constant(chunks, count(), -kInfinity);
    for_each_chunk(keys_.count(), [&](int64_t begin, int64_t end) {
      auto weights = factor_.block(begin, 0, end - begin, count());
      Matrix solved = weights;
      solve_lower(pivot_rows, view_of(solved));
      for (int64_t l = begin; l < end; ++l) {
        auto own = solved.row(l - begin);
        const int64_t at = place[static_cast<size_t>(l)];
        if (at >= 0) own = Eigen::RowVectorXd::Unit(count(), at);  // a pivot stands for itself
        note_largest(l, own, largest.row(begin / kChunk));
      }
      weights = solved;
    });
    const Eigen::RowVectorXd reference = largest.colwise().maxCoeff();
    for_each_chunk(keys_.count(), [&](int64_t begin, int64_t end) {
      for (int64_t l = begin; l < end; ++l)
        row(l).array() *= (keys_.half_norms[static_cast<size_t>(l)] - reference.array()).min(0.0).exp();
    });
    std::vector<double> log_weights;
    for (int64_t j = 0; j < count(); ++j)
      log_weights.push_back(reference(j) -
                            keys_.half_norms[static_cast<size_t>(pivots_[static_cast<size_t>(j)])]);
    return log_weights;
  }

 private:
  /// g of keys [begin, end) with some others.
  [[nodiscard]] Matrix kernel(int64_t begin, int64_t end, const std::vector<int32_t>& others) const {
    const DenseMatrix<double> columns = copied_rows(keys_.rows(0, keys_.count()), others);
    Eigen::RowVectorXd norms(columns.rows);
    for (int64_t j = 0; j < columns.rows; ++j)
      norms(j) = keys_.half_norms[static_cast<size_t>(others[static_cast<size_t>(j)])];
    Matrix exponent(end - begin, columns.rows);
    multiply_transposed(keys_.rows(begin, end), columns, view_of(exponent));
    for (int64_t l = begin; l < end; ++l)
      exponent.row(l - begin).array() -= norms.array() + keys_.half_norms[static_cast<size_t>(l)];
    return exponent.array().min(0.0).exp();
  }

  /// What is left of g(candidates, candidates) beside the pivots so far.
  [[nodiscard]] Matrix gram(const std::vector<int32_t>& candidates) {
    const auto size = static_cast<int64_t>(candidates.size());
    const DenseMatrix<double> x = copied_rows(keys_.rows(0, keys_.count()), candidates);
    const DenseMatrix<double> f = copied_rows(rows(0, keys_.count()), candidates);
    Eigen::VectorXd norms(size);
    for (int64_t i = 0; i < size; ++i)
      norms(i) = keys_.half_norms[static_cast<size_t>(candidates[static_cast<size_t>(i)])];
    Matrix exponent(size, size);
    multiply_transposed(x, x, view_of(exponent));
    exponent.colwise() -= norms;
    exponent.rowwise() -= norms.transpose();
    Matrix g = exponent.array().min(0.0).exp();
    g.diagonal().setOnes();  // also where |x|² is so large that rounding would decide
    subtract_multiply_transposed(f, f, view_of(g));
    return g;
  }

  void append(const std::vector<int32_t>& taken, const Matrix& lower) {
    if (taken.empty()) return;
    const int64_t old = count();
    const auto more = static_cast<int64_t>(taken.size());
    const DenseMatrix<double> taken_rows = copied_rows(rows(0, keys_.count()), taken);
    for_each_chunk(keys_.count(), [&](int64_t begin, int64_t end) {
      Matrix added = kernel(begin, end, taken);
      subtract_multiply_transposed(rows(begin, end), taken_rows, view_of(added));
      solve_lower_transposed(view_of(lower), view_of(added));
      factor_.block(begin, old, end - begin, more) = added;
      const std::vector<double> norms = squared_norms(view_of(std::as_const(added)));
      for (int64_t l = begin; l < end; ++l)
        residual_[static_cast<size_t>(l)] -= norms[static_cast<size_t>(l - begin)];
    });
    pivots_.insert(pivots_.end(), taken.begin(), taken.end());
    for (int64_t i = 0; i < more; ++i) {
      row(taken[static_cast<size_t>(i)]).tail(more) = lower.row(i);
      residual_[static_cast<size_t>(taken[static_cast<size_t>(i)])] = 0;
    }
  }

  /// Sets what is noise to 0, and takes the largest |x_l|²/2 over keys with a weight.
  template <class Row, class Largest>
  void note_largest(int64_t key, Row& weights, Largest&& largest) const {
    const double size = keys_.half_norms[static_cast<size_t>(key)];
    for (int64_t j = 0; j < weights.size(); ++j) {
      if (std::abs(weights(j)) < kLeastWeight)
        weights(j) = 0;
      else
        largest(j) = std::max(largest(j), size);
    }
  }

  const ScaledKeys& keys_;
  CountedMatrix memory_;
  Eigen::Map<Matrix> factor_;
  std::vector<double> residual_;
  std::vector<int32_t> pivots_;
};

/// residual_l·exp(|x_l|²), added up from the first key on, over a common factor.
std::vector<double> cumulative_weights(const ScaledKeys& keys, const PivotedFactor& factor) {
  double largest = -kInfinity;
  for (int64_t l = 0; l < keys.count(); ++l)
    if (factor.residual(l) > 0) largest = std::max(largest, keys.half_norms[static_cast<size_t>(l)]);
  std::vector<double> sums(static_cast<size_t>(keys.count()));
  double sum = 0;
  for (int64_t l = 0; l < keys.count(); ++l) {
    const double left = factor.residual(l);
    if (left > 0) sum += left * std::exp(2 * (keys.half_norms[static_cast<size_t>(l)] - largest));
    sums[static_cast<size_t>(l)] = sum;
  }
  return sums;
}

/// Randomly pivoted Cholesky in blocks: proposals are drawn by the residuals before the block, and taken with
/// the share of theirs that the block's pivots so far have left, which gives the pivots of one draw after the
/// other (accelerated RPCholesky, arXiv 2410.03969).
void draw_pivots(const ScaledKeys& keys, const RandomStream& stream, uint64_t first_number,
                 PivotedFactor& factor) {
  uint64_t number = first_number;
  while (factor.room() > 0) {
    const std::vector<double> sums = cumulative_weights(keys, factor);
    if (!(sums.back() > 0)) return;  // the pivots give every key exactly
    std::vector<int32_t> proposals;
    for (int64_t i = 0; i < std::min(factor.room(), kProposals); ++i) {
      const double at = stream.uniform(number++) * sums.back();
      proposals.push_back(
          static_cast<int32_t>(std::upper_bound(sums.begin(), sums.end() - 1, at) - sums.begin()));
    }
    factor.add(proposals, [&](int32_t key, double left) {
      return stream.uniform(number++) * factor.residual(key) < left;
    });
  }
}

void take_pivots(const std::vector<int32_t>& pivots, PivotedFactor& factor) {
  for (size_t begin = 0; begin < pivots.size(); begin += kProposals) {
    const size_t end = std::min(pivots.size(), begin + kProposals);
    factor.add({pivots.begin() + static_cast<int64_t>(begin), pivots.begin() + static_cast<int64_t>(end)},
               [](int32_t, double) { return true; });
  }
}

/// Random numbers of different bins never meet.
RandomStream stream_of_bin(const RandomStream& stream, int64_t bin) {
  return RandomStream(stream.bits(static_cast<uint64_t>(bin)), Purpose::pivot);
}

struct BinShare {
  int64_t begin, end;  // ranks
  int64_t pivots;
};

BinShare share_of_bin(int64_t keys, int64_t pivots, int64_t bins, int64_t bin) {
  return {keys * bin / bins, keys * (bin + 1) / bins, pivots * (bin + 1) / bins - pivots * bin / bins};
}

void find_pivots(const ScaledKeys& keys, const NystromOptions& options, int64_t pivots,
                 const RandomStream& stream, PivotedFactor& factor) {
  if (options.pivots == PivotRule::uniform)
    return take_pivots(sample_without_replacement(stream, keys.count(), pivots), factor);
  if (options.pivots == PivotRule::rpcholesky) return draw_pivots(keys, stream, 0, factor);
  std::vector<std::vector<int32_t>> found(static_cast<size_t>(options.bins));
  parallel_for(options.bins, [&](int64_t bin, int) {
    const BinShare share = share_of_bin(keys.count(), pivots, options.bins, bin);
    const ScaledKeys own = part_of(keys, share.begin, share.end);
    PivotedFactor own_factor(own, share.pivots);
    draw_pivots(own, stream_of_bin(stream, bin), 0, own_factor);
    for (const int32_t pivot : own_factor.pivots())
      found[static_cast<size_t>(bin)].push_back(static_cast<int32_t>(share.begin) + pivot);
  });
  for (const std::vector<int32_t>& some : found) take_pivots(some, factor);
}

/// Σ over keys [begin, end) of the bin, whose weights are `factor`'s, of W_jl (v_l, 1).
Matrix weighted_values(const NystromKeys& all, const PivotedFactor& factor, int64_t first_rank, int64_t begin,
                       int64_t end) {
  const int64_t d_v = all.values.cols;
  Matrix values(end - begin, d_v + 1);
  for (int64_t l = begin; l < end; ++l)
    values.row(l - begin).head(d_v) = as_eigen(all.values).row(all.order[first_rank + l]).cast<double>();
  values.col(d_v).setOnes();
  const MatrixView<const double> weights = factor.rows(begin, end);
  Matrix sums(weights.cols, values.cols());
  transposed_multiply(weights, view_of(values), view_of(sums));
  return sums;
}

/// Adds up every piece in chunks, in their order.
void sum_pieces(const NystromKeys& all, const PivotedFactor& factor, NystromBin& bin) {
  struct Part {
    int64_t begin, end;
    size_t piece;
  };
  std::vector<Part> parts;
  for (size_t p = 0; p + 1 < bin.borders.size(); ++p)
    for (int64_t begin = bin.borders[p]; begin < bin.borders[p + 1]; begin += kChunk)
      parts.push_back({begin - bin.begin, std::min(begin + kChunk, bin.borders[p + 1]) - bin.begin, p});
  std::vector<Matrix> sums(parts.size());
  parallel_for(static_cast<int64_t>(parts.size()), [&](int64_t i, int) {
    const Part& part = parts[static_cast<size_t>(i)];
    sums[static_cast<size_t>(i)] = weighted_values(all, factor, bin.begin, part.begin, part.end);
  });
  bin.pieces.assign(bin.borders.size() - 1, {});
  for (size_t i = 0; i < parts.size(); ++i) {
    DenseMatrix<double>& piece = bin.pieces[parts[i].piece];
    if (piece.rows == 0) piece = DenseMatrix<double>(sums[i].rows(), sums[i].cols());
    as_eigen(piece) += sums[i];
  }
}

/// Pivots, their log-weights and their sums in the order of ranks.
void sort_pivots(const std::vector<int32_t>& pivots, const std::vector<double>& log_weights,
                 NystromBin& bin) {
  std::vector<size_t> order(pivots.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return pivots[a] < pivots[b]; });
  for (const size_t i : order) {
    bin.ranks.push_back(static_cast<int32_t>(bin.begin) + pivots[i]);
    bin.log_weights.push_back(static_cast<float>(log_weights[i]));
  }
  for (DenseMatrix<double>& piece : bin.pieces) {
    const DenseMatrix<double> drawn = piece;
    for (size_t i = 0; i < order.size(); ++i)
      std::copy_n(drawn.row(static_cast<int64_t>(order[i])), drawn.cols, piece.row(static_cast<int64_t>(i)));
  }
}

std::vector<int64_t> borders_within(const std::vector<int64_t>& borders, int64_t begin, int64_t end) {
  std::vector<int64_t> within = {begin};
  for (const int64_t border : borders)
    if (begin < border && border < end) within.push_back(border);
  within.push_back(end);
  return within;
}

}  // namespace

std::vector<ParameterSpec> nystrom_parameters() {
  return {
      choice_parameter("pivots", {"rpcholesky", "uniform", "per_bin"},
                       "how pivot keys are drawn: by what the others leave of a key (randomly pivoted "
                       "Cholesky), uniformly, or as the first in each bin, with weights from all bins"),
      choice_parameter("temperature", {"paper", "released", "given"},
                       "of the kernel that gives pivots their weights: by the paper's equation, as in its "
                       "authors' released code, or tau"),
      number_parameter("tau", "temperature of the kernel that gives pivots their weights")
          .between(1e-30, 1e30)
          .by_default(1.0)
          .only_with("temperature", {std::string("given")}),
      integer_parameter("bins", "equal parts of the keys, each with its share of the pivots")
          .at_least(1)
          .by_default(int64_t{1})};
}

NystromOptions nystrom_options(const Parameters& parameters) {
  NystromOptions options;
  const std::string& pivots = parameters.text("pivots");
  if (pivots == "uniform") options.pivots = PivotRule::uniform;
  if (pivots == "per_bin") options.pivots = PivotRule::per_bin;
  const std::string& temperature = parameters.text("temperature");
  if (temperature == "released") options.rule = TemperatureRule::released;
  if (temperature == "given") options.rule = TemperatureRule::given;
  options.tau = parameters.number("tau");
  options.bins = parameters.integer("bins");
  return options;
}

std::string check_bins(const Parameters& parameters, const std::string& pivots_name, int64_t pivots) {
  const int64_t bins = parameters.integer("bins");
  if (bins <= pivots) return {};
  return "bins must be at most " + pivots_name + ", " + std::to_string(pivots) + ", but is " +
         std::to_string(bins);
}

double lambert_w(double x) {
  double w = std::log1p(x);
  for (int round = 0; round < 50; ++round) {  // Halley's; it takes four to eight
    const double e = std::exp(w);
    const double f = w * e - x;
    const double step = f / (e * (w + 1) - (w + 2) * f / (2 * w + 2));
    w -= step;
    if (std::abs(step) <= 1e-16 * (1 + w)) break;
  }
  return w;
}

double squared_temperature(const NystromOptions& options, int64_t keys, double scale, double key_radius,
                           double query_radius) {
  if (options.rule == TemperatureRule::given) return options.tau * options.tau;
  const double largest_score = std::abs(scale) * key_radius * query_radius;
  if (!(largest_score > 1e-200)) return kInfinity;
  const double ratio = key_radius / query_radius;
  if (options.rule == TemperatureRule::released) return 3.94582 * ratio;
  const double rho = std::sqrt(1 + std::exp(lambert_w(2 * std::exp(-2.0)) + 2));
  const double b = std::log(static_cast<double>(keys)) / largest_score + 2;
  return ratio * b / (2 * lambert_w(b / (2 * rho)));
}

double largest_row_norm(MatrixView<const float> rows) {
  if (rows.rows == 0) return 0;
  double largest = 0;
  for (int64_t i = 0; i < rows.rows; ++i)
    largest = std::max(largest, as_eigen(rows).row(i).cast<double>().squaredNorm());
  return std::sqrt(largest);
}

NystromKeys nystrom_keys(const AttentionProblem& problem, const HeadNode& place, RowOrder order,
                         bool from_earlier) {
  const AttentionNode& node = place.node;
  int64_t first = node.query_begin;
  int64_t end = node.query_end;
  if (from_earlier && node.level > 0) {
    first = std::max<int64_t>(node.key_begin - problem.causal_offset(), 0);
    end = std::max<int64_t>(node.key_end - problem.causal_offset(), 0);
  }
  const MatrixView<const float> keys = problem.keys_of(place.head);
  const MatrixView<const float> own_keys = rows_between(keys, node.key_begin, node.key_end);
  const MatrixView<const float> queries = rows_between(problem.query.matrix(place.head), first, end);
  return {keys, problem.values_of(place.head), std::move(order), problem.scale,
          largest_row_norm(first < end ? queries : own_keys)};
}

DenseMatrix<double> NystromBin::total() const {
  DenseMatrix<double> sum = pieces.front();
  for (size_t p = 1; p < pieces.size(); ++p) as_eigen(sum) += as_eigen(pieces[p]);
  return sum;
}

std::vector<NystromBin> nystrom_bins(const NystromKeys& keys, const NystromOptions& options, int64_t pivots,
                                     const std::vector<int64_t>& borders, const RandomStream& stream) {
  assert(options.bins <= pivots && pivots <= keys.order.count);
  const int64_t systems = options.pivots == PivotRule::per_bin ? 1 : options.bins;
  std::vector<NystromBin> bins(static_cast<size_t>(systems));
  parallel_for(systems, [&](int64_t number, int) {
    const BinShare share = share_of_bin(keys.order.count, pivots, systems, number);
    NystromBin& bin = bins[static_cast<size_t>(number)];
    bin.begin = share.begin;
    bin.end = share.end;
    bin.borders = borders_within(borders, share.begin, share.end);
    const ScaledKeys scaled = scaled_keys(keys, options, share.begin, share.end);
    PivotedFactor factor(scaled, share.pivots);
    find_pivots(scaled, options, share.pivots, systems == 1 ? stream : stream_of_bin(stream, number), factor);
    const std::vector<double> log_weights = factor.solve();
    sum_pieces(keys, factor, bin);
    sort_pivots(factor.pivots(), log_weights, bin);
  });
  return bins;
}

PivotList::PivotList(const NystromKeys& keys, int64_t most) : keys_(keys) {
  values_.reserve(static_cast<size_t>(most * keys.values.cols));
}

void PivotList::add(const NystromBin& bin, const DenseMatrix<double>& sums) {
  const int64_t d_v = keys_.values.cols;
  for (size_t j = 0; j < bin.ranks.size(); ++j) {
    const double* sum = sums.row(static_cast<int64_t>(j));
    rows_.push_back(static_cast<int32_t>(keys_.order[bin.ranks[j]]));
    log_weights_.push_back(bin.log_weights[j]);
    for (int64_t c = 0; c < d_v; ++c) values_.push_back(static_cast<float>(sum[c]));
    denominators_.push_back(static_cast<float>(sum[d_v]));
  }
}

KeyList PivotList::take() {
  auto pivots = std::make_shared<SyntheticKeys>();
  pivots->key = Tensor<float>({1, 1, count(), keys_.keys.cols});
  pivots->value = Tensor<float>({1, 1, count(), keys_.values.cols});
  for (int64_t j = 0; j < count(); ++j)
    std::copy_n(keys_.keys.row(rows_[static_cast<size_t>(j)]), keys_.keys.cols, pivots->key.matrix(0).row(j));
  std::copy(values_.begin(), values_.end(), pivots->value.data());
  pivots->member_begin.assign(static_cast<size_t>(count()) + 1, 0);
  KeyList list;
  list.order = RowOrder::run(0, count());
  list.log_weight = std::make_shared<const std::vector<float>>(std::move(log_weights_));
  list.signed_weights = std::make_shared<const SignedWeights>(
      SignedWeights{std::vector<float>(denominators_.size(), 1.0F), std::move(denominators_)});
  list.synthetic = std::move(pivots);
  list.stage = Stage::sample;
  return list;
}

}  // namespace hyperattn
