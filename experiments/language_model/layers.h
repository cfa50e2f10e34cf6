// The pieces that decoders are put together from: norms, linear layers, activations. All in float32, on rows.
#pragma once

#include <cstdint>
#include <memory>

#include "core/memory.h"
#include "core/tensor.h"
#include "experiments/language_model/config/model_config.h"
#include "experiments/language_model/safetensors.h"

namespace hyperattn {

/// A norm with its weights. `weight` (offset included) and `bias` hold one number for each of a group, or for
/// each of a row; empty: none.
struct Norm {
  NormConfig config;
  Buffer<float> weight;
  Buffer<float> bias;

  /// y ← norm x for groups of `width` numbers, `groups` of them side by side; y may be x. Sums in double.
  void apply(const float* x, int64_t groups, int64_t width, float* y) const;
  /// The same for whole rows.
  void apply(MatrixView<const float> x, MatrixView<float> y) const;
};

/// y = W x + b. W is row-major (outputs, inputs), as its file stores it; b is empty if there is none.
struct Linear {
  int64_t outputs = 0;
  int64_t inputs = 0;
  std::shared_ptr<const StoredValues> weight;  ///< shared where a head is tied to the embedding
  Buffer<float> bias;
};

/// Some outputs of a Linear, widened to float32 and packed for the tile kernels. Keeps its memory for the
/// next.
class PackedLinear {
 public:
  /// Outputs [begin, end). Parallel.
  void pack(const Linear& linear, int64_t begin, int64_t end);
  void pack(const Linear& linear) { pack(linear, 0, linear.outputs); }

  /// Columns that `multiply` writes: the outputs, rounded up to the kernels' vectors.
  [[nodiscard]] int64_t columns() const { return columns_; }
  /// Rows of y ← W x + b, on the calling thread; y has `columns()` columns and x `inputs`.
  void multiply(MatrixView<const float> x, MatrixView<float> y) const;

  /// The columns for so many outputs.
  [[nodiscard]] static int64_t padded(int64_t outputs);

 private:
  int64_t columns_ = 0;
  int64_t inputs_ = 0;
  bool has_bias_ = false;
  Buffer<float> weights_;
  Buffer<float> bias_;
};

/// x ← act(x), in place.
void activate(Activation activation, MatrixView<float> x);

}  // namespace hyperattn
