// The front door: attention by name. Arrays in, arrays out; everything is checked before anything runs, and
// what is wrong is said in one sentence.
//
//   const Attention hyper("hyper", {{"sample_size", 256}, {"block_size", 256}});
//   const ForwardState state = hyper.forward(problem);               // state.result.out, state.result.lse
//   const AttentionGradients gradients = hyper.backward(problem, state, dout);
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "algorithms/backend.h"
#include "algorithms/masks/heavy_mask.h"

namespace hyperattn {

/// Names and values of parameters; integers may stand where numbers are wanted.
using Settings = std::map<std::string, ParameterValue>;

struct AttentionOptions {
  std::string engine;  ///< empty: the method's own (`dense` and `reference` have one), else the default
  uint64_t seed = 0;
  uint32_t trial = 0;
  const HeavyMask* mask = nullptr;  ///< the caller's own, for mask: file; must outlive the calls
};

/// (batch, heads, n_q, d), (batch, key heads, n_k, d) and (batch, key heads, n_k, d_v) in row-major memory
/// that must outlive every call. The scale is 1/√d unless given.
[[nodiscard]] AttentionProblem attention_problem(TensorView<const float> query, TensorView<const float> key,
                                                 TensorView<const float> value, bool causal = false);

/// A method with its settings. Cheap to copy; const and thread-safe (calls are parallel inside).
class Attention {
 public:
  /// Error(usage): no method or engine of that name, a misspelt setting, a value that is not allowed, or an
  /// engine that cannot run the method.
  explicit Attention(const std::string& method, const Settings& settings = {}, AttentionOptions options = {});

  [[nodiscard]] const Backend& backend() const { return *backend_; }
  /// All settings, defaults included.
  [[nodiscard]] const Parameters& parameters() const { return call_.parameters; }
  /// What calls besides the problem depend on, for the measures.
  [[nodiscard]] const Call& call() const { return call_; }

  /// Error(input): shapes that do not fit, or a tensor with a NaN or infinity. Error(usage): settings that
  /// cannot go with these shapes.
  void check(const AttentionProblem& problem) const;

  /// out and lse. Checks the problem first and the result afterwards.
  [[nodiscard]] ForwardState forward(const AttentionProblem& problem) const;
  /// The same on a problem that is bound to the engine already and was checked.
  [[nodiscard]] ForwardState forward(const BoundProblem& bound) const;

  /// Gradients of ⟨out, dout⟩ with the forward's random choices held fixed; dout has out's shape.
  /// Error(usage): these settings have no gradient.
  [[nodiscard]] AttentionGradients backward(const AttentionProblem& problem, const ForwardState& state,
                                            TensorView<const float> dout) const;

 private:
  const Backend* backend_;
  Call call_;
};

/// Values resolved against declarations: defaults, and the given ones checked. Error(usage) names the
/// setting, its value and what is allowed; `owner`, such as "method 'hyper'", begins the sentence.
[[nodiscard]] Parameters resolve_settings(const std::string& owner, const std::vector<ParameterSpec>& specs,
                                          const Settings& settings);

}  // namespace hyperattn
