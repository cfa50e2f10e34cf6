// What a configuration calls a backend: a method on an engine. Its parameter `engine` chooses another one;
// `reference` and `dense` are names of `exact` on the engines of these names.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "algorithms/engine.h"
#include "algorithms/method.h"

namespace hyperattn {

/// The parameter that chooses the engine of a backend with the name of its method.
inline constexpr const char* kEngineParameter = "engine";

class Backend {
 public:
  /// `of_engines`: what can be set besides the method's parameters.
  Backend(std::string name, std::string meaning, const Method& method, const Engine& engine,
          const std::vector<ParameterSpec>& of_engines);
  Backend(std::string name, std::string meaning, const Method& method, const Engine& engine);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::string& meaning() const { return meaning_; }
  [[nodiscard]] const Method& method() const { return method_; }
  [[nodiscard]] const Engine& engine() const { return engine_; }
  /// Those of the method, then `engine` and those of the engines.
  [[nodiscard]] const std::vector<ParameterSpec>& parameters() const { return parameters_; }

  /// Empty if it can be called with these parameters on a problem of this shape; else what is wrong, to
  /// follow the backend's name (checked before anything runs).
  [[nodiscard]] std::string check(const AttentionProblem& shapes, const Parameters& parameters) const;
  /// Empty if `backward` can be called with these parameters; else why not, to follow the backend's name.
  [[nodiscard]] std::string no_gradient(const Parameters& parameters) const;
  [[nodiscard]] double estimated_entries(const AttentionProblem& shapes, const Parameters& parameters) const;
  /// Bytes needed beyond inputs, output and lse, for estimates before running.
  [[nodiscard]] double estimated_bytes(const AttentionProblem& shapes, const Parameters& parameters) const;

  /// Whether speedups are over this backend: exact attention, on an engine that is meant to be fast.
  [[nodiscard]] bool is_baseline() const;
  /// Where and in which precision it computes, such as "cpu fp32": speedups compare calls with equal ones.
  [[nodiscard]] std::string ground(const Parameters& parameters) const;

  /// The problem where the engine computes; calls on the same problem can share it.
  [[nodiscard]] std::unique_ptr<BoundProblem> bind(const AttentionProblem& problem,
                                                   const Parameters& parameters) const;

  /// out and lse, planned and run. Deterministic for (problem, call) and any number of threads within one
  /// instruction set.
  [[nodiscard]] ForwardState forward(const BoundProblem& bound, const Call& call) const;
  [[nodiscard]] ForwardState forward(const AttentionProblem& problem, const Call& call) const;

  /// The exact gradient of this backend's own forward, with its random choices held fixed: the forward's
  /// plan, run backwards. dout has out's shape. Error(usage) where there is no gradient (`no_gradient`).
  [[nodiscard]] AttentionGradients backward(const BoundProblem& bound, const Call& call,
                                            const ForwardState& forward, TensorView<const float> dout) const;
  [[nodiscard]] AttentionGradients backward(const AttentionProblem& problem, const Call& call,
                                            const ForwardState& forward, TensorView<const float> dout) const;

 private:
  std::string name_;
  std::string meaning_;
  const Method& method_;
  const Engine& engine_;
  std::vector<ParameterSpec> parameters_;
};

/// The backends with a name of their own, in the order in which `hyperattn list` prints them: every method on
/// the default engine, and exact attention on those that run nothing else or are its reference.
[[nodiscard]] const std::vector<const Backend*>& all_backends();
/// The backend of that name, or null.
[[nodiscard]] const Backend* find_backend(const std::string& name);
[[nodiscard]] std::vector<std::string> backend_names();

/// A backend and its parameters, resolved.
struct ChosenBackend {
  const Backend* backend = nullptr;
  Parameters parameters;
};
/// The one that the parameter `engine` chooses, with the defaults that depend on it. Exact attention on an
/// engine that gives it a name is that backend, so that each pair of a method and an engine is one backend,
/// however it was written.
[[nodiscard]] ChosenBackend on_chosen_engine(const Backend& backend, Parameters parameters);

/// The method of a backend on an engine: one of `all_backends` where that is the same pair, else a backend of
/// the method's name. Null if the engine cannot run the method.
[[nodiscard]] const Backend* backend_on(const Method& method, const Engine& engine);

}  // namespace hyperattn
