// Planning on the card against the host's primitives, bit for bit: what the card's threads compute is called
// here on the host, thread by thread (needs no GPU); and the card itself, where there is one.
#include "algorithms/engines/cuda/planning.h"

#include <bit>
#include <iostream>
#include <numeric>

#include "algorithms/kernels/instruction_set.h"
#include "algorithms/nodes/node_work.h"
#include "algorithms/primitives/beam.h"
#include "algorithms/primitives/column_masses.h"
#include "algorithms/primitives/covariance.h"
#include "algorithms/primitives/key_tree.h"
#include "algorithms/primitives/kmeans.h"
#include "algorithms/primitives/run_means.h"
#include "algorithms/primitives/sort_lsh.h"
#include "core/timing.h"
#include "tests/algorithms/engines/precision_checks.h"

namespace hyperattn::testing {
namespace {

using namespace hyperattn::cuda;

PlanningRows rows_of_view(MatrixView<const float> rows) {
  return {rows.data, rows.stride, rows.cols};
}

/// The kernels' functions, called for one thread after the other.
class HostCard final : public BoundProblem {
 public:
  HostCard(const AttentionProblem& problem, int lanes)
      : BoundProblem(problem, default_engine()), lanes_(lanes) {}

  [[nodiscard]] std::vector<double> squared_row_norms(MatrixView<const float> rows) const override {
    std::vector<double> norms(static_cast<size_t>(rows.rows));
    const NormArguments arguments{rows_of_view(rows), rows.rows, norms.data()};
    for (int64_t i = 0; i < rows.rows; ++i) norm_of_row(arguments, i);
    return norms;
  }

  [[nodiscard]] std::vector<uint32_t> best_centres(MatrixView<const float> rows,
                                                   MatrixView<const float> centres, float factor,
                                                   const std::vector<float>& bias) const override {
    std::vector<float> scaled;
    for (int64_t i = 0; i < centres.rows; ++i)
      for (int64_t c = 0; c < centres.cols; ++c) scaled.push_back(centres.row(i)[c] * factor);
    std::vector<uint32_t> best(static_cast<size_t>(rows.rows));
    const CentreArguments arguments{rows_of_view(rows), rows.rows,    scaled.data(),
                                    bias.data(),        centres.rows, best.data()};
    for (int64_t i = 0; i < rows.rows; ++i) best_of_row(arguments, i);
    return best;
  }

  [[nodiscard]] std::shared_ptr<SyntheticKeys> run_means(int64_t head, const KeyRuns& runs) const override {
    auto means = std::make_shared<SyntheticKeys>();
    means->key = means_of(shapes().keys_of(head), runs);
    means->value = means_of(shapes().values_of(head), runs);
    return means;
  }

  [[nodiscard]] ColumnMasses column_masses(int64_t head, const AttentionNode& node,
                                           const std::vector<int32_t>& key_ranks,
                                           const SampledQueries& queries) const override {
    MassArguments a;
    a.keys = rows_of_view(rows_between(shapes().keys_of(head), node.key_begin, node.key_end));
    a.count = node.key_count();
    a.queries = queries.count();
    a.chunk = kMassChunk;
    a.chunks = (a.count + kMassChunk - 1) / kMassChunk;
    const DenseMatrix<float> factors = queries.factors();
    a.factors = factors.values.data();
    std::vector<float> weights(static_cast<size_t>(a.count * a.queries));
    MassChunks chunks{
        a.queries, a.queries, std::vector<float>(static_cast<size_t>(a.chunks * a.queries)), {}};
    chunks.sum = chunks.maximum;
    a.weights = weights.data();
    a.maximum = chunks.maximum.data();
    a.sum = chunks.sum.data();
    for (int64_t key = 0; key < a.count; ++key)
      for (int64_t q = 0; q < a.queries; ++q) score_key(a, key, q);
    for (int64_t chunk = 0; chunk < a.chunks; ++chunk)
      for (int64_t q = 0; q < a.queries; ++q)
        lanes_ == 8 ? weigh_chunk<8>(a, chunk, q) : weigh_chunk<16>(a, chunk, q);
    ColumnMasses result;
    result.log2_sums = chunks.log2_sums();
    const std::vector<float> scales = chunks.factors(result.log2_sums);
    std::vector<float> mass(static_cast<size_t>(a.count));
    a.scales = scales.data();
    a.mass = mass.data();
    for (int64_t key = 0; key < a.count; ++key) mass_of_key(a, key);
    result.mass.resize(mass.size());
    for (size_t key = 0; key < mass.size(); ++key)
      result.mass[key_ranks.empty() ? key : static_cast<size_t>(key_ranks[key])] = mass[key];
    return result;
  }

