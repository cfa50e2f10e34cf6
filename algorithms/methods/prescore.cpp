#include "algorithms/methods/prescore.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "algorithms/engine.h"
#include "algorithms/nodes/node_work.h"
#include "algorithms/primitives/kmeans.h"
#include "algorithms/residuals/columns.h"
#include "core/matrix_algebra.h"

namespace hyperattn {
namespace {

// λ over the mean eigenvalue of KᵀK.
constexpr double kRidge = 1e-3;

constexpr int64_t kMostCentres = 256;
constexpr int64_t kKeysPerCentre = 4;  // kept keys

// Rows of a parallel step.
constexpr int64_t kChunk = 2048;

int64_t chunks_of(int64_t rows) {
  return (rows + kChunk - 1) / kChunk;
}

DenseMatrix<double> chunk_of(MatrixView<const float> keys, int64_t chunk) {
  const int64_t begin = chunk * kChunk;
  DenseMatrix<double> rows(std::min(kChunk, keys.rows - begin), keys.cols);
  for (int64_t i = 0; i < rows.rows; ++i) std::copy_n(keys.row(begin + i), keys.cols, rows.row(i));
  return rows;
}

double trace(const DenseMatrix<double>& square) {
  double sum = 0;
  for (int64_t i = 0; i < square.rows; ++i) sum += square(i, i);
  return sum;
}

std::vector<float> leverage_scores(MatrixView<const float> keys) {
  const int64_t chunks = chunks_of(keys.rows);
  std::vector<DenseMatrix<double>> parts(static_cast<size_t>(chunks));
  parallel_for(chunks, [&](int64_t chunk, int) {
    const DenseMatrix<double> rows = chunk_of(keys, chunk);
    DenseMatrix<double> part(keys.cols, keys.cols);
    transposed_multiply(rows, rows, part.view());
    parts[static_cast<size_t>(chunk)] = std::move(part);
  });
  DenseMatrix<double> gram(keys.cols, keys.cols);
  for (const DenseMatrix<double>& part : parts)
    for (size_t i = 0; i < part.values.size(); ++i) gram.values[i] += part.values[i];
  const double size = trace(gram);
  std::vector<float> scores(static_cast<size_t>(keys.rows), 0.0F);
  if (size <= 0) return scores;  // all keys are zero: none stands out
  for (int64_t c = 0; c < keys.cols; ++c) gram(c, c) += kRidge * size / static_cast<double>(keys.cols);
  const DenseMatrix<double> factor = cholesky(gram);
  parallel_for(chunks, [&](int64_t chunk, int) {
    DenseMatrix<double> rows = chunk_of(keys, chunk);
    solve_upper(factor, rows.view());
    const std::vector<double> own = squared_norms(rows);
    std::copy(own.begin(), own.end(), scores.begin() + chunk * kChunk);
  });
  return scores;
}

/// Distance to the own centre over the sum of its cluster's; where that is 0, an equal share.
std::vector<float> distance_shares(const BoundProblem& bound, MatrixView<const float> keys, int64_t centres,
                                   const RandomStream& stream) {
  const DenseMatrix<float> found = bound.kmeans_centres(keys, centres, stream);
  const std::vector<uint32_t> own = bound.best_centres(keys, found, 1.0F, nearest_biases(found));
  std::vector<double> distance(own.size());
  parallel_for(chunks_of(keys.rows), [&](int64_t chunk, int) {
    for (int64_t j = chunk * kChunk; j < std::min(keys.rows, (chunk + 1) * kChunk); ++j) {
      const MatrixView<const float> all = found;
      const float* centre = all.row(own[static_cast<size_t>(j)]);
      double sum = 0;
      for (int64_t c = 0; c < keys.cols; ++c)
        sum += std::pow(static_cast<double>(keys.row(j)[c]) - static_cast<double>(centre[c]), 2);
      distance[static_cast<size_t>(j)] = std::sqrt(sum);
    }
  });
  std::vector<double> total(static_cast<size_t>(found.rows), 0);
  std::vector<int64_t> size(total.size(), 0);
  for (size_t j = 0; j < own.size(); ++j) {
    total[own[j]] += distance[j];
    ++size[own[j]];
  }
  std::vector<float> shares(own.size());
  for (size_t j = 0; j < own.size(); ++j)
    shares[j] = static_cast<float>(total[own[j]] > 0 ? distance[j] / total[own[j]]
                                                     : 1 / static_cast<double>(size[own[j]]));
  return shares;
}

/// Rows of a problem's tensor, copied for every head of queries.
Tensor<float> gathered(const AttentionProblem& problem, bool keys,
                       const std::vector<std::vector<int32_t>>& rows) {
  const TensorShape& source = keys ? problem.key.shape : problem.value.shape;
  const TensorShape& heads = problem.query.shape;
  Tensor<float> copy({heads.batch, heads.heads, static_cast<int64_t>(rows.front().size()), source.dim});
  parallel_for(problem.heads(), [&](int64_t head, int) {
    const MatrixView<const float> from = keys ? problem.keys_of(head) : problem.values_of(head);
    const std::vector<int32_t>& own = rows[static_cast<size_t>(head)];
    for (size_t j = 0; j < own.size(); ++j)
      std::copy_n(from.row(own[j]), source.dim, copy.matrix(head).row(static_cast<int64_t>(j)));
  });
  return copy;
}

std::shared_ptr<const SyntheticKeys> with_members(const SyntheticKeys& keys, RowOrder members) {
  auto copy = std::make_shared<SyntheticKeys>();
  copy->key = Tensor<float>(keys.key.shape());
  copy->value = Tensor<float>(keys.value.shape());
  std::copy_n(keys.key.data(), keys.key.shape().size(), copy->key.data());
  std::copy_n(keys.value.data(), keys.value.shape().size(), copy->value.data());
  copy->member_order = std::move(members);
  copy->member_begin = keys.member_begin;
  copy->member_share = keys.member_share;
  return copy;
}

}  // namespace

std::vector<ParameterSpec> prescore_parameters() {
  ParameterSpec kind = choice_parameter("prescore", {"none", "leverage", "kmeans_distance", "kmeans_centre"},
                                        "keys that are kept before anything is planned, by their own scores");
  kind.choice_meanings = {"all", "largest leverage", "farthest from their k-means centres",
                          "nearest to them"};
  return {kind, integer_parameter("prescore_keys", "keys that are kept of a head or causal node")
                    .between(1, std::numeric_limits<int32_t>::max())
                    .by_default(int64_t{4096})
                    .not_with("prescore", {"none"})};
}

bool is_prescored(const Parameters& parameters) {
  return parameters.has("prescore") && parameters.text("prescore") != "none";
}

std::vector<float> key_scores(const BoundProblem& bound, const HeadNode& place, const std::string& kind,
                              int64_t kept, const RandomStream& stream) {
  const MatrixView<const float> keys =
      rows_between(bound.problem().keys_of(place.head), place.node.key_begin, place.node.key_end);
  if (kind == "leverage") return leverage_scores(keys);
  std::vector<float> scores =
      distance_shares(bound, keys, std::clamp<int64_t>(kept / kKeysPerCentre, 1, kMostCentres), stream);
  if (kind == "kmeans_centre")
    for (float& score : scores) score = std::exp(-score);
  return scores;
}

KeptKeys::KeptKeys(const BoundProblem& bound, const Call& call, const std::vector<HeadNode>& nodes)
    : whole_(bound.problem()),
      whole_nodes_(nodes),
      nodes_(nodes),
      rows_(static_cast<size_t>(whole_.heads())) {
  const std::string& kind = call.parameters.text("prescore");
  const int64_t most = call.parameters.integer("prescore_keys");
  std::vector<std::vector<int32_t>> kept(nodes.size());
  for_each_node(nodes, [&](size_t i) {
    const AttentionNode& node = nodes[i].node;
    const int64_t count = std::min(most, node.key_count());
    kept[i].resize(static_cast<size_t>(count));
    std::iota(kept[i].begin(), kept[i].end(), 0);
    if (count < node.key_count())
      kept[i] = largest_places(
          key_scores(bound, nodes[i], kind, count, node_stream(call, Purpose::prescore, nodes[i])), count);
    for (int32_t& key : kept[i]) key += static_cast<int32_t>(node.key_begin);
  });
  for (size_t i = 0; i < nodes.size(); ++i) {
    std::vector<int32_t>& rows = rows_[static_cast<size_t>(nodes[i].head)];
    nodes_[i].node.key_begin = static_cast<int64_t>(rows.size());
    rows.insert(rows.end(), kept[i].begin(), kept[i].end());
    nodes_[i].node.key_end = static_cast<int64_t>(rows.size());
  }
  key_ = gathered(whole_, true, rows_);
  value_ = gathered(whole_, false, rows_);
  AttentionProblem problem = whole_;
  problem.causal = false;  // nodes are rectangles, and places among the kept keys say nothing of time
  problem.key = std::as_const(key_).view();
  problem.value = std::as_const(value_).view();
  bound_ = bound.engine().bind(problem, call.parameters);
}

RowOrder KeptKeys::renamed_rows(size_t head, const RowOrder& order) const {
  std::vector<int32_t> rows;
  rows.reserve(static_cast<size_t>(order.count));
  for (int64_t i = 0; i < order.count; ++i) rows.push_back(rows_[head][static_cast<size_t>(order[i])]);
  return RowOrder::list(std::move(rows));
}

Pass KeptKeys::renamed(size_t i, Pass pass) const {
  const auto head = static_cast<size_t>(nodes_[i].head);
  pass.key_head = whole_.key_head(pass.head);
  std::map<const SyntheticKeys*, std::shared_ptr<const SyntheticKeys>> synthetic;
  for (KeyList& list : pass.lists) {
    if (!list.synthetic) {
      list.order = renamed_rows(head, list.order);
      continue;
    }
    std::shared_ptr<const SyntheticKeys>& own = synthetic[list.synthetic.get()];
    if (!own) own = with_members(*list.synthetic, renamed_rows(head, list.synthetic->member_order));
    list.synthetic = own;
  }
  return pass;
}

NodeMask KeptKeys::renamed(size_t i, NodeMask mask) const {
  const AttentionNode& node = whole_nodes_[i].node;
  std::vector<int32_t> rows = *renamed_rows(static_cast<size_t>(nodes_[i].head), mask.keys).rows;
  mask.key_ranks.assign(static_cast<size_t>(node.key_count()), -1);
  for (size_t rank = 0; rank < rows.size(); ++rank)
    mask.key_ranks[static_cast<size_t>(rows[rank] - node.key_begin)] = static_cast<int32_t>(rank);
  for (int64_t key = 0; key < node.key_count(); ++key)
    if (int32_t& rank = mask.key_ranks[static_cast<size_t>(key)]; rank < 0) {
      rank = static_cast<int32_t>(rows.size());
      rows.push_back(static_cast<int32_t>(node.key_begin + key));
    }
  mask.keys = RowOrder::list(std::move(rows));
  for (NodeMask& further : mask.further) further = renamed(i, std::move(further));
  return mask;
}

}  // namespace hyperattn
