// The interface of attention methods: a method turns (problem, call) into a plan and leaves computing to
// engines. Adding one is a file in methods/ and a line in registry.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "algorithms/bound_problem.h"
#include "algorithms/call.h"
#include "algorithms/engine.h"
#include "algorithms/nodes/causal.h"
#include "algorithms/plan.h"

namespace hyperattn {

struct Capabilities {
  bool mask = false;         ///< can be told a mask of the caller's own
  bool replay = false;       ///< can be told its random choices
  bool approximate = false;  ///< has a heavy mask and an error to measure
};

/// The heavy masks that a call was planned with: what the measures of masks work from. Nothing is planned
/// twice.
class PlannedMasks {
 public:
  PlannedMasks(NodeTree tree, std::vector<HeadNode> nodes)
      : tree_(std::move(tree)), nodes_(std::move(nodes)) {}
  virtual ~PlannedMasks() = default;

  [[nodiscard]] const NodeTree& tree() const { return tree_; }
  /// What is approximated, head by head, deepest level first: the whole problem or, when causal, cross nodes.
  [[nodiscard]] const std::vector<HeadNode>& nodes() const { return nodes_; }
  /// The entries that are computed exactly (M^H), with all that a causal problem computes exactly.
  [[nodiscard]] virtual Plan masked(const AttentionProblem& problem) const = 0;
  /// The entries that are estimated: all others of the nodes, one phase for each level.
  [[nodiscard]] virtual Plan unmasked(const AttentionProblem& problem) const = 0;

 private:
  NodeTree tree_;
  std::vector<HeadNode> nodes_;
};

/// Denominators that do not come from the plan itself (estimator: theory).
struct GivenDenominators {
  RowSums sums;
  std::vector<double> logs;      ///< batch·heads·n_q; −∞: the row gives 0
  std::vector<float> score_cap;  ///< beyond which an entry would leave the range of floats
};

/// What planning leaves for the engine, the gradient and the measures.
struct PlannedCall {
  std::shared_ptr<const Plan> plan;
  std::shared_ptr<const PlannedMasks> masks;              ///< null for a method without a mask
  std::shared_ptr<const GivenDenominators> denominators;  ///< null: the plan's own
  Diagnostics notes;  ///< stage seconds of planning, and entries, collisions and shares beyond the plan's own
};

struct ForwardState {
  AttentionResult result;
  PlannedCall planned;
};

class Method {
 public:
  virtual ~Method() = default;

  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual const std::string& meaning() const = 0;  ///< one line
  [[nodiscard]] virtual const std::vector<ParameterSpec>& parameters() const = 0;
  [[nodiscard]] virtual Capabilities capabilities() const = 0;

  /// Empty if the parameters can go with a problem like this, whose data is not read; else what is wrong
  /// (checked before anything runs), to follow the method's name.
  [[nodiscard]] virtual std::string check(const AttentionProblem& shapes, const Parameters& parameters) const;
  /// Empty if plans with these parameters have a gradient; else why not, to follow the method's name.
  [[nodiscard]] virtual std::string no_gradient(const Parameters&) const { return {}; }
  /// Whether these parameters want Call::mask, which programs read from the file that the parameter kMaskPath
  /// names.
  [[nodiscard]] virtual bool wants_callers_mask(const Parameters&) const { return false; }

  /// Score entries that a call on such shapes computes: for estimates of FLOPs and time before running.
  [[nodiscard]] virtual double estimated_entries(const AttentionProblem& shapes,
                                                 const Parameters& parameters) const = 0;
  /// Bytes that plans hold, for estimates before running.
  [[nodiscard]] virtual double estimated_bytes(const AttentionProblem& shapes,
                                               const Parameters& parameters) const = 0;

  /// Deterministic for (problem, call) and any number of threads within one instruction set.
  [[nodiscard]] virtual PlannedCall plan(const BoundProblem& bound, const Call& call) const = 0;
  /// The masks of `plan` alone; null for a method without a mask.
  [[nodiscard]] virtual std::shared_ptr<const PlannedMasks> plan_masks(const BoundProblem& bound,
                                                                       const Call& call) const;
};

/// A method's name, meaning, capabilities and parameters, said once.
struct MethodDescription {
  std::string name;
  std::string meaning;
  Capabilities capabilities;
  std::vector<ParameterSpec> parameters;
};

class DescribedMethod : public Method {
 public:
  explicit DescribedMethod(MethodDescription description) : description_(std::move(description)) {}

  [[nodiscard]] const std::string& name() const final { return description_.name; }
  [[nodiscard]] const std::string& meaning() const final { return description_.meaning; }
  [[nodiscard]] const std::vector<ParameterSpec>& parameters() const final { return description_.parameters; }
  [[nodiscard]] Capabilities capabilities() const final { return description_.capabilities; }

 private:
  MethodDescription description_;
};

/// Score entries of exact attention on such shapes, all heads together (with a window: at most).
[[nodiscard]] double exact_entries(const AttentionProblem& shapes);

/// Runs what was planned.
[[nodiscard]] ForwardState run_planned(const Engine& engine, const BoundProblem& bound, PlannedCall planned);

}  // namespace hyperattn