  [[nodiscard]] KeyMoments key_moments(int64_t head, const AttentionNode& node) const override {
    return hyperattn::key_moments(Sums(shapes(), head, node));
  }
  [[nodiscard]] LinearValues missed_covariance(int64_t head, const AttentionNode& node,
                                               const SyntheticKeys& runs) const override {
    return hyperattn::missed_covariance(Sums(shapes(), head, node), node, runs);
  }

  [[nodiscard]] KeyTree balanced_key_tree(MatrixView<const float> keys, const AttentionNode& node,
                                          const std::vector<int64_t>& sizes) const override {
    KeyTree tree = positional_key_tree(node, sizes);
    std::vector<float> scratch(static_cast<size_t>(direction_scratch(keys.cols)));
    for (const HalvingRound& round : halving_rounds(node.key_count(), sizes)) {
      const auto segments = static_cast<int64_t>(round.sorted.size());
      std::vector<float> directions(static_cast<size_t>(segments * keys.cols));
      std::vector<uint64_t> places(tree.order.size());
      const HalvingArguments arguments{rows_of_view(keys),  tree.order.data(), round.begins.data(),
                                       round.sorted.data(), segments,          node.key_count(),
                                       directions.data(),   places.data()};
      if (lanes_ == 8)
        halve<8>(arguments, scratch);
      else
        halve<16>(arguments, scratch);
      std::vector<size_t> ranks(places.size());
      std::iota(ranks.begin(), ranks.end(), size_t{0});
      std::stable_sort(ranks.begin(), ranks.end(), [&](size_t a, size_t b) { return places[a] < places[b]; });
      std::vector<int32_t> order;
      for (const size_t rank : ranks) order.push_back(tree.order[rank]);
      tree.order = std::move(order);
    }
    return tree;
  }

  [[nodiscard]] std::vector<SegmentMeans> segment_means(int64_t head, const KeyTree& tree,
                                                        bool spreads) const override {
    KeyRuns runs = last_level_runs(tree);
    std::shared_ptr<SyntheticKeys> means = run_means(head, runs);
    if (!spreads) return segment_means_of(tree, std::move(runs), std::move(means), {});
    const KeyRuns all = runs;
    return segment_means_of(tree, std::move(runs), means, [&](int64_t segment, float* squares) {
      const int64_t d = shapes().head_dim();
      RunArguments arguments = run_arguments(shapes().keys_of(head), all, squares - segment * d);
      arguments.centre = means->key.data();
      for (int64_t c = 0; c < d; ++c) squares_of_run(arguments, segment, c);
    });
  }

  [[nodiscard]] BeamChoice choose_segments(const BeamRequest& request) const override {
    BeamChoice choice = room_for_choice(request);
    const int64_t rows = request.queries.rows;
    const std::vector<TreeLevel>& levels = request.tree->levels;
    const DenseMatrix<float> scaled = scaled_variances(request);
    std::vector<float> variance(static_cast<size_t>(scaled.rows * rows));
    const VarianceArguments wanted{rows_of_view(request.queries), rows, scaled.values.data(), scaled.rows,
                                   variance.data()};
    for (int64_t t = 0; t < scaled.rows; ++t)
      for (int64_t i = 0; i < rows; ++i) {
        variance_of_row(wanted, t, i);
        choice.variance[static_cast<size_t>(t)][static_cast<size_t>(i)] =
            variance[static_cast<size_t>(t * rows + i)];
      }
    const size_t first = first_level_of_choice(request);
    for (size_t t = first; t < levels.size(); ++t) {
      const SegmentMeans& means = (*request.means)[t];
      const MatrixView<const float> keys = means.means->key.matrix(0);
      std::vector<float> transposed(static_cast<size_t>(keys.rows * keys.cols));
      for (int64_t s = 0; s < keys.rows; ++s)
        for (int64_t c = 0; c < keys.cols; ++c)
          transposed[static_cast<size_t>(c * keys.rows + s)] = keys.row(s)[c];
      std::vector<float> roots;
      for (const float r : means.spread) roots.push_back(std::sqrt(r));
      BeamArguments a;
      a.queries = rows_of_view(request.queries);
      a.rows = rows;
      a.means = transposed.data();
      a.roots = roots.empty() ? nullptr : roots.data();
      a.count = levels[t].count();
      a.scale = request.scale;
      a.limit = gate_limit(levels[t]);
      a.variance = request.spread ? variance.data() + static_cast<int64_t>(t) * rows : nullptr;
      a.candidates = a.count;
      if (t > first) {
        a.above = choice.opened[t - 1].data();
        a.above_width = choice.width[t - 1];
        a.first_child = levels[t - 1].first_child.data();
        for (int64_t s = 0; s < levels[t - 1].count(); ++s)
          a.children = std::max(a.children, a.first_child[s + 1] - a.first_child[s]);
        a.candidates = a.above_width * a.children;
      }
      std::vector<float> gates(static_cast<size_t>(rows * a.candidates));
      a.gates = gates.data();
      a.keep = request.beams[t];
      a.budget = t + 1 == levels.size() ? request.key_budget : 0;
      a.begins = levels[t].begins.data();
      a.opened = choice.opened[t].data();
      a.width = choice.width[t];
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t place = 0; place < a.candidates; ++place) gate_candidate(a, i, place);
        open_largest(LoneThread(), a, i);
      }
    }
    return choice;
  }

