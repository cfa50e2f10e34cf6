// The KEY=VALUE arguments of `hyperattn attend`: one backend, its parameters and those of the problem.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/parameters.h"
#include "experiments/config/registry.h"

namespace hyperattn {

struct AttendArguments {
  const Backend* backend = nullptr;
  Parameters parameters;  ///< the backend's, defaults filled in
  bool causal = false;
  std::optional<double> scale;  ///< absent: 1/√d
  uint64_t seed = 0;
  uint32_t trial = 0;
};

/// `backend=NAME` is required; other keys are the backend's parameters, causal, scale, seed and trial.
/// Throws one Error(usage) that lists every problem.
[[nodiscard]] AttendArguments read_attend_arguments(const std::vector<std::string>& arguments,
                                                    const Registry& registry = default_registry());

}  // namespace hyperattn
