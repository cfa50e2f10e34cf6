// The KEY=VALUE arguments of commands that call one backend: its parameters, and those of the call.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/parameters.h"
#include "experiments/config/registry.h"

namespace hyperattn {

struct BackendArguments {
  const Backend* backend = nullptr;
  Parameters parameters;  ///< the backend's, defaults filled in
  Parameters of_call;     ///< the others, defaults filled in
  uint64_t seed = 0;
};

/// `backend=NAME` is required; other keys are the backend's parameters, those of `of_call`, and seed.
/// `prescribed` are arguments that the user did not write: they may be without an effect. A command without
/// a parameter `causal` has no causal problems. What the registry is without is refused by name. Throws one
/// Error(usage) that lists every problem and names the command.
[[nodiscard]] BackendArguments read_backend_arguments(const std::string& command,
                                                      const std::vector<std::string>& arguments,
                                                      const std::vector<ParameterSpec>& of_call,
                                                      const Registry& registry = default_registry(),
                                                      const std::vector<std::string>& prescribed = {});

/// Of `hyperattn attend`.
struct AttendArguments {
  const Backend* backend = nullptr;
  Parameters parameters;  ///< the backend's, defaults filled in
  bool causal = false;
  std::optional<double> scale;  ///< absent: 1/√d
  uint64_t seed = 0;
  uint32_t trial = 0;
};

/// The parameters of the call are causal, scale and trial.
[[nodiscard]] AttendArguments read_attend_arguments(const std::vector<std::string>& arguments,
                                                    const Registry& registry = default_registry(),
                                                    const std::vector<std::string>& prescribed = {});

}  // namespace hyperattn