 private:
  class Sums final : public KeySums {
   public:
    Sums(const AttentionProblem& problem, int64_t head, const AttentionNode& node)
        : parts_(node), keys_(problem.keys_of(head)), values_(problem.values_of(head)) {}

    [[nodiscard]] std::vector<float> mean(bool of_values) const override {
      const MatrixView<const float> rows = of_values ? values_ : keys_;
      std::vector<double> sums(static_cast<size_t>(parts_.count() * rows.cols));
      const PartSumArguments arguments{rows_of_view(rows), parts_.begin,   parts_.end,
                                       parts_.size,        parts_.count(), sums.data()};
      for (int64_t part = 0; part < parts_.count(); ++part)
        for (int64_t c = 0; c < rows.cols; ++c) sum_of_part(arguments, part, c);
      return mean_of_parts(parts_, sums);
    }
    [[nodiscard]] std::vector<float> squares(const std::vector<float>& centre) const override {
      std::vector<float> sums(centre.size());
      const ColumnSquareArguments arguments{rows_of_view(keys_),     parts_.begin,  parts_.end,
                                            KeyParts::kVarianceStep, centre.data(), sums.data()};
      for (int64_t c = 0; c < keys_.cols; ++c) squares_of_column(arguments, c);
      return sums;
    }
    [[nodiscard]] std::vector<float> covariance(bool with_values, const std::vector<float>& mean_key,
                                                const std::vector<float>& other_mean) const override {
      const MatrixView<const float> other = with_values ? values_ : keys_;
      std::vector<double> sums(static_cast<size_t>(parts_.count() * keys_.cols * other.cols));
      const CovarianceArguments arguments{
          rows_of_view(keys_), rows_of_view(other), mean_key.data(), other_mean.data(), parts_.begin,
          parts_.end,          parts_.size,         parts_.count(),  KeyParts::kChunk,  sums.data()};
      for (int64_t part = 0; part < parts_.count(); ++part)
        for (int64_t i = 0; i < keys_.cols; ++i)
          for (int64_t j = 0; j < other.cols; ++j) covariance_of_part(arguments, part, i, j);
      return mean_of_parts(parts_, sums);
    }

   private:
    KeyParts parts_;
    MatrixView<const float> keys_;
    MatrixView<const float> values_;
  };

  static RunArguments run_arguments(MatrixView<const float> rows, const KeyRuns& runs, float* target) {
    RunArguments arguments;
    arguments.rows = rows_of_view(rows);
    arguments.members = runs.members.data();
    arguments.begins = runs.begins.data();
    arguments.shares = runs.shares.data();
    arguments.runs = runs.count();
    arguments.target = target;
    return arguments;
  }
  static Tensor<float> means_of(MatrixView<const float> rows, const KeyRuns& runs) {
    Tensor<float> means({1, 1, runs.count(), rows.cols});
    const RunArguments arguments = run_arguments(rows, runs, means.data());
    for (int64_t run = 0; run < runs.count(); ++run)
      for (int64_t c = 0; c < rows.cols; ++c) mean_of_run(arguments, run, c);
    return means;
  }
  template <int Lanes>
  static void halve(const HalvingArguments& a, std::vector<float>& scratch) {
    for (int64_t segment = 0; segment < a.segments; ++segment)
      if (a.sorted[segment] != 0) find_direction<Lanes>(LoneThread(), a, segment, scratch.data());
    for (int64_t rank = 0; rank < a.count; ++rank) place_rank<Lanes>(a, rank);
  }

