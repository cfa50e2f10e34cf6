// The interface of residuals: what stands for the keys outside a row's heavy mask. A residual is declared in
// one file of this folder, with its parameters and its cost, and listed in registry.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "algorithms/bound_problem.h"
#include "algorithms/call.h"
#include "algorithms/masks/node_mask.h"
#include "core/parameters.h"

namespace hyperattn {

/// What the residuals of a call are planned from. All of it must outlive the planner.
struct ResidualRequest {
  const BoundProblem& bound;
  const Call& call;
  const std::vector<HeadNode>& nodes;
  int64_t sample_size = 0;         ///< m ≥ 1: keys that stand for the others; a node with fewer takes all
  int64_t mask_planning_keys = 0;  ///< what planning the mask has cost of it
  bool rows_are_independent = false;  ///< nothing may depend on the node's own queries
};

/// Makes the passes of the request's nodes.
class ResidualPlanner {
 public:
  virtual ~ResidualPlanner() = default;
  /// Before anything else is asked of these nodes, of each once: what is better done for many at once.
  virtual void prepare(const std::vector<size_t>& /*which*/) {}
  /// The passes of node i, whose groups may be those of aligned blocks that are not listed if it takes such:
  /// the mask's entries with weight 1, and what stands for all other keys. Each pass is
  /// in a phase of its own, in this order. Different nodes in parallel.
  [[nodiscard]] virtual std::vector<Pass> passes(size_t i, const NodeMask& mask) const = 0;
  /// Where it reads the ranks of few keys of node i (NodeMask): these keys, counted from the node's first.
  /// Null for all nodes or for none.
  [[nodiscard]] virtual const std::vector<int32_t>* asked_keys(size_t /*i*/) const { return nullptr; }
  /// Whether it takes masks whose aligned blocks are not listed.
  [[nodiscard]] virtual bool takes_unlisted_blocks() const { return false; }
  /// Adds what the passes of all nodes, once made, have to tell.
  virtual void report(Diagnostics& /*notes*/) const {}
};

class Residual {
 public:
  virtual ~Residual() = default;

  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual const std::string& meaning() const = 0;  ///< one line
  /// Those that have effect only with this residual.
  [[nodiscard]] virtual const std::vector<ParameterSpec>& parameters() const = 0;

  /// Empty if the parameters go together; else what is wrong.
  [[nodiscard]] virtual std::string check(const Parameters&) const { return {}; }
  /// Whether runs of keys must lie in or out of a row's mask (Mask::whole_blocks).
  [[nodiscard]] virtual bool needs_whole_blocks() const { return false; }
  /// Whether its plans want Plan::clip_to_values, because a part of its weights is negative.
  [[nodiscard]] virtual bool clips_to_values() const { return false; }
  /// Empty if its plans have a gradient; else why not, to follow the method's name.
  [[nodiscard]] virtual std::string no_gradient() const { return {}; }
  /// Whether it stands for the other keys at all (`none` does not), and whether sample_size counts keys of
  /// it.
  [[nodiscard]] virtual bool stands_for_keys() const { return true; }
  [[nodiscard]] virtual bool counts_keys() const { return true; }
  /// Whether rows of one mask group may hold different keys (NodeMask::further). Keys in means cannot be left
  /// out for single rows.
  [[nodiscard]] virtual bool rows_may_differ() const { return false; }
  /// Whether it reads NodeMask::key_ranks.
  [[nodiscard]] virtual bool needs_ranks() const { return true; }

  /// Score entries of a row in a node besides the `masked` ones, for estimates.
  [[nodiscard]] virtual double entries(const AttentionNode& node, double masked, int64_t sample_size,
                                       int64_t head_dim) const;

  /// Random streams are those of the nodes. Independent of threads.
  [[nodiscard]] virtual std::unique_ptr<ResidualPlanner> plan(const ResidualRequest& request) const = 0;
};

/// A residual's name, meaning and parameters, said once.
struct ResidualDescription {
  std::string name;
  std::string meaning;
  std::vector<ParameterSpec> parameters;
};

class DescribedResidual : public Residual {
 public:
  explicit DescribedResidual(ResidualDescription description) : description_(std::move(description)) {}

  [[nodiscard]] const std::string& name() const final { return description_.name; }
  [[nodiscard]] const std::string& meaning() const final { return description_.meaning; }
  [[nodiscard]] const std::vector<ParameterSpec>& parameters() const final { return description_.parameters; }

 private:
  ResidualDescription description_;
};

/// A planner that is one function of (i, mask).
template <class Make>
class PassesByNode final : public ResidualPlanner {
 public:
  explicit PassesByNode(Make make) : make_(std::move(make)) {}
  [[nodiscard]] std::vector<Pass> passes(size_t i, const NodeMask& mask) const override {
    return make_(i, mask);
  }

 private:
  Make make_;
};
template <class Make>
[[nodiscard]] std::unique_ptr<ResidualPlanner> passes_by_node(Make make) {
  return std::make_unique<PassesByNode<Make>>(std::move(make));
}

/// Whether the engine that has sorted the rows of such a mask can find its groups itself (SampledBlocks).
[[nodiscard]] bool can_leave_blocks(const BoundProblem& bound, const NodeMask& mask);

/// The entries of the mask itself (and of none of its further masks) with weight 1.
[[nodiscard]] Pass mask_pass(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask);

}  // namespace hyperattn
