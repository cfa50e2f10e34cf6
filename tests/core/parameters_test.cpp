// When a declared parameter has an effect, and the sentence that says why it has none.
#include "core/parameters.h"

#include <catch2/catch.hpp>

namespace hyperattn {
namespace {

std::vector<ParameterSpec> drawing() {
  return {
      choice_parameter("shape", {"disc", "ring", "star"}, "what is drawn"),
      integer_parameter("points", "of the star").by_default(5).only_with("shape", {"star"}),
      boolean_parameter("rounded", "points are").only_with("shape", {"star"}).not_with("points", {0}),
      choice_parameter("corner", {"arc", "cut"}, "of a point").only_with("rounded", {true}),
      number_parameter("width", "of the line")
          .by_default(1.0)
          .only_with("shape", {"ring"})
          .or_with("points", {0, 3}),
  };
}

/// The values of `drawing` with some of them changed.
Parameters values(const std::map<std::string, ParameterValue>& changes) {
  Parameters all = default_parameters(drawing());
  for (const auto& [name, value] : changes) all.set(name, value);
  return all;
}

std::string why(const std::string& name, const std::map<std::string, ParameterValue>& changes) {
  const std::vector<ParameterSpec> specs = drawing();
  return why_no_effect(*find_spec(specs, name), specs, values(changes));
}

using Text = std::string;

}  // namespace

TEST_CASE("a parameter without conditions always has an effect") {
  CHECK(why("shape", {}).empty());
  CHECK(effect_text(drawing()[0], drawing()).empty());
}

TEST_CASE("a condition on another parameter's value decides") {
  CHECK(why("points", {}) == "has effect only with shape: star, but shape is disc");
  CHECK(why("points", {{"shape", Text("star")}}).empty());
}

TEST_CASE("all conditions have to hold") {
  CHECK(why("rounded", {{"shape", Text("star")}}).empty());
  CHECK(why("rounded", {{"shape", Text("star")}, {"points", int64_t{0}}}) ==
        "has effect only with points other than 0, but points is 0");
  CHECK(why("rounded", {{"shape", Text("ring")}, {"points", int64_t{0}}}) ==
        "has effect only with shape: star, but shape is ring");
  CHECK(effect_text(drawing()[2], drawing()) == "shape: star and points other than 0");
}

TEST_CASE("what has no effect itself meets no condition") {
  CHECK(why("corner", {{"shape", Text("star")}, {"rounded", true}}).empty());
  CHECK(
      why("corner", {{"rounded", true}}) ==
      "has effect only with rounded: true, and rounded has effect only with shape: star, but shape is disc");
}

TEST_CASE("alternatives of one condition: any of them will do") {
  CHECK(why("width", {{"shape", Text("ring")}}).empty());
  CHECK(why("width", {{"shape", Text("star")}, {"points", int64_t{3}}}).empty());
  CHECK(why("width", {{"shape", Text("star")}}) ==
        "has effect only with shape: ring, or points: 0 or 3, but shape is star");
  CHECK(effect_text(drawing()[4], drawing()) == "shape: ring, or points: 0 or 3");
}

TEST_CASE("alternatives on undeclared parameters are not told") {
  const std::vector<ParameterSpec> specs = {choice_parameter("shape", {"disc", "ring"}, "what is drawn")};
  CHECK(effect_text(drawing()[4], specs) == "shape: ring");
  CHECK(effect_text(drawing()[3], specs) == "rounded: true");
}

TEST_CASE("a whole number and the same number with a point are one value to a condition") {
  CHECK(why("width", {{"shape", Text("star")}, {"points", 3.0}}).empty());
}

TEST_CASE("a condition on parameters that have no value here holds") {
  const ParameterSpec spec = integer_parameter("leaf", "rows").only_with("causal", {true});
  CHECK(why_no_effect(spec, {spec}, {}).empty());
  Parameters plain;
  plain.set("causal", false);
  CHECK(why_no_effect(spec, {spec}, plain) == "has effect only with causal: true, but causal is false");
}

TEST_CASE("conditions that lead in a circle are found") {
  const std::vector<ParameterSpec> specs = {
      boolean_parameter("a", "first").only_with("b", {false}),
      boolean_parameter("b", "second").only_with("a", {false}),
  };
  CHECK_THROWS_WITH(why_no_effect(specs[0], specs, default_parameters(specs)),
                    Catch::Matchers::Contains("lead in a circle"));
}

}  // namespace hyperattn