  int lanes_;
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [](T x, T y) { return std::memcmp(&x, &y, sizeof(T)) == 0; });
}
bool same_bits(const Tensor<float>& a, const Tensor<float>& b) {
  return a.shape() == b.shape() &&
         std::memcmp(a.data(), b.data(), static_cast<size_t>(a.shape().size()) * sizeof(float)) == 0;
}

AttentionNode node_of(const AttentionProblem& problem, int64_t key_begin, int64_t key_end) {
  AttentionNode node = whole_problem(problem.query_count(), problem.key_count());
  node.key_begin = key_begin;
  node.key_end = key_end;
  return node;
}

KeyRuns runs_of_members(int64_t keys, int64_t first, int64_t size) {
  KeyRuns runs;
  for (int64_t i = first; i < keys; ++i) runs.members.push_back(static_cast<int32_t>((i * 7) % keys));
  const auto members = static_cast<int64_t>(runs.members.size());
  for (int64_t begin = 0; begin < members; begin += size) runs.begins.push_back(begin);
  runs.begins.push_back(members);
  for (int64_t run = 0; run < runs.count(); ++run)
    for (int64_t i = 0; i < runs.size(run); ++i)
      runs.shares.push_back((1 + 0.1F * static_cast<float>(i % 3)) / static_cast<float>(runs.size(run)));
  return runs;
}

void compare_means(const BoundProblem& seen, const BoundProblem& expected, const AttentionProblem& problem) {
  for (int64_t head = 0; head < problem.key_heads(); ++head)
    CHECK(same_bits(seen.squared_row_norms(problem.value.matrix(head)),
                    expected.squared_row_norms(problem.value.matrix(head))));
  const int64_t last = problem.heads() - 1;
  const int64_t keys = problem.key_count();
  for (const int64_t size : {int64_t{1}, int64_t{3}, int64_t{16}, int64_t{65}, keys}) {
    const KeyRuns runs = runs_of_members(keys, keys / 3, size);
    INFO("runs of " << size);
    const auto own = seen.run_means(last, runs);
    const auto other = expected.run_means(last, runs);
    CHECK(same_bits(own->key, other->key));
    CHECK(same_bits(own->value, other->value));
  }
}

void compare_centres(const BoundProblem& seen, const BoundProblem& expected,
                     const AttentionProblem& problem) {
  const int64_t last = problem.heads() - 1;
  const MatrixView<const float> keys = problem.keys_of(last);
  for (const int64_t count : {1, 6, 33}) {
    const RandomStream stream(3, Purpose::centroid);
    const DenseMatrix<float> centres = seen.kmeans_centres(keys, count, stream);
    const DenseMatrix<float> other = expected.kmeans_centres(keys, count, stream);
    REQUIRE(centres.rows == other.rows);
    CHECK(same_bits(centres.values, other.values));
    const std::vector<float> bias = nearest_biases(other);
    INFO(count << " centres");
    CHECK(seen.best_centres(keys, other, 1, bias) == expected.best_centres(keys, other, 1, bias));
    const MatrixView<const float> queries = problem.query.matrix(last);
    CHECK(seen.best_centres(queries, other, 0.37F, bias) ==
          expected.best_centres(queries, other, 0.37F, bias));
  }
}

