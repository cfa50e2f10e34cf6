// The interface of heavy masks: which entries are computed exactly (paper, section 3). A mask is declared in
// one file of this folder, with its parameters and its cost, and listed in registry.cpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "algorithms/bound_problem.h"
#include "algorithms/call.h"
#include "algorithms/masks/node_mask.h"
#include "core/parameters.h"

namespace hyperattn {

/// The parameter that names the file of a caller's own mask.
inline constexpr const char* kMaskPath = "mask_path";

/// Wall time of planning, by stage.
struct PlanningSeconds {
  double hash = 0;
  double sort = 0;
  double draw = 0;
};

/// What the masks of a call are planned from. All of it must outlive the planner.
struct MaskRequest {
  const BoundProblem& bound;
  const Call& call;
  const std::vector<HeadNode>& nodes;
  bool want_ranks = false;  ///< whether NodeMask::key_ranks will be read
  PlanningSeconds* seconds = nullptr;
  /// Where no other ranks will be read: the keys of node i, counted from its first, whose ranks will be. Null
  /// for all nodes or for none.
  std::function<const std::vector<int32_t>*(size_t)> asked_keys = nullptr;
  /// Who reads a mask takes it with block_size and without groups, where blocks have kLeftBlockRows rows.
  bool takes_unlisted_blocks = false;
};

/// Makes the masks of the request's nodes.
class MaskPlanner {
 public:
  virtual ~MaskPlanner() = default;
  /// Before the masks of these nodes are taken, of each node once: what is better done for many at once.
  virtual void prepare(const std::vector<size_t>& /*which*/) {}
  /// Whether the mask of node i comes without its groups, which takes no time to plan.
  [[nodiscard]] virtual bool leaves_blocks(size_t /*i*/) const { return false; }
  /// What planning one of these nodes takes, about.
  [[nodiscard]] double microseconds(const std::vector<size_t>& which) const {
    const bool are_left =
        std::all_of(which.begin(), which.end(), [this](size_t i) { return leaves_blocks(i); });
    return are_left ? 0.5 : 50;
  }
  /// The mask of node i, once; different nodes in parallel. A node that is planned by itself is planned here,
  /// so that what its mask has read is still in cache for its residual.
  [[nodiscard]] virtual NodeMask take(size_t i) = 0;
};

class Mask {
 public:
  virtual ~Mask() = default;

  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual const std::string& meaning() const = 0;  ///< one line
  /// Those that have effect only with this mask.
  [[nodiscard]] virtual const std::vector<ParameterSpec>& parameters() const = 0;

  /// Empty if the parameters go together; else what is wrong.
  [[nodiscard]] virtual std::string check(const Parameters&) const { return {}; }
  /// Whether a row's mask is a whole number of blocks of ranks, so that runs of keys lie in or out of it.
  [[nodiscard]] virtual bool whole_blocks(const Parameters&) const { return false; }
  /// Whether it names keys by their places in the sequence, so that all of them must be there.
  [[nodiscard]] virtual bool names_keys() const { return false; }
  /// Whether masks have further ones, so that rows of a group differ (NodeMask::further).
  [[nodiscard]] virtual bool is_union(const Parameters&) const { return false; }
  /// Whether a row's mask depends on nothing but this row and the keys.
  [[nodiscard]] virtual bool rows_are_independent(const Parameters&) const { return false; }
  /// Whether the mask is the caller's own (Call::mask), read from the file that these parameters name.
  [[nodiscard]] virtual bool is_callers(const Parameters&) const { return false; }

  /// Keys of a row's mask in a node, and what planning costs, in keys a row; both for estimates and budgets.
  [[nodiscard]] virtual double keys(const AttentionNode& node, const Parameters& parameters) const = 0;
  [[nodiscard]] virtual int64_t planning_keys(const Parameters&) const { return 0; }
  /// Bytes that planning holds for each query and for each key.
  [[nodiscard]] virtual double bytes(double /*queries*/, double /*keys*/) const { return 0; }

  /// Error(usage) if a mask of the caller's own is wanted and there is none, Error(input) if it or a replay
  /// does not fit the problem. Independent of threads.
  [[nodiscard]] virtual std::unique_ptr<MaskPlanner> plan(const MaskRequest& request) const = 0;
};

/// A mask's name, meaning and parameters, said once.
struct MaskDescription {
  std::string name;
  std::string meaning;
  std::vector<ParameterSpec> parameters;
};

class DescribedMask : public Mask {
 public:
  explicit DescribedMask(MaskDescription description) : description_(std::move(description)) {}

  [[nodiscard]] const std::string& name() const final { return description_.name; }
  [[nodiscard]] const std::string& meaning() const final { return description_.meaning; }
  [[nodiscard]] const std::vector<ParameterSpec>& parameters() const final { return description_.parameters; }

 private:
  MaskDescription description_;
};

/// A planner that makes each node's mask by itself.
template <class Make>
class NodeByNode final : public MaskPlanner {
 public:
  explicit NodeByNode(Make make) : make_(std::move(make)) {}
  [[nodiscard]] NodeMask take(size_t i) override { return make_(i); }

 private:
  Make make_;
};
template <class Make>
[[nodiscard]] std::unique_ptr<MaskPlanner> node_by_node(Make make) {
  return std::make_unique<NodeByNode<Make>>(std::move(make));
}

}  // namespace hyperattn
