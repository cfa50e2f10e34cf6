// The cases of an experiment: product of the axes, equal points once, predicates applied.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "algorithms/problem.h"
#include "core/parameters.h"
#include "experiments/config/config.h"
#include "experiments/inputs/input_source.h"

namespace hyperattn {

/// More cases than this are refused before they are made.
inline constexpr int64_t kMaximumCases = 100'000;
/// Cases times trials that one results file can be planned for.
inline constexpr int64_t kMaximumTrials = 2'000'000;

/// Q, K, V and the problem on them. Cases of one input point share inputs, exact results, baseline and shard.
struct InputPoint {
  std::string id;  ///< 16 hexadecimal digits; depends on the source, the parameters below and the seed
  const InputSource* source = nullptr;
  Parameters parameters;           ///< the source's own, resolved
  std::vector<std::string> swept;  ///< those that an axis set
  bool causal = false;
  std::optional<double> scale;  ///< absent: 1/√d
  std::string label;
  bool label_tells_apart = false;     ///< another point is equal but for its label
  std::optional<InputShapes> shapes;  ///< absent where the source refuses; `validate_cases` says why
};

/// The problem that a point's shapes promise, without data.
[[nodiscard]] AttentionProblem problem_of(const InputPoint& input);

struct Case {
  std::string id;    ///< 16 hexadecimal digits; a hash of `case_parameters_json`
  size_t input = 0;  ///< position in Grid::inputs
  const Backend* backend = nullptr;
  Parameters parameters;           ///< the backend's, resolved
  std::vector<std::string> swept;  ///< those that an axis set
  PassKind pass = PassKind::forward;
};

/// Combinations of axes that differ from others only in parameters that have no effect: they are not run.
struct Collapsed {
  std::string parameter;  ///< or several, with commas
  std::string why;        ///< "has effect only with mask: sort_lsh, but mask is band"
  int64_t count = 0;
  std::string example;  ///< the case that stands for them
};

/// What one predicate of `where:` dropped.
struct Dropped {
  std::string predicate;
  int64_t count = 0;
  std::vector<std::string> examples;  ///< descriptions of the first few
};

struct Grid {
  std::vector<InputPoint> inputs;
  std::vector<Case> cases;       ///< grouped by input point, in the order of `inputs`, then of the backends
  std::vector<Dropped> dropped;  ///< one for each predicate that dropped any
  std::vector<Collapsed> collapsed;
};

/// Deterministic. Asks each source for its shapes (a `file` source reads headers). Throws Error(usage) for a
/// predicate that cannot be evaluated, for more than kMaximumCases or kMaximumTrials, and when no case is
/// left.
[[nodiscard]] Grid expand_grid(const ExperimentConfig& config);

/// Throws Error(usage) where cases × trials are more than kMaximumTrials.
void check_trial_count(const ExperimentConfig& config, size_t cases);

/// Refuses, all at once, what cannot run: parameters that the source or the backend refuses for these shapes,
/// causal or backward passes that the backend does not have. Throws Error(usage), or Error(input) where only
/// input files are to blame.
void validate_cases(const ExperimentConfig& config, const Grid& grid);

/// All resolved parameters of a case as one canonical JSON object: schema, seed, pass, source, inputs,
/// problem, backend and their parameters. The id is its hash.
[[nodiscard]] std::string case_parameters_json(const ExperimentConfig& config, const Grid& grid,
                                               const Case& grid_case);

/// A short line for people: "hyper block_size=64 on gaussian seq_len=4096". Parameters at their
/// defaults are left out unless an axis set them.
[[nodiscard]] std::string describe_case(const InputPoint& input, const Case& grid_case);

}  // namespace hyperattn