void compare_masses(const BoundProblem& seen, const BoundProblem& expected, const AttentionProblem& problem) {
  const int64_t last = problem.heads() - 1;
  const int64_t keys = problem.key_count();
  for (const AttentionNode& node : {node_of(problem, 0, keys), node_of(problem, keys / 2, keys)})
    for (const int64_t count : {int64_t{1}, int64_t{7}, kMassRows}) {
      std::vector<int32_t> names;
      for (int64_t i = 0; i < count; ++i)
        names.push_back(static_cast<int32_t>((i * 5) % problem.query_count()));
      std::vector<int32_t> ranks;  // the keys the other way round
      for (int64_t i = node.key_count(); i-- > 0;) ranks.push_back(static_cast<int32_t>(i));
      const DenseMatrix<float> rows = seen.gathered_rows(problem.query.matrix(last), names);
      CHECK(same_bits(rows.values, expected.gathered_rows(problem.query.matrix(last), names).values));
      // Scores far apart, too, whose weights fade to nothing.
      for (const float scale : {problem.scale, 20 * problem.scale, 1000 * problem.scale}) {
        const SampledQueries queries(rows, scale);
        INFO(count << " queries, keys from " << node.key_begin << ", scale " << scale);
        const ColumnMasses own = seen.column_masses(last, node, ranks, queries);
        const ColumnMasses other = expected.column_masses(last, node, ranks, queries);
        CHECK(same_bits(own.log2_sums, other.log2_sums));
        CHECK(same_bits(own.mass, other.mass));
      }
    }
}

void compare_covariances(const BoundProblem& seen, const BoundProblem& expected,
                         const AttentionProblem& problem) {
  const int64_t last = problem.heads() - 1;
  const int64_t keys = problem.key_count();
  for (const AttentionNode& node : {node_of(problem, 0, keys), node_of(problem, keys / 2, keys)}) {
    INFO("keys from " << node.key_begin);
    const KeyMoments own = seen.key_moments(last, node);
    const KeyMoments other = expected.key_moments(last, node);
    CHECK(same_bits(own.mean_key, other.mean_key));
    CHECK(same_bits(own.mean_value, other.mean_value));
    CHECK(same_bits(own.covariance, other.covariance));
    CHECK(same_bits(own.cross_covariance, other.cross_covariance));
    const auto means = expected.segment_means(last, positional_key_tree(node, {4}), false);
    const LinearValues missed = seen.missed_covariance(last, node, *means[0].means);
    const LinearValues wanted = expected.missed_covariance(last, node, *means[0].means);
    CHECK(same_bits(missed.variance, wanted.variance));
    CHECK(same_bits(missed.cross_covariance, wanted.cross_covariance));
  }
}

/// What rows open: beyond −1 nothing counts.
void compare_choices(const BeamChoice& seen, const BeamChoice& expected, int64_t rows) {
  REQUIRE(seen.width == expected.width);
  REQUIRE(seen.variance.size() == expected.variance.size());
  for (size_t t = 0; t < seen.variance.size(); ++t) CHECK(same_bits(seen.variance[t], expected.variance[t]));
  for (size_t t = 0; t < seen.width.size(); ++t) {
    int64_t differing = 0;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t c = 0; c < seen.width[t]; ++c) {
        if (seen.row(t, i)[c] != expected.row(t, i)[c]) ++differing;
        if (expected.row(t, i)[c] < 0) break;
      }
    INFO(differing << " choices of level " << t << " differ");
    CHECK(differing == 0);
  }
}

void compare_walk(const BoundProblem& seen, const BoundProblem& expected, const AttentionProblem& problem,
                  int64_t head, const KeyTree& tree, const std::vector<int64_t>& beams, int64_t budget) {
  for (const bool spreads : {true, false}) {
    const auto own = seen.segment_means(head, tree, spreads);
    const auto other = expected.segment_means(head, tree, spreads);
    REQUIRE(own.size() == other.size());
    for (size_t t = 0; t < own.size(); ++t) {
      INFO("level " << t);
      CHECK(same_bits(own[t].means->key, other[t].means->key));
      CHECK(same_bits(own[t].means->value, other[t].means->value));
      CHECK(same_bits(own[t].spread, other[t].spread));
      CHECK(same_bits(own[t].variance, other[t].variance));
    }
    const MatrixView<const float> queries = problem.query.matrix(head);
    BeamRequest request;
    request.queries = rows_between(queries, queries.rows / 5, queries.rows);
    request.scale = problem.scale;
    request.tree = &tree;
    request.means = &other;
    request.beams.assign(beams.end() - static_cast<std::ptrdiff_t>(tree.levels.size()), beams.end());
    request.spread = spreads;
    request.key_budget = budget;
    compare_choices(seen.choose_segments(request), expected.choose_segments(request), request.queries.rows);
  }
}

