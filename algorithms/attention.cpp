#include "algorithms/attention.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "algorithms/registry.h"
#include "core/error.h"
#include "core/text.h"

namespace hyperattn {
namespace {

std::string did_you_mean(const std::string& name, const std::vector<std::string>& names) {
  const std::string nearest = nearest_name(name, names);
  if (!nearest.empty()) return "; did you mean '" + nearest + "'?";
  return "; there are " + join(names);
}

template <class Thing>
std::vector<std::string> names_of(const std::vector<const Thing*>& things) {
  std::vector<std::string> names;
  for (const Thing* thing : things) names.push_back(thing->name());
  return names;
}

const Backend& choose_backend(const std::string& method, const std::string& engine) {
  const Backend* backend = find_backend(method);
  if (backend == nullptr)
    fail_usage("there is no method '" + method + "'" + did_you_mean(method, backend_names()));
  if (engine.empty()) return *backend;
  const Engine* wanted = find_engine(engine);
  if (wanted == nullptr)
    fail_usage("there is no engine '" + engine + "'" + did_you_mean(engine, names_of(all_engines())));
  if (backend->name() != backend->method().name() && &backend->engine() != wanted)
    fail_usage("method '" + method + "' is " + backend->method().name() + " attention on engine '" +
               backend->engine().name() + "'; for another engine call it '" + backend->method().name() + "'");
  const Backend* pair = backend_on(backend->method(), *wanted);
  if (pair == nullptr)
    fail_usage("method '" + method + "' cannot run on engine '" + engine + "', which " +
               wanted->only_exact());
  return *pair;
}

/// An integer where a number is wanted.
ParameterValue converted(const ParameterSpec& spec, const ParameterValue& value) {
  const auto* integer = std::get_if<int64_t>(&value);
  if (spec.type == ParameterType::number && integer != nullptr) return static_cast<double>(*integer);
  return value;
}

}  // namespace

AttentionProblem attention_problem(TensorView<const float> query, TensorView<const float> key,
                                   TensorView<const float> value, bool causal) {
  AttentionProblem problem;
  problem.query = query;
  problem.key = key;
  problem.value = value;
  problem.scale = default_scale(std::max<int64_t>(query.shape.dim, 1));
  problem.causal = causal;
  return problem;
}

Parameters resolve_settings(const std::string& owner, const std::vector<ParameterSpec>& specs,
                            const Settings& settings) {
  Parameters parameters = independent_defaults(specs);
  std::vector<std::string> names;
  for (const ParameterSpec& spec : specs) names.push_back(spec.name);
  for (const auto& [name, given] : settings) {
    const ParameterSpec* spec = find_spec(specs, name);
    if (spec == nullptr) {
      if (names.empty()) fail_usage(owner + " has no settings, but '" + name + "' is given");
      fail_usage(owner + " has no setting '" + name + "'" + did_you_mean(name, names));
    }
    const ParameterValue value = converted(*spec, given);
    if (const std::string wrong = check_parameter(*spec, value); !wrong.empty())
      fail_usage(owner + ": " + name + " " + wrong);
    parameters.set(name, value);
  }
  complete_defaults(specs, parameters);
  return parameters;
}

Attention::Attention(const std::string& method, const Settings& settings, AttentionOptions options)
    : backend_(&choose_backend(method, options.engine)) {
  Settings all = settings;
  if (!options.engine.empty() && find_spec(backend_->parameters(), kEngineParameter) != nullptr)
    all.emplace(kEngineParameter, options.engine);
  call_.parameters = resolve_settings("method '" + method + "'", backend_->parameters(), all);
  if (!options.engine.empty() && call_.parameters.has(kEngineParameter) &&
      call_.parameters.text(kEngineParameter) != options.engine)
    fail_usage("method '" + method + "': the engine is '" + options.engine + "', but its setting says '" +
               call_.parameters.text(kEngineParameter) + "'");
  ChosenBackend chosen = on_chosen_engine(*backend_, std::move(call_.parameters));
  backend_ = chosen.backend;
  call_.parameters = std::move(chosen.parameters);
  call_.seed = options.seed;
  call_.trial = options.trial;
  call_.mask = options.mask;
  if (call_.mask != nullptr && backend_->method().wants_callers_mask(call_.parameters))
    call_.parameters.set(kMaskPath, std::string("in memory"));
}

void Attention::check(const AttentionProblem& problem) const {
  check_problem(problem);
  const std::string wrong = backend_->check(problem, call_.parameters);
  if (!wrong.empty()) fail_usage("method '" + backend_->name() + "': " + wrong);
  if (call_.mask == nullptr && backend_->method().wants_callers_mask(call_.parameters))
    fail_usage("method '" + backend_->name() + "': mask: file needs a mask of the caller's own");
  check_finite(problem.query, "q");
  check_finite(problem.key, "k");
  check_finite(problem.value, "v");
}

ForwardState Attention::forward(const AttentionProblem& problem) const {
  check(problem);
  return forward(*backend_->bind(problem, call_.parameters));
}

ForwardState Attention::forward(const BoundProblem& bound) const {
  ForwardState state = backend_->forward(bound, call_);
  check_result(state.result);
  return state;
}

AttentionGradients Attention::backward(const AttentionProblem& problem, const ForwardState& state,
                                       TensorView<const float> dout) const {
  check_finite(dout, "dout");
  AttentionGradients gradients = backend_->backward(problem, call_, state, dout);
  check_gradients(gradients);
  return gradients;
}

}  // namespace hyperattn
