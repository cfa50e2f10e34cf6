#include "algorithms/problem.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include "core/error.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr int64_t kMaxHeadDim = 256;

void require(bool holds, const std::string& message) {
  if (!holds) fail_input(message);
}

std::string place(const TensorShape& shape, int64_t flat) {
  const int64_t column = flat % shape.dim;
  const int64_t row = flat / shape.dim % shape.rows;
  const int64_t head = flat / shape.dim / shape.rows % shape.heads;
  const int64_t batch = flat / shape.dim / shape.rows / shape.heads;
  return "[" + std::to_string(batch) + ", " + std::to_string(head) + ", " + std::to_string(row) + ", " +
         std::to_string(column) + "]";
}

/// A number whose exponent has all bits set is none. Without an early end, so that the compiler takes several
/// numbers at once.
bool all_finite(const float* numbers, int64_t count) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t found = 0;
  for (int64_t i = 0; i < count; ++i)
    found |= static_cast<uint32_t>((std::bit_cast<uint32_t>(numbers[i]) & kExponent) == kExponent);
  return found == 0;
}

}  // namespace

float default_scale(int64_t head_dim) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
}

void check_problem(const AttentionProblem& problem) {
  const TensorShape& q = problem.query.shape;
  const TensorShape& k = problem.key.shape;
  const TensorShape& v = problem.value.shape;
  const std::string shapes = "q is " + to_string(q) + ", k is " + to_string(k) + ", v is " + to_string(v);
  require(is_countable(q) && is_countable(k) && is_countable(v),
          "a tensor may have at most 2^53 elements and 2^31 - 1 heads in all, but " + shapes);
  require(q.batch == k.batch && q.batch == v.batch && k.heads == v.heads,
          "q, k and v must have the same batch, and k and v the same heads, but " + shapes);
  require(q.dim == k.dim, "q and k must have the same head dimension, but " + shapes);
  require(k.rows == v.rows, "k and v must have the same number of rows, but " + shapes);
  require(q.size() > 0 && k.size() > 0 && v.size() > 0, "q, k and v must not be empty, but " + shapes);
  require(q.heads % k.heads == 0, "the heads of q must be a multiple of those of k and v, but " + shapes);
  require(q.dim <= kMaxHeadDim,
          "the head dimension must be between 1 and " + std::to_string(kMaxHeadDim) + ", but " + shapes);
  require(q.rows <= std::numeric_limits<int32_t>::max() && k.rows <= std::numeric_limits<int32_t>::max(),
          "a tensor may have at most 2147483647 rows, but " + shapes);
  require(std::isfinite(problem.scale), "the scale must be finite, but is " + std::to_string(problem.scale));
  require(problem.window >= 0, "the window must be at least 0, but is " + std::to_string(problem.window));
  require(problem.window == 0 || problem.causal, "a window of keys needs a causal problem");
}

void check_finite(TensorView<const float> tensor, const std::string& name) {
  constexpr int64_t kChunk = 1 << 16;
  const int64_t size = tensor.shape.size();
  const int64_t chunks = (size + kChunk - 1) / kChunk;
  parallel_for(chunks, [&](int64_t chunk, int) {
    const int64_t begin = chunk * kChunk;
    const int64_t end = std::min(size, begin + kChunk);
    if (all_finite(tensor.data + begin, end - begin)) return;
    const float* found =
        std::find_if(tensor.data + begin, tensor.data + end, [](float x) { return !std::isfinite(x); });
    fail_input(name + " holds a non-finite value (" + std::to_string(*found) + ") at " +
               place(tensor.shape, found - tensor.data) + "; all values must be finite");
  });
}

double RowSums::log_ratio(int64_t row, const RowSums& other) const {
  if (sum.data()[row] == 0) return -std::numeric_limits<double>::infinity();
  const double exponent =
      static_cast<double>(maximum.data()[row]) - static_cast<double>(other.maximum.data()[row]);
  return std::numbers::ln2 * exponent + std::log(sum.data()[row] / other.sum.data()[row]);
}

const char* stage_name(Stage stage) {
  static constexpr std::array<const char*, static_cast<size_t>(Stage::count)> names = {
      "hash",   "sort",     "draw",  "gather",   "exact",   "block",
      "sample", "approx_d", "merge", "backward", "transfer"};
  return names[static_cast<size_t>(stage)];
}

double Diagnostics::transfer_seconds() const {
  const auto found = stage_seconds.find(stage_name(Stage::transfer));
  return found == stage_seconds.end() ? 0 : found->second;
}

void Diagnostics::add_planning(const Diagnostics& notes) {
  for (const auto& [stage, seconds] : notes.stage_seconds) stage_seconds[stage] += seconds;
  entries += notes.entries;
  collisions = notes.collisions;
  clipped_share = notes.clipped_share;
  floored_share = notes.floored_share;
  drawn_keys = notes.drawn_keys;
  ceiling_share = notes.ceiling_share;
}

void check_result(const AttentionResult& result) {
  check_finite(result.out.view(), "the output");
  const bool valid = std::all_of(
      result.lse.data(), result.lse.data() + result.lse.shape().size(),
      [](float value) { return !std::isnan(value) && value < std::numeric_limits<float>::infinity(); });
  if (!valid) fail_input("the output's log-sum-exp holds a NaN or +infinity");
}

void check_gradients(const AttentionGradients& gradients) {
  check_finite(gradients.dquery.view(), "the gradient of q");
  check_finite(gradients.dkey.view(), "the gradient of k");
  check_finite(gradients.dvalue.view(), "the gradient of v");
}

}  // namespace hyperattn
