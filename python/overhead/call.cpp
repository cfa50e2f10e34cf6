// One call from C++, timed, for overhead.py: what a caller with three arrays pays without Python.
#include <chrono>
#include <cstdint>

#include "algorithms/attention.h"

using namespace hyperattn;

/// Seconds of a call on (1, 1, rows, dim) arrays, settings and results included; negative if it failed.
extern "C" [[gnu::visibility("default")]] double seconds_of_call(const float* query, const float* key,
                                                                 const float* value, int64_t rows,
                                                                 int64_t dim, int approximate) {
  const TensorShape shape{1, 1, rows, dim};
  const auto start = std::chrono::steady_clock::now();
  try {
    const Attention attention =
        approximate != 0 ? Attention("hyper", {{"block_size", int64_t{128}}, {"sample_size", int64_t{128}}})
                         : Attention("exact");
    const ForwardState state =
        attention.forward(attention_problem({query, shape}, {key, shape}, {value, shape}));
    if (state.result.out.data() == nullptr) return -1;
  } catch (...) {
    return -1;
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
