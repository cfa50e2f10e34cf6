// The interface of everything that runs plans. An engine knows nothing of methods, and a method nothing of
// engines: what stands between them is the plan. Adding an engine is a folder in engines/ and a line in
// registry.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "algorithms/bound_problem.h"
#include "algorithms/plan.h"
#include "algorithms/problem.h"
#include "core/parameters.h"

namespace hyperattn {

/// Departures from plain softmax attention that the theory estimator and the measures need. The first two are
/// refused (Error(usage)) with a plan that has moments, linear values, signed weights or a clip.
struct EngineOptions {
  /// Given denominators: out_i = Σ_j w_ij 2^(x_ij − maximum_i)/sum_i v_j. A row with sum 0 gives 0.
  const RowSums* denominators = nullptr;
  /// Cap on scores of a row (batch·heads·n_q, natural log): min(s_ij, cap_i) in place of s_ij, before the
  /// weight.
  const float* score_cap = nullptr;
  /// If not null, receives the number of unexcluded entries that the cap lowered.
  int64_t* capped_entries = nullptr;
  /// False: only the sums are wanted; V is not read and `out` stays empty.
  bool values = true;
};

class Engine {
 public:
  virtual ~Engine() = default;

  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual const std::string& meaning() const = 0;  ///< one line
  /// What a backend's entry can set of the engine, such as `precision`. Engines that have a parameter of one
  /// name agree in its type; each has its own default and choices.
  [[nodiscard]] virtual const std::vector<ParameterSpec>& parameters() const = 0;

  /// The card that it computes on, its driver, clocks and power limit, as provenance tells them; empty for an
  /// engine that computes on the host. Asked only where it is available.
  [[nodiscard]] virtual std::string machine() const { return {}; }
  /// Of several cards, counted from 0, the one that the process uses; chosen before anything runs. An engine
  /// without a card of its own does nothing. Error(usage): there are not as many.
  virtual void choose_device(int /*number*/) const {}
  /// Empty if the engine can run on this machine; else why not, to follow its name.
  [[nodiscard]] virtual std::string available() const { return {}; }
  /// Empty if the engine runs such problems with these parameters; else what is wrong, to follow its name.
  /// Checked before anything runs.
  [[nodiscard]] virtual std::string refuses(const AttentionProblem& shapes,
                                            const Parameters& parameters) const;
  /// Empty if the engine can run plans other than exact attention's; else that it cannot, to follow its name.
  [[nodiscard]] virtual std::string only_exact() const { return {}; }
  /// Whether the engine is meant to be fast, so that its exact attention is a baseline of speedups.
  [[nodiscard]] virtual bool is_fast() const { return true; }
  /// Where it computes, and in which precision scores and products are.
  [[nodiscard]] virtual std::string device() const { return "cpu"; }
  [[nodiscard]] virtual std::string precision(const Parameters& /*parameters*/) const { return "fp32"; }
  /// Whether exact attention on this engine goes by the engine's name.
  [[nodiscard]] virtual bool names_exact() const { return false; }
  /// Empty if it has a backward pass; else that it has none, to follow its name.
  [[nodiscard]] virtual std::string no_gradient() const { return {}; }
  /// Bytes needed beyond inputs, output and what plans hold, for estimates before running.
  [[nodiscard]] virtual double estimated_bytes(const AttentionProblem& shapes,
                                               const Parameters& parameters) const = 0;

  /// The problem where this engine computes: for an engine with a device, uploaded once for all calls. The
  /// tensors behind it must outlive it.
  [[nodiscard]] virtual std::unique_ptr<BoundProblem> bind(const AttentionProblem& problem,
                                                           const Parameters& parameters) const;

  /// Runs a plan. Deterministic for (problem, plan, options), whatever the number of threads.
  [[nodiscard]] virtual AttentionResult forward(const BoundProblem& bound, const Plan& plan,
                                                const EngineOptions& options) const = 0;

  /// Gradients of ⟨out, dout⟩ through every pass of the plan, given the forward's result. With e_ij the
  /// weight over the row's denominator, u_j its value and g the upstream gradient (0 where out was clipped):
  ///   du_j = Σ_i N_ij e_ij g_i,   ds_ij = e_ij (N_ij ⟨g_i, u_j⟩ − D_ij ⟨g_i, out_i⟩),
  ///   dq_i = scale Σ_j ds_ij k_j,   dk_j = scale Σ_i ds_ij q_i.
  /// A synthetic key's gradient goes to its members by their shares. Gradients of a key head that several
  /// heads share add up in the order of heads. Deterministic. Error(usage): no gradient, or the plan has
  /// moments or linear values.
  [[nodiscard]] virtual AttentionGradients backward(const BoundProblem& bound, const Plan& plan,
                                                    const AttentionResult& forward,
                                                    TensorView<const float> dout) const = 0;

  /// Σ_i e_ij y_i for every key row j, e_ij the unsigned weights under given denominators (as in
  /// EngineOptions): the transpose of a forward pass with those, from the same bits of scores. `rows` is
  /// (batch, heads, n_q, w); the result is (batch, key heads, n_k, w).
  [[nodiscard]] virtual Tensor<float> transposed(const BoundProblem& bound, const Plan& plan,
                                                 const RowSums& denominators,
                                                 TensorView<const float> rows) const = 0;
};

/// The engine's name, meaning and parameters, said once.
struct EngineDescription {
  std::string name;
  std::string meaning;
  std::vector<ParameterSpec> parameters;
};

class DescribedEngine : public Engine {
 public:
  explicit DescribedEngine(EngineDescription description) : description_(std::move(description)) {}

  [[nodiscard]] const std::string& name() const final { return description_.name; }
  [[nodiscard]] const std::string& meaning() const final { return description_.meaning; }
  [[nodiscard]] const std::vector<ParameterSpec>& parameters() const final { return description_.parameters; }

 private:
  EngineDescription description_;
};

/// Error(usage) if the options ask for what the plan cannot have (see EngineOptions).
void refuse_unsuited_options(const Plan& plan, const EngineOptions& options);

/// The given denominators of rows from natural logarithms (batch·heads·n_q of them); −∞: a row that gives 0.
[[nodiscard]] RowSums sums_from_logs(const TensorShape& rows, const double* logs);

}  // namespace hyperattn
