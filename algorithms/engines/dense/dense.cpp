// Unfused attention: score tile, softmax, value product as three separate Eigen steps. It is what one writes
// in an afternoon, and keeps the fused engine honest as a baseline. Memory is (rows of a tile) · n_k for each
// thread, never n_q · n_k.
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "algorithms/engine.h"
#include "core/eigen.h"
#include "core/error.h"
#include "core/matrix_algebra.h"
#include "core/parallel.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

// Of scores, for each thread. 1024 queries on 65536 keys took 735 ms with these 64 rows; 694 ms with 64 MiB,
// which is much memory for so little, and 777 to 786 ms with 32 rows (d = 64, Zen 4, one thread).
constexpr int64_t kTileBytes = 16 << 20;
constexpr int64_t kMinTileRows = 32;  // fewer would starve the matrix product
// n = 8192 took 676 ms, with 512 rows 682, with 128 rows 681, with 64 rows 691 and with 32 rows 715 ms; at
// n = 4096 128 to 512 rows took the same within 1 % (d = 64, Zen 4, one thread).
constexpr int64_t kMaxTileRows = 256;

int64_t tile_rows(int64_t query_count, int64_t key_count) {
  const int64_t fitting = kTileBytes / static_cast<int64_t>(sizeof(float)) / key_count;
  return std::min(query_count, std::clamp(fitting, kMinTileRows, kMaxTileRows));
}

// Query rows [begin, end) of one head against the keys that any of them sees.
struct Tile {
  int64_t head = 0;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t first_key = 0;
  int64_t last_key = 0;

  [[nodiscard]] int64_t keys() const { return last_key - first_key; }
};

// The keys [first, last) that a row sees.
int64_t first_key(const AttentionProblem& problem, int64_t row) {
  if (problem.window == 0) return 0;
  return std::max<int64_t>(row + problem.causal_offset() + 1 - problem.window, 0);
}
int64_t last_key(const AttentionProblem& problem, int64_t row) {
  if (!problem.causal) return problem.key_count();
  return std::max<int64_t>(row + problem.causal_offset() + 1, 0);
}

std::vector<Tile> tiles_of(const AttentionProblem& problem) {
  const int64_t step = tile_rows(problem.query_count(), problem.key_count());
  std::vector<Tile> tiles;
  for (int64_t head = 0; head < problem.heads(); ++head)
    for (int64_t begin = 0; begin < problem.query_count(); begin += step) {
      const int64_t end = std::min(begin + step, problem.query_count());
      tiles.push_back({head, begin, end, first_key(problem, begin), last_key(problem, end - 1)});
    }
  // Causal tiles grow with their rows: the long ones first, so that no thread is left alone with one.
  if (problem.causal)
    std::stable_sort(tiles.begin(), tiles.end(),
                     [](const Tile& a, const Tile& b) { return a.keys() > b.keys(); });
  return tiles;
}

// Turns a row of scores into softmax weights and notes its denominator; a row without keys gives 0.
void softmax_row(Eigen::Ref<Eigen::RowVectorXf> scores, int64_t row, AttentionResult& result) {
  if (scores.size() == 0) {
    result.lse.data()[row] = -std::numeric_limits<float>::infinity();
    result.sums.maximum.data()[row] = 0;
    result.sums.sum.data()[row] = 0;
    return;
  }
  const float maximum = scores.maxCoeff();
  scores = (scores.array() - maximum).exp();
  const double sum = scores.cast<double>().sum();
  scores *= static_cast<float>(1.0 / sum);
  result.lse.data()[row] = static_cast<float>(maximum + std::log(sum));
  const double log2_sum = std::numbers::log2e * static_cast<double>(maximum);
  result.sums.maximum.data()[row] = static_cast<float>(log2_sum);
  result.sums.sum.data()[row] =
      sum * std::exp2(log2_sum - static_cast<double>(result.sums.maximum.data()[row]));
}

