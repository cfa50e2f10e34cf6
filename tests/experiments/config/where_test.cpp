// The expressions of `where:`.
#include <catch2/catch.hpp>

#include "core/error.h"
#include "experiments/config/where_expression.h"

using namespace hyperattn;

namespace {

WhereValue value_of(const std::string& name) {
  if (name == "n") return 8.0;
  if (name == "m") return 3.0;
  if (name == "causal") return true;
  if (name == "kappa") return std::string("auto");
  if (name == "inputs.n") return 5.0;
  return 0.0;
}

bool holds(const std::string& text) {
  return WhereExpression(text).evaluate(value_of);
}

std::string refusal(const std::string& text) {
  try {
    (void)WhereExpression(text).evaluate(value_of);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("Predicates compute and compare as in arithmetic", "[config]") {
  CHECK(holds("m <= n"));
  CHECK_FALSE(holds("n < m"));
  CHECK(holds("1 + 2 * 3 == 7"));
  CHECK(holds("(1 + 2) * 3 == 9"));
  CHECK(holds("10 - 3 - 2 == 5"));
  CHECK(holds("n / 2 / 2 == 2"));
  CHECK(holds("-n + 1 == -7"));
  CHECK(holds("n % m == 2"));
  CHECK(holds("2.5e1 == 25"));
  CHECK(holds("n < .inf"));
  CHECK(holds("inputs.n == 5"));
  CHECK(holds("n != m"));
  CHECK(holds("n >= 8 and n <= 8"));
  CHECK(holds("n / 0 > 1e300"));
}

TEST_CASE("and binds tighter than or, not tighter than and", "[config]") {
  CHECK(holds("true or true and false"));
  CHECK_FALSE(holds("(true or true) and false"));
  CHECK(holds("not false and true"));
  CHECK(holds("not n < m"));
  CHECK(holds("not not causal"));
  CHECK(holds("causal"));
}

TEST_CASE("Texts compare for equality, with words that stand for numbers, too", "[config]") {
  CHECK(holds("kappa == 'auto'"));
  CHECK(holds("kappa != \"hyper\""));
  CHECK_FALSE(holds("n == 'auto'"));
  CHECK_THAT(refusal("kappa < 3"), Catch::Contains("'<' to the text 'auto'"));
  CHECK_THAT(refusal("causal == 1"), Catch::Contains("compares a truth value with a number"));
}

TEST_CASE("A comparison that no value can meet is found before any case is dropped by it", "[config]") {
  const auto type_of = [](const std::string& name) {
    WhereType type;
    type.number = name == "n" || name == "kappa" || name == "inputs.n";
    type.truth = name == "causal";
    type.any_text = name == "label";
    if (name == "kappa") type.words = {"auto"};
    if (name == "sampling") type.words = {"uniform", "value_norm"};
    return type;
  };
  const auto found = [&](const std::string& text) {
    return WhereExpression(text).impossible_comparison(type_of);
  };
  for (const char* good :
       {"n == 16", "kappa == 'auto' or kappa == 3", "label == '3'", "causal == true", "n == kappa",
        "sampling != 'uniform'", "(n < 3) == causal", "label == sampling", "n + 1 == -n", "n < 3"}) {
    CAPTURE(good);
    CHECK(found(good).empty());
  }
  using Catch::Contains;
  CHECK_THAT(found("n == '16'"),
             Contains("n (a number)") && Contains("text '16'") && Contains("without quotes"));
  CHECK_THAT(found("'16' != inputs.n"), Contains("inputs.n (a number)") && Contains("without quotes"));
  CHECK_THAT(found("not (n < 3 or causal == 'true')"),
             Contains("causal (true or false)") && Contains("without quotes"));
  CHECK_THAT(found("kappa == 'atuo'"),
             Contains("a number or one of the texts auto") && Contains("did you mean 'auto'"));
  CHECK_THAT(found("sampling == 'unifrom'"),
             Contains("uniform, value_norm") && Contains("did you mean 'uniform'"));
  CHECK_THAT(found("label == 3"), Contains("label (text)") && Contains("in quotes"));
  CHECK_THAT(found("n * 2 == '32'"), Contains("a number with the text '32'"));
  CHECK_THAT(found("n == causal"), Contains("n (a number) with causal (true or false)"));
  CHECK_THAT(found("n == sampling"), Contains("never equal"));
}

TEST_CASE("Predicates list their names once", "[config]") {
  CHECK(WhereExpression("n + m < n and causal").names() == std::vector<std::string>{"n", "m", "causal"});
}

TEST_CASE("What is no predicate is refused with its place", "[config]") {
  CHECK_THAT(refusal("n <= "), Catch::Contains("at character 6") && Catch::Contains("expected a name"));
  CHECK_THAT(refusal(""), Catch::Contains("expected a name"));
  CHECK_THAT(refusal("n = 3"), Catch::Contains("write == to compare"));
  CHECK_THAT(refusal("n && m"), Catch::Contains("write and, or, not"));
  CHECK_THAT(refusal("1 < n < 3"), Catch::Contains("cannot be chained"));
  CHECK_THAT(refusal("(n < 3"), Catch::Contains("expected ')'"));
  CHECK_THAT(refusal("n < 3)"), Catch::Contains("expected the end"));
  CHECK_THAT(refusal("n m"), Catch::Contains("expected the end"));
  CHECK_THAT(refusal("kappa == 'auto"), Catch::Contains("never ends"));
  CHECK_THAT(refusal("n + 1"), Catch::Contains("must be true or false, but is a number"));
  CHECK_THAT(refusal("n and true"), Catch::Contains("it takes truth values"));
  CHECK_THAT(refusal("-causal < 1"), Catch::Contains("it takes numbers"));
  CHECK_THAT(refusal("n < 1e999"), Catch::Contains("not a number"));
  CHECK_THAT(refusal(std::string(1001, 'n')), Catch::Contains("longer than 1000"));
  CHECK_THAT(refusal(std::string(500, '(')), Catch::Contains("nested too deep"));
  CHECK_THAT(refusal(std::string(500, '-') + "1 < 2"), Catch::Contains("nested too deep"));
}
