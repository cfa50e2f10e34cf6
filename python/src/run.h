// One call of attention on arrays of Python's, and what its gradient and its measures need.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "algorithms/attention.h"

namespace hyperattn::python {

/// (rows, dim), (heads, rows, dim) or (batch, heads, rows, dim); float32, row-major, aligned.
using Array = pybind11::array_t<float, pybind11::array::c_style>;

/// How a method is called: the arguments that are no arrays, checked, for any number of calls.
class Request {
 public:
  /// `engine`: empty: the method's own. Error as of `Attention`, and Error(usage) for a setting without an
  /// effect.
  Request(const std::string& method, const std::string& engine, const pybind11::dict& settings, bool causal,
          int64_t window, std::optional<double> scale, uint64_t seed, uint32_t trial);

  [[nodiscard]] const Attention& attention() const { return attention_; }
  /// How its problem is computed, on tensors of these shapes.
  [[nodiscard]] AttentionProblem problem(TensorView<const float> query, TensorView<const float> key,
                                         TensorView<const float> value) const;
  /// Empty if there is a gradient; else why not, in a sentence without its full stop.
  [[nodiscard]] std::string no_gradient() const;

 private:
  Attention attention_;
  bool causal_;
  int64_t window_;
  std::optional<double> scale_;
};

[[nodiscard]] pybind11::dict dict_of(const Diagnostics& diagnostics);

/// A request on a problem. Keeps the arrays, which have equally many axes; nothing is copied.
class Run {
 public:
  /// Checks shapes.
  Run(std::shared_ptr<const Request> request, Array query, Array key, Array value);

  /// Computes out and lse.
  void forward();
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
  std::shared_ptr<const Request> request_;
  AttentionProblem problem_;
  ForwardState state_;
};

}  // namespace hyperattn::python
