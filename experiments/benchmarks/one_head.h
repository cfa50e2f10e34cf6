// What all benchmarks run on: one head of Gaussian queries, keys and values, and timed calls of a backend.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "algorithms/backend.h"
#include "experiments/benchmarks/measured.h"

namespace hyperattn {

struct OneHead {
  Tensor<float> query, key, value;
  Tensor<float> output_gradient;
  AttentionProblem problem;

  /// n rows of d standard normal numbers in each tensor; the same bits at every call.
  OneHead(int64_t rows, int64_t dim, bool causal);
  OneHead(const OneHead&) = delete;
  OneHead& operator=(const OneHead&) = delete;
};

/// The backend's defaults with b = m = 256, 128 buckets and min_seq_len 2048 where it has them.
[[nodiscard]] Call headline_context(const Backend& backend);

struct CallSeconds {
  double forward = 0;
  double backward = 0;  ///< 0 unless asked for

  [[nodiscard]] double both() const { return forward + backward; }
};

/// Wall time of one call, forward or forward and backward.
[[nodiscard]] CallSeconds time_call(const Backend& backend, const Call& context, const OneHead& head,
                                    bool backward);
/// The same with the headline's settings.
[[nodiscard]] CallSeconds time_call(const std::string& backend, const OneHead& head, bool backward);

/// Times of calls: forward, and forward and backward together.
struct MeasuredCalls {
  Measured forward;
  Measured both;
};

/// Calls until both times are certain, `least` at least; a first call of less than a second, which pays for
/// fresh memory, is not counted.
[[nodiscard]] MeasuredCalls measure_calls(const std::string& backend, const OneHead& head, bool backward,
                                          int least);

}  // namespace hyperattn
