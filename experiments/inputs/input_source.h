// Where Q, K and V come from. Adding a source is a file in this folder and a line in input_source.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/parameters.h"
#include "core/tensor.h"

namespace hyperattn {

/// What one trial runs on.
struct AttentionInputs {
  Tensor<float> query;  ///< (batch, heads, seq_len, head_dim)
  Tensor<float> key;    ///< (batch, key heads, key_len, head_dim), heads a multiple of key heads
  Tensor<float> value;  ///< (batch, key heads, key_len, value_dim)

  /// Flat head of K and V that a flat head of Q attends to.
  [[nodiscard]] int64_t key_head(int64_t head) const {
    return head / (query.shape().matrices() / key.shape().matrices());
  }
};

/// Shapes known before anything is made or read in full.
struct InputShapes {
  TensorShape query;
  TensorShape key;
  TensorShape value;
};

/// Inputs depend on the source's own parameters, the seed and the trial, on nothing else: all backends and
/// all their parameters are compared on the same data.
class InputSource {
 public:
  virtual ~InputSource() = default;

  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual const std::string& meaning() const = 0;  ///< one line
  [[nodiscard]] virtual const std::vector<ParameterSpec>& parameters() const = 0;

  /// The shapes that `make` will return. Throws Error(usage) for parameters that cannot go together and
  /// Error(input) for a file that is missing, unreadable or misshapen. Cheap (reads headers only): called for
  /// every case before anything runs.
  [[nodiscard]] virtual InputShapes shapes(const Parameters& parameters) const = 0;
  /// Refuses values that `make` would refuse, where they are known beforehand: reads a file whole, and throws
  /// Error(input) for a non-finite value. Called once for every input before anything runs.
  virtual void check_contents(const Parameters& parameters) const { static_cast<void>(parameters); }
  /// Deterministic for any number of threads. Throws like `shapes`, and Error(input) for non-finite values in
  /// a file.
  [[nodiscard]] virtual AttentionInputs make(const Parameters& parameters, uint64_t seed,
                                             uint32_t trial) const = 0;
};

[[nodiscard]] const std::vector<const InputSource*>& all_input_sources();
[[nodiscard]] const InputSource* find_input_source(
    const std::string& name);  ///< null if there is none of that name

}  // namespace hyperattn