void run_tile(const AttentionProblem& problem, const Tile& tile, Buffer<float>& memory,
              AttentionResult& result) {
  const int64_t rows = tile.end - tile.begin;
  Eigen::Map<RowMajorMatrix<float>> scores(memory.data(), rows, tile.keys());
  const MatrixView<float> plain_scores = {memory.data(), rows, tile.keys(), tile.keys()};
  multiply_transposed(rows_between(problem.query.matrix(tile.head), tile.begin, tile.end),
                      rows_between(problem.keys_of(tile.head), tile.first_key, tile.last_key), plain_scores,
                      problem.scale);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = tile.begin + i;
    const int64_t first = first_key(problem, row) - tile.first_key;
    const int64_t seen = last_key(problem, row) - tile.first_key - first;
    scores.row(i).head(first).setZero();
    scores.row(i).tail(tile.keys() - first - seen).setZero();
    softmax_row(scores.row(i).segment(first, seen), tile.head * problem.query_count() + row, result);
  }
  multiply(plain_scores, rows_between(problem.values_of(tile.head), tile.first_key, tile.last_key),
           rows_between(result.out.matrix(tile.head), tile.begin, tile.end));
}

class DenseEngine final : public DescribedEngine {
 public:
  DenseEngine()
      : DescribedEngine({"dense",
                         "unfused matrix products on tiles of query rows (fp32, Eigen); exact attention only",
                         {}}) {}

  [[nodiscard]] bool names_exact() const override { return true; }
  [[nodiscard]] std::string only_exact() const override { return "runs exact attention only"; }
  [[nodiscard]] std::string no_gradient() const override { return "has no backward pass"; }

  [[nodiscard]] double estimated_bytes(const AttentionProblem& shapes,
                                       const Parameters& /*parameters*/) const override {
    return static_cast<double>(sizeof(float)) * thread_count() *
           static_cast<double>(tile_rows(shapes.query_count(), shapes.key_count())) *
           static_cast<double>(shapes.key_count());
  }

  [[nodiscard]] AttentionResult forward(const BoundProblem& bound, const Plan& plan,
                                        const EngineOptions& options) const override {
    const AttentionProblem& problem = bound.problem();
    if (!is_exact_plan(problem, plan) || options.denominators != nullptr || options.score_cap != nullptr)
      fail_usage("engine 'dense' " + only_exact());
    const Stopwatch watch;
    TensorShape shape = problem.query.shape;
    AttentionResult result;
    shape.dim = problem.value_dim();
    result.out = Tensor<float>(shape);
    shape.dim = 1;
    result.lse = Tensor<float>(shape);
    result.sums.maximum = Tensor<float>(shape);
    result.sums.sum = Tensor<double>(shape);
    const std::vector<Tile> tiles = tiles_of(problem);
    const int64_t tile_size = tile_rows(problem.query_count(), problem.key_count()) * problem.key_count();
    std::vector<Buffer<float>> memory(static_cast<size_t>(thread_count()));
    parallel_for(static_cast<int64_t>(tiles.size()), [&](int64_t index, int worker) {
      Buffer<float>& scores = memory[static_cast<size_t>(worker)];
      if (scores.empty()) scores = Buffer<float>(tile_size);
      run_tile(problem, tiles[static_cast<size_t>(index)], scores, result);
    });
    result.diagnostics.entries = count_entries(plan);
    result.diagnostics.stage_seconds[stage_name(Stage::exact)] = watch.seconds();
    return result;
  }

  [[nodiscard]] AttentionGradients backward(const BoundProblem&, const Plan&, const AttentionResult&,
                                            TensorView<const float>) const override {
    fail_usage("engine 'dense' " + no_gradient());
  }
  [[nodiscard]] Tensor<float> transposed(const BoundProblem&, const Plan&, const RowSums&,
                                         TensorView<const float>) const override {
    fail_usage("engine 'dense' " + only_exact());
  }
};

}  // namespace

const Engine& engine_dense() {
  static const DenseEngine engine;
  return engine;
}

}  // namespace hyperattn