void compare_trees(const BoundProblem& seen, const BoundProblem& expected, const AttentionProblem& problem) {
  const int64_t head = problem.heads() - 1;
  const int64_t keys = problem.key_count();
  const std::vector<int64_t> all_sizes[] = {{128, 16}, {1024, 128, 16}, {12, 4, 1}, {5}};
  for (const std::vector<int64_t>& sizes : all_sizes)
    for (const AttentionNode& node : {node_of(problem, 0, keys), node_of(problem, keys / 3, keys)}) {
      INFO("sizes from " << sizes.front() << ", keys from " << node.key_begin);
      const KeyTree tree = seen.balanced_key_tree(problem.keys_of(head), node, sizes);
      const KeyTree other = expected.balanced_key_tree(problem.keys_of(head), node, sizes);
      REQUIRE(tree.order == other.order);
      REQUIRE(tree.levels.size() == other.levels.size());
      for (size_t t = 0; t < tree.levels.size(); ++t) {
        CHECK(tree.levels[t].begins == other.levels[t].begins);
        CHECK(tree.levels[t].first_child == other.levels[t].first_child);
      }
      compare_walk(seen, expected, problem, head, other, {2, 3, 5}, 0);
      compare_walk(seen, expected, problem, head, other, {8, 16, 16}, 0);
    }
  const RandomStream stream(5, Purpose::centroid);
  const KeyTree clusters =
      clustered_key_tree(expected, problem.keys_of(head), node_of(problem, 0, keys), 16, stream);
  const KeyTree own = clustered_key_tree(seen, problem.keys_of(head), node_of(problem, 0, keys), 16, stream);
  CHECK(own.order == clusters.order);
  CHECK(own.levels[0].begins == clusters.levels[0].begins);
  for (const int64_t budget : {1, 64, 300})
    compare_walk(seen, expected, problem, head, clusters, {4}, budget);
}

void compare_codes(const BoundProblem& seen, const BoundProblem& expected, const AttentionProblem& problem) {
  const int64_t last = problem.heads() - 1;
  const HashDirections directions(RandomStream(7, Purpose::hash), problem.head_dim(), 7);
  for (const MatrixView<const float> rows : {problem.query.matrix(last), problem.keys_of(last)})
    for (const BucketOrder order : {BucketOrder::gray, BucketOrder::reference})
      for (const bool centre : {false, true})
        CHECK(seen.bucket_codes(rows, directions, order, centre) ==
              expected.bucket_codes(rows, directions, order, centre));
}

void compare_primitives(const BoundProblem& seen, const BoundProblem& expected,
                        const AttentionProblem& problem) {
  compare_codes(seen, expected, problem);
  compare_means(seen, expected, problem);
  compare_centres(seen, expected, problem);
  compare_masses(seen, expected, problem);
  compare_covariances(seen, expected, problem);
  compare_trees(seen, expected, problem);
}

/// Some keys and queries are equal to others, so that products, gates and distances are, too.
void make_equal_rows(RandomProblem& p) {
  for (Tensor<float>* tensor : {&p.key, &p.query})
    for (int64_t head = 0; head < tensor->shape().matrices(); ++head)
      for (int64_t row = 3; row < tensor->shape().rows; row += 3)
        std::copy_n(tensor->matrix(head).row(row % 7), tensor->shape().dim, tensor->matrix(head).row(row));
}

const ProblemSize kPlanningSizes[] = {
    {70, 700, 64, 48, 1, 2}, {33, 1501, 20, 33, 2, 2, false, 1}, {40, 130, 3, 1}, {5, 19, 130, 7, 1, 2}};

TEST_CASE("cuda: what the card's threads compute has the bits of the host's primitives", "[planning]") {
  for (const std::string& name : usable_instruction_sets()) {
    const int lanes = name == "avx2" ? 8 : name == "avx512" ? 16 : 0;
    if (lanes == 0) continue;
    force_instruction_set(name);
    for (const std::string precision : {"bf16", "fp32"})
      for (const ProblemSize& size : kPlanningSizes)
        for (const bool ties : {false, true}) {
          RoundedProblem p(size, precision);
          if (ties) make_equal_rows(p);
          INFO(name << ", " << precision << ", " << to_string(size) << (ties ? ", ties" : ""));
          compare_primitives(HostCard(p.problem, lanes), *bound_of(p.problem), p.problem);
        }
    force_instruction_set("");
  }
}

