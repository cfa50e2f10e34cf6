#include "algorithms/engines/dense/dense.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "algorithms/methods/described_backend.h"
#include "core/eigen.h"
#include "core/parallel.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

constexpr int64_t kTileBytes = 16 << 20;  // of scores, for each thread
constexpr int64_t kMinTileRows = 32;      // fewer would starve the matrix product
constexpr int64_t kMaxTileRows = 256;

int64_t tile_rows(int64_t query_count, int64_t key_count) {
  const int64_t fitting = kTileBytes / static_cast<int64_t>(sizeof(float)) / key_count;
  return std::min(query_count, std::clamp(fitting, kMinTileRows, kMaxTileRows));
}

// Query rows [begin, end) of one head against the keys that the last of them sees.
struct Tile {
  int64_t head = 0;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t keys = 0;
};

std::vector<Tile> tiles_of(const AttentionProblem& problem) {
  const int64_t step = tile_rows(problem.query_count(), problem.key_count());
  std::vector<Tile> tiles;
  for (int64_t head = 0; head < problem.heads(); ++head)
    for (int64_t begin = 0; begin < problem.query_count(); begin += step) {
      const int64_t end = std::min(begin + step, problem.query_count());
      tiles.push_back({head, begin, end, problem.causal ? end : problem.key_count()});
    }
  // Causal tiles grow with their rows: the long ones first, so that no thread is left alone with one.
  if (problem.causal)
    std::stable_sort(tiles.begin(), tiles.end(),
                     [](const Tile& a, const Tile& b) { return a.keys > b.keys; });
  return tiles;
}

// Turns row `row` of scores into softmax weights and returns its log-sum-exp.
float softmax_row(Eigen::Ref<Eigen::RowVectorXf> scores) {
  const float maximum = scores.maxCoeff();
  scores = (scores.array() - maximum).exp();
  const double sum = scores.cast<double>().sum();
  scores *= static_cast<float>(1.0 / sum);
  return static_cast<float>(maximum + std::log(sum));
}

void run_tile(const AttentionProblem& problem, const Tile& tile, Buffer<float>& memory,
              AttentionResult& result) {
  const int64_t rows = tile.end - tile.begin;
  Eigen::Map<RowMajorMatrix<float>> scores(memory.data(), rows, tile.keys);
  const auto query = as_eigen(problem.query.matrix(tile.head)).middleRows(tile.begin, rows);
  const auto key = as_eigen(problem.key.matrix(tile.head)).topRows(tile.keys);
  const auto value = as_eigen(problem.value.matrix(tile.head)).topRows(tile.keys);
  scores.noalias() = (problem.scale * query) * key.transpose();
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t visible = problem.causal ? tile.begin + i + 1 : tile.keys;
    scores.row(i).tail(tile.keys - visible).setZero();
    result.lse.matrix(tile.head).row(tile.begin + i)[0] = softmax_row(scores.row(i).head(visible));
  }
  as_eigen(result.out.matrix(tile.head)).middleRows(tile.begin, rows).noalias() = scores * value;
}

BackendDescription description() {
  BackendDescription text;
  text.name = "dense";
  text.meaning = "exact attention as unfused matrix products on tiles of query rows (fp32, Eigen)";
  text.capabilities.causal = text.capabilities.unequal_lengths = true;
  return text;
}

class DenseBackend final : public DescribedBackend {
 public:
  DenseBackend() : DescribedBackend(description()) {}

  [[nodiscard]] double estimated_entries(const TensorShape& query, const TensorShape& key, bool causal,
                                         const Parameters&) const override {
    return exact_entries(query, key, causal);
  }

  [[nodiscard]] double estimated_bytes(const TensorShape& query, const TensorShape& key, const TensorShape&,
                                       const Parameters&) const override {
    return static_cast<double>(sizeof(float)) * thread_count() *
           static_cast<double>(tile_rows(query.rows, key.rows)) * static_cast<double>(key.rows);
  }

  [[nodiscard]] ForwardState forward(const AttentionProblem& problem, const CallContext&) const override {
    const Stopwatch watch;
    TensorShape shape = problem.query.shape;
    ForwardState state;
    shape.dim = problem.value_dim();
    state.result.out = Tensor<float>(shape);
    shape.dim = 1;
    state.result.lse = Tensor<float>(shape);
    const std::vector<Tile> tiles = tiles_of(problem);
    const int64_t tile_size = tile_rows(problem.query_count(), problem.key_count()) * problem.key_count();
    std::vector<Buffer<float>> memory(static_cast<size_t>(thread_count()));
    parallel_for(static_cast<int64_t>(tiles.size()), [&](int64_t index, int worker) {
      Buffer<float>& scores = memory[static_cast<size_t>(worker)];
      if (scores.empty()) scores = Buffer<float>(tile_size);
      run_tile(problem, tiles[static_cast<size_t>(index)], scores, state.result);
    });
    Diagnostics& diagnostics = state.result.diagnostics;
    diagnostics.entries =
        static_cast<int64_t>(exact_entries(problem.query.shape, problem.key.shape, problem.causal));
    diagnostics.clipped_share = diagnostics.floored_share = std::numeric_limits<double>::quiet_NaN();
    diagnostics.stage_seconds[stage_name(Stage::exact)] = watch.seconds();
    return state;
  }
};

}  // namespace

const Backend& dense_backend() {
  static const DenseBackend backend;
  return backend;
}

}  // namespace hyperattn
