// Runs of keys, each replaced by a weighted mean key with a weighted mean value.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "algorithms/plan.h"
#include "algorithms/problem.h"

namespace hyperattn {

struct KeyRuns {
  std::vector<int32_t> members;  ///< key rows of the problem, run by run
  std::vector<int64_t> begins;   ///< count + 1 offsets into members
  std::vector<float> shares;     ///< one for each member; they add up to 1 in each run

  [[nodiscard]] int64_t count() const { return static_cast<int64_t>(begins.size()) - 1; }
  [[nodiscard]] int64_t begin(int64_t run) const { return begins[static_cast<size_t>(run)]; }
  [[nodiscard]] int64_t size(int64_t run) const { return begin(run + 1) - begin(run); }
};

/// Σ share·key and Σ share·value of every run; members are not filled in. Float within 64 members, double
/// over these. O(members · (d + d_v)); parallel, independent of threads.
[[nodiscard]] std::shared_ptr<SyntheticKeys> run_means(const AttentionProblem& problem, int64_t head,
                                                       const KeyRuns& runs);

}  // namespace hyperattn