TEST_CASE("cuda: methods plan with what the card's threads compute as with the host's primitives",
          "[planning]") {
  const std::string& own = instruction_set();
  const int lanes = own == "avx2" ? 8 : own.rfind("avx512", 0) == 0 || own == "amx" ? 16 : 0;
  if (lanes == 0) return;
  std::vector<Variant> all = variants();
  for (const char* order : {"position", "kmeans"})
    all.push_back({"tree",
                   {{"levels", IntegerList{8}},
                    {"beams", IntegerList{3}},
                    {"gate", std::string("mean")},
                    {"order", std::string(order)}}});
  for (const ProblemSize& size :
       {ProblemSize{130, 151, 20, 12, 1, 2}, ProblemSize{170, 170, 33, 16, 1, 2, true, 1}}) {
    const RoundedProblem p(size, "bf16");
    const HostCard card(p.problem, lanes);
    for (const Variant& variant : all) {
      const Backend& backend = backend_named(variant.backend);
      const Call call = call_for(variant.backend, variant.settings);
      if (!backend.check(p.problem, call.parameters).empty()) continue;
      INFO(to_string(variant) << ", " << to_string(size));
      const DoubleResult seen = run_plan_in_double(p.problem, *backend.method().plan(card, call).plan);
      const DoubleResult host =
          run_plan_in_double(p.problem, *backend.method().plan(*bound_of(p.problem), call).plan);
      CHECK(largest_difference(seen.out, host.out) == 0);
      CHECK(largest_difference(seen.lse, host.lse) == 0);
    }
  }
}

bool skipped(const Engine& engine) {
  if (engine.available().empty()) return false;
  std::cout << "SKIPPED: engine cuda " << engine.available() << "\n";
  return true;
}

TEST_CASE("cuda: primitives of planning on the card have the bits of the host's", "[cuda][planning]") {
  const Engine& engine = *find_engine("cuda");
  if (skipped(engine)) return;
  for (const ProblemSize& size : kPlanningSizes) SECTION(to_string(size)) {
      for (const std::string precision : {"bf16", "fp16", "fp32"})
        for (const bool ties : {false, true}) {
          RoundedProblem p(size, precision);
          if (ties) make_equal_rows(p);
          INFO(precision << (ties ? ", ties" : ""));
          compare_primitives(*bound_in(precision, p.problem, engine), *bound_of(p.problem), p.problem);
        }
    }
}

/// Seconds of body() the second time.
template <class Body>
double seconds_of(const Body& body) {
  body();
  const Stopwatch watch;
  body();
  return watch.seconds();
}

TEST_CASE("cuda: speed of planning a tree on the card and on the host", "[.speed]") {
  const Engine& engine = *find_engine("cuda");
  if (skipped(engine)) return;
  const RoundedProblem p({131072, 131072, 64, 64}, "bf16");
  const AttentionNode node = node_of(p.problem, 0, p.problem.key_count());
  const auto card = bound_in("bf16", p.problem, engine);
  const auto host = bound_of(p.problem);
  KeyTree trees[2];
  BeamChoice choices[2];
  for (const bool on_card : {true, false}) {
    const BoundProblem& bound = on_card ? *card : *host;
    KeyTree& tree = trees[on_card ? 1 : 0];
    std::vector<SegmentMeans> means;
    std::cout << (on_card ? "card" : "host") << ", n 131072, d 64: order " << seconds_of([&] {
      tree = bound.balanced_key_tree(p.problem.keys_of(0), node, {1024, 128, 16});
    }) << " s, means "
              << seconds_of([&] { means = bound.segment_means(0, tree, true); }) << " s, choice "
              << seconds_of([&] {
                   BeamRequest request;
                   request.queries = p.problem.query.matrix(0);
                   request.scale = p.problem.scale;
                   request.tree = &tree;
                   request.means = &means;
                   request.beams = {8, 16, 16};
                   choices[on_card ? 1 : 0] = bound.choose_segments(request);
                 })
              << " s, covariance "
              << seconds_of([&] { static_cast<void>(bound.missed_covariance(0, node, *means.back().means)); })
              << " s" << std::endl;
  }
  CHECK((trees[0].order == trees[1].order));
  compare_choices(choices[1], choices[0], p.problem.query_count());
}

}  // namespace
}  // namespace hyperattn::testing
