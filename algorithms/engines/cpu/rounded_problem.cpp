#include "algorithms/engines/cpu/rounded_problem.h"

#include <algorithm>

#include "algorithms/kernels/bfloat16.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

Tensor<float> rounded_copy(const TensorView<const float>& tensor) {
  constexpr int64_t kChunk = 1 << 16;
  Tensor<float> copy(tensor.shape);
  const int64_t size = tensor.shape.size();
  parallel_for((size + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    const int64_t begin = chunk * kChunk;
    round_to_bfloat16(tensor.data + begin, std::min(kChunk, size - begin), copy.data() + begin);
  });
  return copy;
}

}  // namespace

RoundedInputs::RoundedInputs(const AttentionProblem& problem)
    : query_(rounded_copy(problem.query)),
      key_(rounded_copy(problem.key)),
      value_(rounded_copy(problem.value)),
      rounded_(problem) {
  rounded_.query = query_.view();
  rounded_.key = key_.view();
  rounded_.value = value_.view();
}

}  // namespace hyperattn
