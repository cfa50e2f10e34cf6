// Declared parameters: which values they allow, how values are written and found, when a parameter has an
// effect, and the sentence that says why it has none.
#include "core/parameters.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <stdexcept>

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

TEST_CASE("a value is allowed, or the sentence says what is") {
  const ParameterSpec rows = integer_parameter("rows", "sampled").between(1, 64);
  ParameterSpec buckets = rows;
  buckets.power_of_two = true;
  const ParameterSpec share = number_parameter("share", "of keys").between(0, 1).or_word("auto");
  const ParameterSpec kappa = number_parameter("kappa", "wanted").at_least(1);
  const ParameterSpec shape = choice_parameter("shape", {"disc", "ring"}, "what is drawn");
  const ParameterSpec list = integer_list_parameter("layers", "by number").at_least(0);
  const ParameterSpec on = boolean_parameter("on", "or not");
  const ParameterSpec path = text_parameter("path", "of a file");
  struct Case {
    ParameterSpec spec;
    ParameterValue value;
    Text expected;
  };
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<Case> cases = {
      {rows, int64_t{1}, ""},
      {rows, int64_t{64}, ""},
      {rows, int64_t{0}, "must be between 1 and 64, but is 0"},
      {rows, int64_t{65}, "must be between 1 and 64, but is 65"},
      {rows, 2.0, "must be an integer, but is 2"},
      {rows, true, "must be an integer, but is true"},
      {rows, Text("auto"), "must be an integer, but is auto"},
      {buckets, int64_t{32}, ""},
      {buckets, int64_t{48}, "must be a power of two, but is 48"},
      {share, 0.5, ""},
      {share, int64_t{1}, ""},
      {share, Text("auto"), ""},
      {share, 1.5, "must be between 0 and 1, but is 1.5"},
      {share, Text("much"), "must be a number or one of auto, but is 'much'"},
      {kappa, infinity, "must be finite, but is .inf"},
      {kappa.or_infinity(), infinity, ""},
      {kappa, std::nan(""), "must be a number, but is .nan"},
      {kappa, 0.999, "must be at least 1, but is 0.999"},
      {shape, Text("ring"), ""},
      {shape, Text("star"), "must be one of disc, ring, but is 'star'"},
      {shape, int64_t{1}, "must be text, but is 1"},
      {list, IntegerList{0, 7}, ""},
      {list, IntegerList{}, ""},
      {list, IntegerList{3, -1}, "must be at least 0, but is -1"},
      {list, int64_t{3}, "must be a list of integers, but is 3"},
      {on, false, ""},
      {on, int64_t{1}, "must be true or false, but is 1"},
      {path, Text(""), ""},
      {path, int64_t{7}, "must be text, but is 7"},
  };
  for (const Case& one : cases) {
    CAPTURE(one.spec.name, to_string(one.value));
    CHECK(check_parameter(one.spec, one.value) == one.expected);
  }
}

TEST_CASE("numbers are written so that they read back as they are") {
  for (const double value :
       {0.1, 1.0 / 3, 5e-324, 1.7976931348623157e308, 123456789.0, -2.5, 1e21, 6.02e23}) {
    CAPTURE(value, to_string(value));
    CHECK(std::strtod(to_string(value).c_str(), nullptr) == value);
  }
  CHECK(to_string(0.1) == "0.1");
  CHECK(to_string(int64_t{-9223372036854775807}) == "-9223372036854775807");
  CHECK(to_string(true) == "true");
  CHECK(to_string(IntegerList{3, 1, 2}) == "[3, 1, 2]");
  CHECK(to_string(IntegerList{}) == "[]");
}

TEST_CASE("the nearest name is the one with the fewest changes, and none where all are far") {
  const std::vector<Text> names = {"sample_size", "block_size", "mask", "sampling"};
  CHECK(nearest_name("sample_siz", names) == "sample_size");
  CHECK(nearest_name("blok_size", names) == "block_size");
  CHECK(nearest_name("samplng", names) == "sampling");
  CHECK(nearest_name("maks", names) == "mask");  // two changes
  CHECK(nearest_name("xyzw", names).empty());
  CHECK(nearest_name("mask", {}).empty());
}

TEST_CASE("a value of another type, or none, is a broken invariant") {
  Parameters values;
  values.set("rows", int64_t{5});
  values.set("share", Text("auto"));
  CHECK(values.integer("rows") == 5);
  CHECK(values.number("rows") == 5.0);
  CHECK(values.is_text("share"));
  CHECK_FALSE(values.is_text("rows"));
  CHECK_FALSE(values.is_text("none"));
  CHECK_THROWS_AS(values.text("rows"), std::logic_error);
  CHECK_THROWS_AS(values.number("share"), std::logic_error);
  CHECK_THROWS_AS(values.integer("none"), std::logic_error);
  values.erase("rows");
  CHECK_FALSE(values.has("rows"));
}

TEST_CASE("defaults are those that were declared, and nothing is taken for what has none") {
  const Parameters values = default_parameters(
      {integer_parameter("rows", "sampled").by_default(5), number_parameter("width", "of the line"),
       boolean_parameter("on", "or not"), choice_parameter("shape", {"disc", "ring"}, "drawn")});
  std::string written;
  for (const auto& [name, value] : values.all()) written += name + "=" + to_string(value) + " ";
  CHECK(written == "on=false rows=5 shape=disc ");
}

TEST_CASE("a default may depend on another parameter") {
  ParameterSpec width = integer_parameter("width", "of the line").by_default(1);
  width.other_defaults = {{"shape", Text("ring"), int64_t{7}}, {"shape", Text("star"), int64_t{9}}};
  const std::vector<ParameterSpec> specs = {width, drawing()[0]};
  CHECK(default_parameters(specs).integer("width") == 1);
  CHECK(other_defaults_text(width) == "7 with shape: ring, 9 with shape: star");

  Parameters chosen = independent_defaults(specs);
  CHECK_FALSE(chosen.has("width"));
  chosen.set("shape", Text("star"));
  CHECK(default_of(width, chosen) == ParameterValue(int64_t{9}));
  complete_defaults(specs, chosen);
  CHECK(chosen.integer("width") == 9);

  Parameters given = independent_defaults(specs);
  given.set("shape", Text("ring"));
  given.set("width", int64_t{2});
  complete_defaults(specs, given);
  CHECK(given.integer("width") == 2);
}

}  // namespace hyperattn
