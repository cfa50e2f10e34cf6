// Queries and keys around shared cluster centres: each query's softmax mass lies on the keys of its own
// cluster, few of all, which is the case that sorted LSH is made for.
#include <cmath>

#include "core/eigen.h"
#include "experiments/inputs/described_source.h"
#include "experiments/inputs/generators.h"

namespace hyperattn {
namespace {

ParameterSpec size_of(const char* name, double by_default, const char* meaning) {
  return number_parameter(name, meaning).between(0, 1e3).by_default(by_default);
}

/// The centres of one head of the keys, on a sphere around the origin whose radius gives two rows at one
/// centre the wanted score.
RowMajorMatrix<double> draw_centres(const Draw& draw, int64_t head, int64_t clusters, int64_t dim,
                                    double score) {
  const RandomStream stream = draw.stream(Purpose::cluster, head);
  const double radius = std::sqrt(score * std::sqrt(static_cast<double>(dim)));
  RowMajorMatrix<double> centres(clusters, dim);
  for (int64_t c = 0; c < clusters; ++c) {
    for (int64_t j = 0; j < dim; ++j) centres(c, j) = stream.normal(static_cast<uint64_t>(c * dim + j));
    centres.row(c) *= radius / centres.row(c).norm();
  }
  return centres;
}

SourceDescription description() {
  return {
      "clustered",
      "Q and K around shared random centres, normal V: a query's softmax mass lies on its own cluster's keys",
      shape_parameters(
          {integer_parameter(
               "clusters",
               "number of centres in each head of the keys; a query's heavy keys are about key_len/clusters")
               .between(1, 1 << 20)
               .by_default(32),
           size_of("cluster_score", 8,
                   "scaled score, at scale 1/sqrt(head_dim), of two rows at the same centre"),
           size_of("cluster_spread", 0.3,
                   "norm of the noise around a centre, relative to the centre's norm")})};
}

class Clustered final : public DescribedSource {
 public:
  Clustered() : DescribedSource(description()) {}

  [[nodiscard]] InputShapes shapes(const Parameters& parameters) const override {
    return generated_shapes(parameters);
  }

  [[nodiscard]] AttentionInputs make(const Parameters& parameters, uint64_t seed,
                                     uint32_t trial) const override {
    const Draw draw{seed, trial};
    AttentionInputs inputs = normal_inputs(shapes(parameters), draw);
    std::vector<RowMajorMatrix<double>> centres;
    for (int64_t head = 0; head < inputs.key.shape().matrices(); ++head)
      centres.push_back(draw_centres(draw, head, parameters.integer("clusters"), inputs.query.shape().dim,
                                     parameters.number("cluster_score")));
    move_to_clusters(parameters, draw, centres, inputs);
    return inputs;
  }

 private:
  static constexpr uint32_t kKeyNode = 1;
  static constexpr uint32_t kQueryNode = 2;

  static void move_to_clusters(const Parameters& parameters, const Draw& draw,
                               const std::vector<RowMajorMatrix<double>>& centres, AttentionInputs& inputs) {
    const auto clusters = static_cast<uint64_t>(parameters.integer("clusters"));
    const auto keys = static_cast<uint64_t>(inputs.key.shape().rows);
    const auto dim = static_cast<double>(inputs.key.shape().dim);
    // The noise has norm cluster_spread times the centre's norm.
    const double noise =
        parameters.number("cluster_spread") * std::sqrt(parameters.number("cluster_score") / std::sqrt(dim));
    const auto cluster_of_key = [&](int64_t head, uint64_t row) {
      const RandomStream stream(draw.seed, Purpose::cluster, draw.trial, static_cast<uint32_t>(head),
                                kKeyNode);
      return static_cast<int64_t>(stream.below(row, clusters));
    };
    const auto place = [&](Tensor<float>& tensor, int64_t head, int64_t row, int64_t key_head,
                           int64_t cluster) {
      float* values = tensor.matrix(head).row(row);
      const auto& centre = centres[static_cast<size_t>(key_head)];
      for (int64_t j = 0; j < tensor.shape().dim; ++j)
        values[j] = static_cast<float>(centre(cluster, j) + noise * static_cast<double>(values[j]));
    };
    for_each_row(inputs.key.shape(), [&](int64_t head, int64_t row) {
      place(inputs.key, head, row, head, cluster_of_key(head, static_cast<uint64_t>(row)));
    });
    // A query joins the cluster of a random key, so that no query is alone in its cluster.
    for_each_row(inputs.query.shape(), [&](int64_t head, int64_t row) {
      const RandomStream stream(draw.seed, Purpose::cluster, draw.trial, static_cast<uint32_t>(head),
                                kQueryNode);
      const int64_t key_head = inputs.key_head(head);
      place(inputs.query, head, row, key_head,
            cluster_of_key(key_head, stream.below(static_cast<uint64_t>(row), keys)));
    });
  }
};

}  // namespace

const InputSource& clustered_source() {
  static const Clustered source;
  return source;
}

}  // namespace hyperattn
