// Training an attention layer by a backend's own gradient: the end-to-end proof that approximate attention
// can stand in for exact attention while weights are learned.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/backend.h"

namespace hyperattn {

/// Associative recall: `classes` random centres, each with a value. Keys and queries are noisy copies of
/// centres (token i of class i mod `classes`, in an order of their own for the queries); every key carries
/// the value of its class, and the target of a query is the value of its class. The layer computes
/// attention(X_q W_q, X_k W_k, V) and learns W_q and W_k (d × d).
struct RetrievalTask {
  int64_t length = 512;
  int64_t dim = 16;
  int64_t classes = 16;
  double noise = 0.3;  ///< standard deviation of what is added to each entry of a centre
  uint64_t seed = 1;
};

struct TrainingOptions {
  int64_t steps = 150;
  double learning_rate = 0.02;  ///< of Adam, with its usual β₁ = 0.9, β₂ = 0.999
};

/// Mean squared error per entry before each step, and after the last (steps + 1 values), of the same inputs
/// at every step; the backend draws anew at each (trial = step). Deterministic for any number of threads.
/// Throws Error(usage) if the backend has no gradient or the loss is no longer finite. Cost: `steps` forward
/// and backward calls.
[[nodiscard]] std::vector<double> train_retrieval(const Backend& backend, const Parameters& parameters,
                                                  const RetrievalTask& task, const TrainingOptions& options);

}  // namespace hyperattn
