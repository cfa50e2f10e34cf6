// One call of attention on arrays of Python's, and what its gradient and its measures need.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

#include "algorithms/attention.h"

namespace hyperattn::python {

/// (rows, dim), (heads, rows, dim) or (batch, heads, rows, dim); float32, row-major, aligned.
using Array = pybind11::array_t<float, pybind11::array::c_style>;

/// How a method is called: the arguments that are no arrays.
struct Request {
  std::string method;
  std::string engine;  ///< empty: the method's own
  pybind11::dict settings;
  bool causal = false;
  int64_t window = 0;
  std::optional<double> scale;
  uint64_t seed = 0;
  uint32_t trial = 0;
};

/// The method of a request with its settings. Error(usage), also for a setting without an effect.
[[nodiscard]] Attention attention_of(const Request& request);
/// Empty where it has a gradient; else a sentence without its full stop.
[[nodiscard]] std::string why_no_gradient(const Attention& attention);
/// How the request's problem is computed, on tensors of these shapes.
[[nodiscard]] AttentionProblem problem_of(const Request& request, TensorView<const float> query,
                                          TensorView<const float> key, TensorView<const float> value);
[[nodiscard]] pybind11::dict dict_of(const Diagnostics& diagnostics);

/// A method with its settings on a problem. Keeps the arrays, which have equally many axes; nothing is
/// copied.
class Run {
 public:
  /// Checks settings and shapes; Error as of `Attention`, and Error(usage) for a setting without an effect.
  Run(const Request& request, Array query, Array key, Array value);

  /// Computes out and lse.
  void forward();
  /// Empty if there is a gradient; else why not, in a sentence.
  [[nodiscard]] std::string no_gradient() const;

  /// Views that keep the run alive: out (…, n_q, d_v), with as many axes as the query, and lse (…, n_q).
  [[nodiscard]] static pybind11::array out(const pybind11::object& self);
  [[nodiscard]] static pybind11::array lse(const pybind11::object& self);
  [[nodiscard]] pybind11::dict diagnostics() const;
  /// dq, dk and dv of ⟨out, dout⟩ in the shapes of q, k and v.
  [[nodiscard]] pybind11::tuple backward(const Array& dout) const;

  /// Computes out and lse, too. Rows of figures: a dict for the whole trial, for each head and for each level
  /// of the causal recursion. `wanted` names figures or measures; `settings` holds a dict for each measure.
  [[nodiscard]] pybind11::list measure(const std::vector<std::string>& wanted,
                                       const pybind11::dict& settings);

 private:
  Array query_;
  Array key_;
  Array value_;
  Attention attention_;
  AttentionProblem problem_;
  ForwardState state_;
};

}  // namespace hyperattn::python
