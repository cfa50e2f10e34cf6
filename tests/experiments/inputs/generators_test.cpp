// The generating input sources: gaussian, clustered, conditioned.
#include <Eigen/Core>
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/eigen.h"
#include "core/error.h"
#include "core/parallel.h"
#include "experiments/inputs/input_source.h"
#include "tests/singular_values.h"

namespace hyperattn {
namespace {

Parameters parameters_of(const InputSource& source,
                         const std::vector<std::pair<std::string, ParameterValue>>& values) {
  Parameters parameters = default_parameters(source.parameters());
  for (const auto& [name, value] : values) parameters.set(name, value);
  return parameters;
}

const InputSource& source_of(const std::string& name) {
  const InputSource* source = find_input_source(name);
  REQUIRE(source != nullptr);
  return *source;
}

bool same_bits(const Tensor<float>& a, const Tensor<float>& b) {
  return a.shape() == b.shape() &&
         std::memcmp(a.data(), b.data(), static_cast<size_t>(a.shape().size()) * sizeof(float)) == 0;
}

bool same_inputs(const AttentionInputs& a, const AttentionInputs& b) {
  return same_bits(a.query, b.query) && same_bits(a.key, b.key) && same_bits(a.value, b.value);
}

struct ThreadCount {
  explicit ThreadCount(int threads) : before(thread_count()) { set_thread_count(threads); }
  ~ThreadCount() { set_thread_count(before); }
  int before;
};

/// Row log-sum-exps of one head in double precision, plain loops.
std::vector<double> row_lse(const AttentionInputs& inputs, int64_t head, double scale) {
  const auto query = inputs.query.matrix(head);
  const auto key = inputs.key.matrix(inputs.key_head(head));
  std::vector<double> lse;
  for (int64_t i = 0; i < query.rows; ++i) {
    std::vector<double> scores;
    for (int64_t j = 0; j < key.rows; ++j) {
      double dot = 0;
      for (int64_t c = 0; c < query.cols; ++c)
        dot += static_cast<double>(query.row(i)[c]) * static_cast<double>(key.row(j)[c]);
      scores.push_back(scale * dot);
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double score : scores) sum += std::exp(score - largest);
    lse.push_back(largest + std::log(sum));
  }
  return lse;
}

double measured_kappa(const AttentionInputs& inputs, int64_t head, double scale) {
  const std::vector<double> lse = row_lse(inputs, head, scale);
  const auto [low, high] = std::minmax_element(lse.begin(), lse.end());
  return std::exp(*high - *low);
}

struct Moments {
  double mean = 0;
  double variance = 0;
};

Moments moments(const Tensor<float>& tensor) {
  const auto count = static_cast<double>(tensor.shape().size());
  Moments m;
  for (int64_t i = 0; i < tensor.shape().size(); ++i) m.mean += static_cast<double>(tensor.data()[i]) / count;
  for (int64_t i = 0; i < tensor.shape().size(); ++i)
    m.variance += std::pow(static_cast<double>(tensor.data()[i]) - m.mean, 2) / count;
  return m;
}

TEST_CASE("inputs are bit-equal for any number of threads, and differ by seed, trial and head") {
  const std::string name = GENERATE("gaussian", "clustered", "conditioned");
  const InputSource& source = source_of(name);
  Parameters parameters = parameters_of(source, {{"seq_len", int64_t{301}},
                                                 {"key_len", int64_t{277}},
                                                 {"head_dim", int64_t{7}},
                                                 {"value_dim", int64_t{5}},
                                                 {"heads", int64_t{2}},
                                                 {"batch", int64_t{2}}});
  if (name == "conditioned") parameters.set("condition_number", 10.0);
  if (name == "gaussian") parameters.set("spectrum", 20.0);
  const ThreadCount one(1);
  const AttentionInputs expected = source.make(parameters, 5, 1);
  CHECK(expected.query.shape() == TensorShape{2, 2, 301, 7});
  CHECK(expected.key.shape() == TensorShape{2, 2, 277, 7});
  CHECK(expected.value.shape() == TensorShape{2, 2, 277, 5});
  for (int threads : {2, 3, 8}) {
    const ThreadCount several(threads);
    INFO(name << " with " << threads << " threads");
    CHECK(same_inputs(source.make(parameters, 5, 1), expected));
  }
  CHECK_FALSE(same_bits(source.make(parameters, 6, 1).query, expected.query));
  CHECK_FALSE(same_bits(source.make(parameters, 5, 2).key, expected.key));
  CHECK(std::memcmp(expected.value.matrix(0).data, expected.value.matrix(3).data, 277 * 5 * 4) != 0);
}

TEST_CASE(
    "grouped heads of the queries are the ungrouped ones, and those of the keys are those of fewer heads") {
  const InputSource& gaussian = source_of("gaussian");
  const auto make = [&](int64_t heads, int64_t key_heads) {
    return gaussian.make(parameters_of(gaussian, {{"seq_len", int64_t{5}},
                                                  {"key_len", int64_t{7}},
                                                  {"head_dim", int64_t{4}},
                                                  {"heads", heads},
                                                  {"kv_heads", key_heads}}),
                         3, 1);
  };
  const AttentionInputs grouped = make(6, 2);
  CHECK(grouped.key.shape() == TensorShape{1, 2, 7, 4});
  CHECK(same_bits(grouped.query, make(6, 6).query));
  CHECK(same_bits(grouped.key, make(2, 2).key));
  CHECK(same_bits(grouped.value, make(2, 2).value));
}

TEST_CASE("a clustered query of a group is near a key of its key head") {
  const InputSource& clustered = source_of("clustered");
  const AttentionInputs inputs = clustered.make(parameters_of(clustered, {{"seq_len", int64_t{64}},
                                                                          {"heads", int64_t{6}},
                                                                          {"kv_heads", int64_t{2}},
                                                                          {"clusters", int64_t{8}},
                                                                          {"cluster_score", 30.0},
                                                                          {"cluster_spread", 0.1}}),
                                                1, 0);
  for (int64_t head = 0; head < 6; ++head)
    for (const double lse : row_lse(inputs, head, 1.0 / 8)) CHECK(lse > 25);  // of another head's: about 5
}

TEST_CASE("gaussian entries have mean 0 and variance 1") {
  const InputSource& source = source_of("gaussian");
  const AttentionInputs inputs =
      source.make(parameters_of(source, {{"seq_len", int64_t{4096}}, {"head_dim", int64_t{32}}}), 2024, 0);
  const double count = 4096 * 32;
  for (const Tensor<float>* tensor : {&inputs.query, &inputs.key, &inputs.value}) {
    const Moments m = moments(*tensor);
    // Standard errors 1/√N and √(2/N); z-bound 4.5 on each.
    CHECK(std::abs(m.mean) < 4.5 / std::sqrt(count));
    CHECK(std::abs(m.variance - 1) < 4.5 * std::sqrt(2 / count));
  }
}

TEST_CASE("spectrum shapes the singular values of gaussian Q and K, geometrically between its ends") {
  const InputSource& source = source_of("gaussian");
  struct Size {
    int64_t queries, keys, dim;
  };
  for (const double spectrum : {1.0, 2.0, 30.0, 1e4})
    for (const Size& size : {Size{200, 1100, 16}, Size{64, 64, 64}, Size{9, 300, 64}, Size{300, 2, 256},
                             Size{37, 5, 2}, Size{2, 3, 7}}) {
      const Parameters parameters = parameters_of(source, {{"seq_len", size.queries},
                                                           {"key_len", size.keys},
                                                           {"head_dim", size.dim},
                                                           {"heads", int64_t{2}},
                                                           {"spectrum", spectrum}});
      const AttentionInputs inputs = source.make(parameters, 1, 0);
      const AttentionInputs drawn = source.make(parameters_of(source, {{"seq_len", size.queries},
                                                                       {"key_len", size.keys},
                                                                       {"head_dim", size.dim},
                                                                       {"heads", int64_t{2}}}),
                                                1, 0);
      const std::pair<const Tensor<float>*, const Tensor<float>*> pairs[] = {{&inputs.query, &drawn.query},
                                                                             {&inputs.key, &drawn.key}};
      for (const auto& [tensor, before] : pairs)
        for (int64_t head = 0; head < 2; ++head) {
          const Eigen::MatrixXd x = as_eigen(tensor->matrix(head)).cast<double>();
          const Eigen::VectorXd values = testing::singular_values(x);
          const int64_t rank = values.size();  // min(rows, cols)
          INFO(x.rows() << " × " << x.cols() << ", spectrum " << spectrum << ", singular values from "
                        << values[0] << " to " << values[rank - 1]);
          for (int64_t i = 0; i < rank; ++i)
            CHECK(values[0] / values[i] ==
                  Approx(std::pow(spectrum, static_cast<double>(i) / static_cast<double>(rank - 1)))
                      .epsilon(1e-3));
          CHECK(x.norm() == Approx(as_eigen(before->matrix(head)).cast<double>().norm()).epsilon(1e-5));
        }
      CHECK(same_bits(inputs.value, drawn.value));
    }
}

TEST_CASE("a clustered query's softmax mass lies on the keys of its cluster") {
  const InputSource& source = source_of("clustered");
  const int64_t dim = GENERATE(16, 64);
  const AttentionInputs inputs = source.make(
      parameters_of(source, {{"seq_len", int64_t{512}}, {"key_len", int64_t{1024}}, {"head_dim", dim}}), 3,
      0);
  const double scale = 1 / std::sqrt(static_cast<double>(dim));
  const auto query = as_eigen(inputs.query.matrix(0)).cast<double>().eval();
  const auto key = as_eigen(inputs.key.matrix(0)).cast<double>().eval();
  double mean_mass = 0;  // of the 64 heaviest of 1024 keys; a cluster has 32 on average
  for (int64_t i = 0; i < 512; ++i) {
    Eigen::ArrayXd weights = (scale * (key * query.row(i).transpose())).array();
    weights = (weights - weights.maxCoeff()).exp();
    std::sort(weights.data(), weights.data() + weights.size(), std::greater<>());
    mean_mass += weights.head(64).sum() / weights.sum() / 512;
  }
  INFO("share of the mass on the 64 heaviest keys of 1024: " << mean_mass);
  CHECK(mean_mass > 0.85);
}

TEST_CASE("conditioned inputs have the wanted kappa in every head") {
  const InputSource& source = source_of("conditioned");
  const std::string construction = GENERATE("temperature", "shift");
  const double kappa = GENERATE(1.0, 1.001, 2.5, 100.0, 1e3, 1e6);
  struct Size {
    int64_t queries, keys, dim;
  };
  // Among 9001 queries some are all but orthogonal to both keys.
  const Size size = GENERATE(Size{128, 128, 64}, Size{37, 301, 3}, Size{9001, 2, 8}, Size{2, 2, 2},
                             Size{2, 513, 16}, Size{301, 37, 256}, Size{700, 601, 2});
  const Parameters parameters = parameters_of(source, {{"seq_len", size.queries},
                                                       {"key_len", size.keys},
                                                       {"head_dim", size.dim},
                                                       {"heads", int64_t{2}},
                                                       {"batch", int64_t{2}},
                                                       {"condition_number", kappa},
                                                       {"construction", construction}});
  const AttentionInputs inputs = source.make(parameters, 7, 0);
  for (int64_t head = 0; head < 4; ++head) {
    INFO(construction << ", " << size.queries << " queries, " << size.keys << " keys, d = " << size.dim);
    CHECK(measured_kappa(inputs, head, 1 / std::sqrt(static_cast<double>(size.dim))) ==
          Approx(kappa).epsilon(1e-3));
  }
}

TEST_CASE("conditioned inputs meet kappa for the scale of the problem") {
  const InputSource& source = source_of("conditioned");
  const double scale = GENERATE(0.5, 1.0, -0.25);
  const std::string construction = GENERATE("temperature", "shift");
  const Parameters parameters = parameters_of(source, {{"seq_len", int64_t{100}},
                                                       {"head_dim", int64_t{8}},
                                                       {"scale", scale},
                                                       {"condition_number", 50.0},
                                                       {"construction", construction}});
  const AttentionInputs inputs = source.make(parameters, 7, 0);
  CHECK(measured_kappa(inputs, 0, scale) == Approx(50).epsilon(1e-3));
}

TEST_CASE("conditioned inputs have the wanted kappa in every head of a group") {
  const InputSource& source = source_of("conditioned");
  for (const char* construction : {"temperature", "shift"}) {
    const AttentionInputs inputs = source.make(parameters_of(source, {{"seq_len", int64_t{61}},
                                                                      {"key_len", int64_t{83}},
                                                                      {"head_dim", int64_t{16}},
                                                                      {"heads", int64_t{6}},
                                                                      {"kv_heads", int64_t{2}},
                                                                      {"construction", construction},
                                                                      {"condition_number", 300.0}}),
                                               5, 0);
    for (int64_t head = 0; head < 6; ++head) {
      CAPTURE(construction, head);
      CHECK(measured_kappa(inputs, head, 0.25) == Approx(300).epsilon(1e-3));
    }
  }
}

TEST_CASE("the temperature construction spaces the rows' log-sum-exps evenly") {
  const InputSource& source = source_of("conditioned");
  const AttentionInputs inputs = source.make(parameters_of(source, {{"seq_len", int64_t{101}},
                                                                    {"key_len", int64_t{200}},
                                                                    {"head_dim", int64_t{16}},
                                                                    {"condition_number", 1000.0}}),
                                             7, 0);
  std::vector<double> lse = row_lse(inputs, 0, 0.25);
  CHECK_FALSE(std::is_sorted(lse.begin(), lse.end()));  // the order of the rows is random
  std::sort(lse.begin(), lse.end());
  for (size_t i = 0; i < lse.size(); ++i)
    CHECK(lse[i] ==
          Approx(std::log(200.0) + 0.5 + std::log(1000.0) * static_cast<double>(i) / 100).margin(1e-4));
}

TEST_CASE("the shift construction leaves the softmax matrix as it is") {
  const InputSource& source = source_of("conditioned");
  const auto softmax = [&](double kappa) {
    const AttentionInputs inputs =
        source.make(parameters_of(source, {{"seq_len", int64_t{40}},
                                           {"head_dim", int64_t{9}},
                                           {"condition_number", kappa},
                                           {"construction", std::string("shift")}}),
                    7, 0);
    RowMajorMatrix<double> p = (as_eigen(inputs.query.matrix(0)).cast<double>() *
                                as_eigen(inputs.key.matrix(0)).cast<double>().transpose()) /
                               3;
    for (int64_t i = 0; i < p.rows(); ++i) {
      p.row(i) = (p.row(i).array() - p.row(i).maxCoeff()).exp().matrix();
      p.row(i) /= p.row(i).sum();
    }
    return p;
  };
  CHECK((softmax(1) - softmax(1e5)).cwiseAbs().maxCoeff() < 1e-5);
}

TEST_CASE("sources refuse what cannot be built, saying why") {
  const auto message = [](const std::string& name,
                          const std::vector<std::pair<std::string, ParameterValue>>& values) -> std::string {
    const InputSource& source = source_of(name);
    try {
      static_cast<void>(source.shapes(parameters_of(source, values)));
    } catch (const Error& error) {
      CHECK(error.blame() == Blame::usage);
      return error.what();
    }
    return "accepted";
  };
  CHECK_THAT(
      message("conditioned", {{"seq_len", int64_t{9}}, {"key_len", int64_t{1}}, {"condition_number", 2.0}}),
      Catch::Contains("at least 2 keys"));
  CHECK_THAT(
      message("conditioned", {{"seq_len", int64_t{1}}, {"key_len", int64_t{9}}, {"condition_number", 2.0}}),
      Catch::Contains("must be 1 where seq_len is 1, but is 2"));
  CHECK_THAT(message("conditioned", {{"seq_len", int64_t{9}},
                                     {"head_dim", int64_t{1}},
                                     {"condition_number", 2.0},
                                     {"construction", std::string("shift")}}),
             Catch::Contains("head_dim of at least 2"));
  for (const char* name : {"seq_len", "key_len", "head_dim"})
    CHECK_THAT(message("gaussian", {{"seq_len", int64_t{9}}, {"spectrum", 2.0}, {name, int64_t{1}}}),
               Catch::Contains("spectrum must be 1") && Catch::Contains("but is 2"));
}

TEST_CASE("inputs that cannot fit into memory are refused with their size") {
  const InputSource& source = source_of("gaussian");
  const Parameters parameters = parameters_of(
      source, {{"seq_len", int64_t{2000000000}}, {"head_dim", int64_t{256}}, {"heads", int64_t{64}}});
  CHECK(source.shapes(parameters).query.rows == 2000000000);
  CHECK_THROWS_WITH(source.make(parameters, 0, 0), Catch::Contains("the inputs q, k and v would take"));
}

}  // namespace
}  // namespace hyperattn
