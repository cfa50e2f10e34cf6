// Unfused attention: score tile, softmax, value product as three separate Eigen steps. It is what one writes
// in an afternoon, and keeps the fused engine honest as a baseline.
#pragma once

#include "algorithms/backend.h"

namespace hyperattn {

/// The backend `dense`: tiles of query rows against all keys in fp32, so memory is (rows of a tile) · n_k
/// for each thread, never n_q · n_k. Forward only.
[[nodiscard]] const Backend& dense_backend();

}  // namespace hyperattn
