// Declarations say with which other parameters a parameter has an effect. What is declared to have none must
// leave every bit of the output as it is, and what conditions name must exist.
#include <catch2/catch.hpp>
#include <cstring>
#include <optional>

#include "algorithms/masks/heavy_mask.h"
#include "tests/algorithms/plan_checks.h"
#include "tests/algorithms/variants.h"

namespace hyperattn::testing {
namespace {

/// Values of a parameter to try beside each other.
std::vector<ParameterValue> some_values(const ParameterSpec& spec) {
  std::vector<ParameterValue> values;
  if (spec.type == ParameterType::boolean) return {false, true};
  if (spec.type == ParameterType::integer) return {int64_t{8}, int64_t{32}};
  if (spec.type == ParameterType::number) return {1.5, 4.0};
  if (spec.type == ParameterType::text) return {std::string("one.h5"), std::string("two.h5")};
  for (const std::string& choice : spec.choices) values.emplace_back(choice);
  return values;
}

/// Sizes at which all parts of a method have something to do on the test's problem.
Parameters small_parameters(const Backend& backend) {
  Parameters parameters = default_parameters(backend.parameters());
  for (const auto& [name, value] :
       {std::pair{"block_size", 16}, std::pair{"bucket_count", 8}, std::pair{"min_seq_len", 32},
        std::pair{"sample_size", 12}, std::pair{"coreset_size", 32}})
    if (parameters.has(name)) parameters.set(name, int64_t{value});
  return parameters;
}

HeavyMask block_mask(int64_t rows) {
  HeavyMask::Pattern pattern;
  for (int64_t begin = 0; begin < rows; begin += 20) {
    const int64_t end = std::min(begin + 20, rows);
    pattern.blocks.push_back({begin, end, begin, end});
  }
  return HeavyMask({pattern});
}

bool same_bits(const AttentionResult& a, const AttentionResult& b) {
  return std::memcmp(a.out.data(), b.out.data(), sizeof(float) * static_cast<size_t>(a.out.shape().size())) ==
             0 &&
         std::memcmp(a.lse.data(), b.lse.data(), sizeof(float) * static_cast<size_t>(a.lse.shape().size())) ==
             0;
}

/// What conditions may refer to beside the backend's own parameters.
std::vector<ParameterSpec> with_problem(const Backend& backend) {
  std::vector<ParameterSpec> specs = backend.parameters();
  specs.push_back(boolean_parameter("causal", "of the problem"));
  return specs;
}

/// The parameters on which the effect of `spec` depends, also through others.
std::vector<ParameterSpec> depends_on(const ParameterSpec& spec, const Backend& backend) {
  const std::vector<ParameterSpec> specs = with_problem(backend);
  std::vector<ParameterSpec> found;
  std::vector<ParameterSpec> open = {spec};
  while (!open.empty()) {
    const ParameterSpec next = open.back();
    open.pop_back();
    for (const EffectCondition& condition : next.conditions)
      for (const auto& alternative : condition.alternatives) {
        const ParameterSpec* other = find_spec(specs, alternative.parameter);
        if (other == nullptr || find_spec(found, other->name) != nullptr) continue;
        found.push_back(*other);
        open.push_back(*other);
      }
  }
  return found;
}

/// Every setting of these, one parameter changed at a time.
std::vector<Parameters> settings_for(const ParameterSpec& spec, const Backend& backend) {
  std::vector<Parameters> settings;
  for (const ParameterSpec& other : depends_on(spec, backend)) {
    std::vector<ParameterValue> values = some_values(other);
    if (other.minimum == 0) values.emplace_back(int64_t{0});
    for (const ParameterValue& value : values) {
      settings.push_back(small_parameters(backend));
      settings.back().set("causal", false);
      settings.back().set(other.name, value);
    }
  }
  return settings;
}

/// The output with one value of `spec`, on the engine that the setting chooses; nothing where that refuses it
/// or is not here.
std::optional<AttentionResult> output_with(const ParameterSpec& spec, const ParameterValue& value,
                                           const Parameters& setting, const Backend& asked) {
  const int64_t rows = 101;
  const bool causal = setting.boolean("causal");
  const RandomProblem p({rows, rows, 5, 3, 1, 2, causal});
  const HeavyMask mask = block_mask(rows);
  Call call;
  call.parameters = setting;
  call.parameters.erase("causal");
  call.parameters.set(spec.name, value);
  const ChosenBackend chosen = on_chosen_engine(asked, call.parameters);
  const Backend& backend = *chosen.backend;
  call.parameters = chosen.parameters;
  if (!backend.engine().available().empty()) return {};
  call.seed = 7;
  if (!backend.check(p.problem, call.parameters).empty()) return {};
  if (backend.method().wants_callers_mask(call.parameters)) call.mask = &mask;
  return backend.forward(p.problem, call).result;
}

/// How many pairs of values were found in which `spec` is said to have no effect; their bits are compared.
int check_bits(const ParameterSpec& spec, const Backend& backend) {
  int found = 0;
  for (const Parameters& setting : settings_for(spec, backend)) {
    const std::string why = why_no_effect(spec, with_problem(backend), setting);
    if (why.empty()) continue;
    std::optional<AttentionResult> first;
    for (const ParameterValue& value : some_values(spec)) {
      CAPTURE(backend.name(), spec.name, why, hyperattn::to_string(value));
      std::optional<AttentionResult> result = output_with(spec, value, setting, backend);
      if (first && result) {
        CHECK(same_bits(*first, *result));
        ++found;
      }
      if (!first) first = std::move(result);
    }
  }
  return found;
}

}  // namespace

TEST_CASE("a parameter that is declared to have no effect leaves every bit as it is") {
  for (const Backend* backend : all_backends())
    for (const ParameterSpec& spec : backend->parameters()) {
      if (spec.conditions.empty()) continue;
      CAPTURE(backend->name(), spec.name);
      const int pairs = check_bits(spec, *backend);
      // Where the method's own draws replace the residual, any other than `sample` is refused.
      CHECK((pairs > 0 || spec.name == "residual"));
    }
}

TEST_CASE("conditions name declared parameters and values that these can have") {
  for (const Backend* backend : all_backends()) {
    const std::vector<ParameterSpec> specs = with_problem(*backend);
    for (const ParameterSpec& spec : backend->parameters()) {
      CAPTURE(backend->name(), spec.name);
      CHECK_NOTHROW(why_no_effect(spec, specs, default_parameters(specs)));
      for (const EffectCondition& condition : spec.conditions)
        for (const auto& alternative : condition.alternatives) {
          const ParameterSpec* other = find_spec(specs, alternative.parameter);
          // A method without a residual shares the declarations of masks with those that have one.
          if (other == nullptr && condition.alternatives.size() > 1) continue;
          CAPTURE(alternative.parameter);
          REQUIRE(other != nullptr);
          for (const ParameterValue& value : alternative.values) {
            CAPTURE(hyperattn::to_string(value));
            CHECK(check_parameter(*other, value).empty());
          }
        }
    }
  }
}

TEST_CASE("sizes beyond the problem's take no memory beyond its own") {
  constexpr int64_t kLargest = 2147483647;
  for (const bool causal : {false, true}) {
    const RandomProblem p({70, 101, 8, 8, 1, 2, causal});
    for (const Variant& variant : variants()) {
      const Backend& backend = backend_named(variant.backend);
      for (const ParameterSpec& spec : backend.parameters()) {
        Parameters parameters = call_for(variant.backend, variant.settings).parameters;
        if (spec.type == ParameterType::integer)
          parameters.set(spec.name, kLargest);
        else if (spec.type == ParameterType::integer_list)
          parameters.set(spec.name, IntegerList(parameters.integers(spec.name).size(), kLargest));
        else
          continue;
        if (!backend.check(p.problem, parameters).empty()) continue;  // refused as too large
        INFO(to_string(variant) << ", " << spec.name << (causal ? ", causal" : ""));
        CHECK(backend.estimated_bytes(p.problem, parameters) < 64e6);
      }
    }
  }
}

}  // namespace hyperattn::testing
