#include "algorithms/backend.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "algorithms/registry.h"
#include "core/error.h"

namespace hyperattn {
namespace {

const Method& exact_method() {
  return *find_method("exact");
}

bool can_run(const Engine& engine, const Method& method) {
  return &method == &exact_method() || engine.only_exact().empty();
}

/// Engines that have a parameter of one name have one parameter: they agree in its type. Its default is that
/// of the first of them, and those that have another are named.
void merge_parameter(const Engine& engine, const ParameterSpec& spec, std::vector<ParameterSpec>& merged) {
  const auto known = std::find_if(merged.begin(), merged.end(),
                                  [&](const ParameterSpec& other) { return other.name == spec.name; });
  if (known == merged.end()) {
    merged.push_back(spec.only_with(kEngineParameter, {engine.name()}));
    return;
  }
  if (known->type != spec.type || !known->default_value || !spec.default_value)
    throw std::logic_error("engines declare '" + spec.name + "' differently");
  if (known->default_value != spec.default_value)
    known->other_defaults.push_back({kEngineParameter, engine.name(), *spec.default_value});
  for (const std::string& choice : spec.choices)
    if (std::find(known->choices.begin(), known->choices.end(), choice) == known->choices.end())
      known->choices.push_back(choice);
  known->conditions.front().alternatives.front().values.emplace_back(engine.name());
}

/// `engine`, and what can be set of those that run the method.
std::vector<ParameterSpec> engine_parameters(const Method& method) {
  std::vector<std::string> names;
  std::vector<std::string> meanings;
  std::vector<ParameterSpec> merged;
  for (const Engine* engine : all_engines()) {
    if (!can_run(*engine, method)) continue;
    names.push_back(engine->name());
    meanings.push_back(engine->meaning());
    for (const ParameterSpec& spec : engine->parameters()) merge_parameter(*engine, spec, merged);
  }
  ParameterSpec choice = choice_parameter(kEngineParameter, names, "what runs the method's plans")
                             .by_default(default_engine().name());
  choice.choice_meanings = meanings;
  merged.insert(merged.begin(), choice);
  return merged;
}

/// What one engine of several takes of a parameter that they share may be less than what is declared.
std::string wrong_engine_parameter(const Engine& engine, const Parameters& parameters) {
  for (const ParameterSpec& spec : engine.parameters()) {
    if (!parameters.has(spec.name)) continue;
    const std::string wrong = check_parameter(spec, parameters.all().at(spec.name));
    if (!wrong.empty()) return spec.name + " of engine '" + engine.name() + "' " + wrong;
  }
  return {};
}

/// Every pair that can run, named ones first.
const std::vector<std::unique_ptr<const Backend>>& all_pairs() {
  static const std::vector<std::unique_ptr<const Backend>> pairs = [] {
    std::vector<std::unique_ptr<const Backend>> all;
    for (const Engine* engine : all_engines())
      if (engine != &default_engine() && engine->names_exact())
        all.push_back(std::make_unique<const Backend>(engine->name(), "exact attention: " + engine->meaning(),
                                                      exact_method(), *engine));
    for (const Engine* engine : all_engines())
      for (const Method* method : all_methods()) {
        const bool named = engine != &default_engine() && engine->names_exact() && method == &exact_method();
        if (!named && can_run(*engine, *method))
          all.push_back(std::make_unique<const Backend>(method->name(), method->meaning(), *method, *engine,
                                                        engine_parameters(*method)));
      }
    return all;
  }();
  return pairs;
}

}  // namespace

Backend::Backend(std::string name, std::string meaning, const Method& method, const Engine& engine,
                 const std::vector<ParameterSpec>& of_engines)
    : name_(std::move(name)),
      meaning_(std::move(meaning)),
      method_(method),
      engine_(engine),
      parameters_(method.parameters()) {
  parameters_.insert(parameters_.end(), of_engines.begin(), of_engines.end());
}

Backend::Backend(std::string name, std::string meaning, const Method& method, const Engine& engine)
    : Backend(std::move(name), std::move(meaning), method, engine, engine.parameters()) {}

std::string Backend::check(const AttentionProblem& shapes, const Parameters& parameters) const {
  if (std::string wrong = method_.check(shapes, parameters); !wrong.empty()) return wrong;
  if (std::string wrong = wrong_engine_parameter(engine_, parameters); !wrong.empty()) return wrong;
  return engine_.refuses(shapes, parameters);
}

std::string Backend::no_gradient(const Parameters& parameters) const {
  if (std::string none = engine_.no_gradient(); !none.empty()) return none;
  return method_.no_gradient(parameters);
}

double Backend::estimated_entries(const AttentionProblem& shapes, const Parameters& parameters) const {
  return method_.estimated_entries(shapes, parameters);
}

double Backend::estimated_bytes(const AttentionProblem& shapes, const Parameters& parameters) const {
  return engine_.estimated_bytes(shapes, parameters) + method_.estimated_bytes(shapes, parameters);
}

bool Backend::is_baseline() const {
  return &method_ == &exact_method() && engine_.is_fast();
}

std::string Backend::ground(const Parameters& parameters) const {
  return engine_.device() + " " + engine_.precision(parameters);
}

std::unique_ptr<BoundProblem> Backend::bind(const AttentionProblem& problem,
                                            const Parameters& parameters) const {
  if (const std::string missing = engine_.available(); !missing.empty())
    fail_environment("engine '" + engine_.name() + "' " + missing);
  return engine_.bind(problem, parameters);
}

ForwardState Backend::forward(const BoundProblem& bound, const Call& call) const {
  return run_planned(engine_, bound, method_.plan(bound, call));
}

ForwardState Backend::forward(const AttentionProblem& problem, const Call& call) const {
  return forward(*bind(problem, call.parameters), call);
}

AttentionGradients Backend::backward(const BoundProblem& bound, const Call& call, const ForwardState& forward,
                                     TensorView<const float> dout) const {
  const std::string refusal = no_gradient(call.parameters);
  if (!refusal.empty()) fail_usage("backend '" + name() + "' " + refusal);
  return engine_.backward(bound, *forward.planned.plan, forward.result, dout);
}

AttentionGradients Backend::backward(const AttentionProblem& problem, const Call& call,
                                     const ForwardState& forward, TensorView<const float> dout) const {
  return backward(*bind(problem, call.parameters), call, forward, dout);
}

const std::vector<const Backend*>& all_backends() {
  static const std::vector<const Backend*> named = [] {
    std::vector<const Backend*> all;
    for (const auto& pair : all_pairs())
      if (pair->name() != pair->method().name() || &pair->engine() == &default_engine())
        all.push_back(pair.get());
    return all;
  }();
  return named;
}

const Backend* find_backend(const std::string& name) {
  for (const Backend* backend : all_backends())
    if (backend->name() == name) return backend;
  return nullptr;
}

std::vector<std::string> backend_names() {
  std::vector<std::string> names;
  for (const Backend* backend : all_backends()) names.push_back(backend->name());
  return names;
}

ChosenBackend on_chosen_engine(const Backend& backend, Parameters parameters) {
  complete_defaults(backend.parameters(), parameters);
  if (!parameters.has(kEngineParameter)) return {&backend, std::move(parameters)};
  const Engine* engine = find_engine(parameters.text(kEngineParameter));
  const Backend* chosen = engine == nullptr ? nullptr : backend_on(backend.method(), *engine);
  if (chosen == nullptr)
    throw std::logic_error("'" + backend.name() + "' declares an engine that cannot run it");
  if (find_spec(chosen->parameters(), kEngineParameter) == nullptr)
    for (const ParameterSpec& spec : backend.parameters())
      if (find_spec(chosen->parameters(), spec.name) == nullptr) parameters.erase(spec.name);
  return {chosen, std::move(parameters)};
}

const Backend* backend_on(const Method& method, const Engine& engine) {
  for (const auto& pair : all_pairs())
    if (&pair->method() == &method && &pair->engine() == &engine) return pair.get();
  return nullptr;
}

const Backend& exact_backend() {
  return *backend_on(exact_method(), default_engine());
}

}  // namespace hyperattn
