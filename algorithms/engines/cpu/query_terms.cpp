#include "algorithms/engines/cpu/query_terms.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace hyperattn {
namespace {

void pack_matrix(const std::vector<float>& matrix, int64_t rows, int64_t columns, int64_t padded_columns,
                 int64_t panel, Buffer<float>& panels) {
  std::vector<const float*> pointers;
  for (int64_t i = 0; i < rows; ++i) pointers.push_back(matrix.data() + i * columns);
  if (panels.empty()) panels = Buffer<float>(rows * round_up(padded_columns, panel));
  pack_rows(pointers.data(), rows, columns, padded_columns, panel, rows, panels.data());
}

float dot(const float* a, const float* b, int64_t size) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) sum += a[i] * b[i];
  return sum;
}

// g (natural logarithm) and θ of KeyMoments.
struct Closure {
  float log_gain;
  float tilt;
};

Closure closure_of(float deviation, float critical) {
  if (deviation <= critical) return {0.5F * deviation * deviation, 1.0F};
  return {deviation * critical - 0.5F * critical * critical, critical / deviation};
}

// Adds 2^log2_weight · value to a row's state.
void merge(float log2_weight, const float* value, int64_t columns, float& maximum, double& sum,
           float* accumulator) {
  const float top = std::max(maximum, log2_weight);
  const float kept = std::exp2(maximum - top);
  const float weight = std::exp2(log2_weight - top);
  maximum = top;
  sum = sum * static_cast<double>(kept) + static_cast<double>(weight);
  for (int64_t c = 0; c < columns; ++c) accumulator[c] = accumulator[c] * kept + weight * value[c];
}

}  // namespace

void QueryTerms::pack_cross_covariance(const void* owner, const std::vector<float>& matrix) {
  packed_ = owner;
  if (layout_.value_columns > 0)
    pack_matrix(matrix, layout_.head_dim, layout_.value_dim, layout_.value_columns, layout_.panel,
                cross_covariance_);
}

void QueryTerms::multiply(const RowStates& rows, const Buffer<float>& panels, int64_t columns,
                          Buffer<float>& product) {
  if (product.size() < rows.count * columns) product = Buffer<float>(rows.count * columns);
  MultiplyArguments arguments;
  arguments.rows = rows.count;
  arguments.columns = columns;
  arguments.depth = layout_.head_dim;
  arguments.a = rows.queries;
  arguments.a_row = layout_.head_dim;
  arguments.b = panels.data();
  arguments.b_panel_stride = layout_.panel * layout_.head_dim;
  arguments.c = product.data();
  arguments.c_stride = columns;
  tile_kernels().multiply(arguments);
}

void QueryTerms::add_moments(const KeyMoments& moments, int64_t keys, const RowStates& rows) {
  const int64_t d = layout_.head_dim;
  const int64_t columns = round_up(d, tile_kernels().lanes);
  if (packed_ != &moments) {
    pack_matrix(moments.covariance, d, d, columns, layout_.panel, covariance_);
    pack_cross_covariance(&moments, moments.cross_covariance);
  }
  multiply(rows, covariance_, columns, query_covariance_);
  if (layout_.value_columns > 0) multiply(rows, cross_covariance_, layout_.value_columns, query_cross_);

  const double log_keys = std::log(static_cast<double>(keys));
  const auto critical = static_cast<float>(std::sqrt(2 * log_keys));
  const auto log2_keys = static_cast<float>(log_keys * std::numbers::log2e);
  for (int64_t i = 0; i < rows.count; ++i) {
    const float* query = rows.queries + i * d;  // log₂e·s·q
    const float variance = dot(query, query_covariance_.data() + i * columns, d);
    const Closure closure = closure_of(std::sqrt(std::max(variance, 0.0F)) / kLog2E, critical);
    const float log2_weight = log2_keys + dot(query, moments.mean_key.data(), d) + kLog2E * closure.log_gain;
    float* value = query_cross_.data() + i * layout_.value_columns;
    const float factor = closure.tilt / kLog2E;
    for (int64_t c = 0; c < layout_.value_dim; ++c)
      value[c] = moments.mean_value[static_cast<size_t>(c)] + factor * value[c];
    merge(log2_weight, value, layout_.value_dim, rows.maximum[i], rows.sum[i],
          rows.accumulator + i * layout_.value_columns);
  }
}

void QueryTerms::add_linear_values(const LinearValues& linear, const float* maximum_before,
                                   const double* sum_before, const RowStates& rows) {
  if (layout_.value_columns == 0) return;
  const int64_t d = layout_.head_dim;
  if (packed_ != &linear) pack_cross_covariance(&linear, linear.cross_covariance);
  multiply(rows, cross_covariance_, layout_.value_columns, query_cross_);
  for (int64_t i = 0; i < rows.count; ++i) {
    const float* query = rows.queries + i * d;  // log₂e·s·q
    float variance = 0;
    for (int64_t c = 0; c < d; ++c) variance += query[c] * query[c] * linear.variance[static_cast<size_t>(c)];
    const float fade = std::min(1.0F, kLog2E * kLog2E / std::max(variance, 1e-30F));
    const double before = sum_before[i] * static_cast<double>(std::exp2(maximum_before[i] - rows.maximum[i]));
    const auto weight = static_cast<float>(std::max(rows.sum[i] - before, 0.0));
    const float factor = weight * fade / kLog2E;
    float* accumulator = rows.accumulator + i * layout_.value_columns;
    const float* cross = query_cross_.data() + i * layout_.value_columns;
    for (int64_t c = 0; c < layout_.value_dim; ++c) accumulator[c] += factor * cross[c];
  }
}

}  // namespace hyperattn
