// The interface of all attention methods, and their registry. Adding one is a file in methods/ and a line in
// backend.cpp.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "algorithms/plan.h"
#include "algorithms/problem.h"
#include "core/parameters.h"

namespace hyperattn {

class HeavyMask;

/// Random choices prescribed from outside (golden cases) instead of drawn.
struct Replay {
  DenseMatrix<double> projections;  ///< (d, r): hash directions; hashes are then computed in double
  /// Query rows N of the node → sampled key rows, flattened (batch·heads, nodes, m); indices count from the
  /// node's first key row. N = n_q when not causal.
  struct Samples {
    int64_t nodes = 1;
    int64_t count = 0;  ///< m
    std::vector<int32_t> rows;
  };
  std::map<int64_t, Samples> samples;
};

/// Everything besides the problem that a call depends on.
struct CallContext {
  Parameters parameters;  ///< resolved against the backend's specs
  uint64_t seed = 0;
  uint32_t trial = 0;
  const HeavyMask* mask = nullptr;  ///< the caller's own mask (mask: file), else null
  const Replay* replay = nullptr;
};

struct Capabilities {
  bool causal = false;
  bool backward = false;
  bool mask = false;             ///< accepts a mask of the caller's own
  bool unequal_lengths = false;  ///< n_q ≠ n_k
  bool replay = false;
  bool approximate = false;  ///< has a heavy mask and an error to measure
};

/// What one forward call leaves for the backward call and for the measures. Backends without a plan
/// (`reference`, `dense`) leave `plan` null.
struct ForwardState {
  AttentionResult result;
  std::shared_ptr<const Plan> plan;
};

class Backend {
 public:
  virtual ~Backend() = default;

  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual const std::string& meaning() const = 0;  ///< one line
  [[nodiscard]] virtual const std::vector<ParameterSpec>& parameters() const = 0;
  [[nodiscard]] virtual Capabilities capabilities() const = 0;

  /// Empty if the parameters can go with a problem of this shape; else what is wrong (checked before anything
  /// runs).
  [[nodiscard]] virtual std::string check(const TensorShape& query, const TensorShape& key,
                                          const TensorShape& value, bool causal,
                                          const Parameters& parameters) const;
  /// Empty if `backward` can be called with these parameters; else why not, to follow the backend's name.
  [[nodiscard]] virtual std::string no_gradient(const Parameters& parameters) const;
  /// Score entries that a call on such shapes computes: for estimates of FLOPs and time before running.
  [[nodiscard]] virtual double estimated_entries(const TensorShape& query, const TensorShape& key,
                                                 bool causal, const Parameters& parameters) const = 0;
  /// Bytes needed beyond inputs, output and lse, for estimates before running.
  [[nodiscard]] virtual double estimated_bytes(const TensorShape& query, const TensorShape& key,
                                               const TensorShape& value,
                                               const Parameters& parameters) const = 0;

  /// out and lse. Deterministic for (problem, context) and any number of threads within one instruction set.
  [[nodiscard]] virtual ForwardState forward(const AttentionProblem& problem,
                                             const CallContext& context) const = 0;

  /// The exact gradient of this backend's own forward, with its random choices held fixed: the forward's
  /// plan, run backwards. dout has out's shape. Throws Error(usage) where there is no gradient
  /// (`no_gradient`).
  [[nodiscard]] virtual AttentionGradients backward(const AttentionProblem& problem,
                                                    const CallContext& context, const ForwardState& forward,
                                                    TensorView<const float> dout) const;

  /// The entries that are computed exactly (the mask M^H) as a plan over the problem's shapes, for the
  /// measures that need it (kappa, mask_mass); null for backends without a mask. Same random choices as
  /// `forward`.
  [[nodiscard]] virtual std::shared_ptr<const Plan> mask_plan(const AttentionProblem& problem,
                                                              const CallContext& context) const;

  /// The entries that are estimated: all others of the problem, or, when causal, of the cross nodes, one
  /// phase for each level. Null where `mask_plan` is.
  [[nodiscard]] virtual std::shared_ptr<const Plan> unmasked_plan(const AttentionProblem& problem,
                                                                  const CallContext& context) const;
};

/// All backends, in the order in which `hyperattn list` prints them.
[[nodiscard]] const std::vector<const Backend*>& all_backends();
/// The backend of that name, or null.
[[nodiscard]] const Backend* find_backend(const std::string& name);
[[nodiscard]] std::vector<std::string> backend_names();

}  // namespace hyperattn
