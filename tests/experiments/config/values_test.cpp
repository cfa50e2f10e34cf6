// Scalars for declared parameters, and the lists and generators of an axis.
#include <catch2/catch.hpp>
#include <limits>

#include "experiments/config/values.h"

using namespace hyperattn;

namespace {

ParameterSpec spec_of(ParameterType type) {
  ParameterSpec spec;
  spec.name = "p";
  spec.type = type;
  return spec;
}

struct Read {
  std::vector<ParameterValue> values;
  std::string problems;
};

Read read_axis(const std::string& text, const ParameterSpec& spec) {
  Problems problems("t.yaml");
  const YamlNode node = parse_yaml(text, {}, problems);
  std::vector<ParameterValue> values = read_axis_values(node, spec, "p", problems);
  return {std::move(values), problems.text()};
}

std::string one(const std::string& text, const ParameterSpec& spec) {
  Problems problems("t.yaml");
  const YamlNode node = parse_yaml(text, {}, problems);
  const auto value = read_value(node, spec, "p", problems);
  return value ? to_string(*value) : problems.text();
}

std::string shown(const Read& read) {
  std::string text = read.problems;
  for (const ParameterValue& value : read.values) text += (text.empty() ? "" : " ") + to_string(value);
  return text;
}

const ParameterSpec kInteger = spec_of(ParameterType::integer);
const ParameterSpec kNumber = spec_of(ParameterType::number);

}  // namespace

TEST_CASE("A whole number is decimal digits and nothing else", "[config]") {
  CHECK(one("42", kInteger) == "42");
  CHECK(one("-7", kInteger) == "-7");
  CHECK(one("+7", kInteger) == "7");
  CHECK(one("9223372036854775807", kInteger) == "9223372036854775807");
  for (const std::string wrong :
       {"2.5", "1e3", "0x10", "9223372036854775808", "'4'", "four", "true", "+-4", "4 5"})
    CHECK_THAT(one(wrong, kInteger), Catch::Contains("t.yaml:1: p must be a whole number, but is"));
  ParameterSpec size = kInteger;
  size.minimum = 1;
  size.maximum = 2147483647;
  for (const std::string beyond : {"9223372036854775807", "10000000000", "-1000000"})
    CHECK_THAT(one(beyond, size), Catch::Contains("between 1 and 2147483647, but is " + beyond));
  CHECK_THAT(one("[1, 2]", kInteger), Catch::Contains("but is a list (several values go into sweep)"));
  CHECK_THAT(one("", kInteger), Catch::Contains("p must be a whole number, but is empty"));
}

TEST_CASE("A number may be a fraction, an exponent or, where declared, infinity or a word", "[config]") {
  ParameterSpec kappa = kNumber;
  kappa.minimum = 1;
  kappa.choices = {"auto"};
  CHECK(one("2.5", kNumber) == "2.5");
  CHECK(one("1e3", kNumber) == "1000");
  CHECK(one("-.5", kNumber) == "-0.5");
  CHECK(one("-0.0", kNumber) == "0");
  CHECK_THAT(one(".inf", kNumber), Catch::Contains("p must be finite"));
  CHECK_THAT(one(".nan", kNumber), Catch::Contains("p must be a number, but is .nan"));
  CHECK_THAT(one("nan", kNumber), Catch::Contains("p must be a number, but is 'nan'"));
  CHECK_THAT(one("1e999", kNumber), Catch::Contains("p must be a number"));
  CHECK(one("auto", kappa) == "auto");
  CHECK_THAT(one("often", kappa), Catch::Contains("one of auto"));
  CHECK_THAT(one("0.5", kappa), Catch::Contains("at least 1, but is 0.5"));
  kappa.allow_infinity = true;
  CHECK(one(".inf", kappa) == ".inf");
  CHECK_THAT(one("-.inf", kappa), Catch::Contains("p must be finite"));
}

TEST_CASE("Truth values, texts, choices and lists of integers", "[config]") {
  CHECK(one("true", spec_of(ParameterType::boolean)) == "true");
  for (const std::string wrong : {"yes", "1", "'true'", "tRUE"})
    CHECK_THAT(one(wrong, spec_of(ParameterType::boolean)), Catch::Contains("p must be true or false"));
  CHECK(one("12", spec_of(ParameterType::text)) == "12");
  ParameterSpec choice = spec_of(ParameterType::choice);
  choice.choices = {"none", "band"};
  CHECK(one("none", choice) == "none");
  CHECK_THAT(one("bend", choice), Catch::Contains("p must be one of none, band, but is 'bend'"));
  CHECK(one("[0, 1024]", spec_of(ParameterType::integer_list)) == "[0, 1024]");
  CHECK_THAT(one("[0, x]", spec_of(ParameterType::integer_list)), Catch::Contains("a list of whole numbers"));
}

TEST_CASE("A whole number for a number is the same value as its fraction", "[config]") {
  CHECK(read_axis("[1, 1.0]", kNumber).values[0] == read_axis("[1, 1.0]", kNumber).values[1]);
}

TEST_CASE("An axis is a scalar, a list or a generator", "[config]") {
  CHECK(shown(read_axis("5", kInteger)) == "5");
  CHECK(shown(read_axis("[3, 1, 2]", kInteger)) == "3 1 2");
  CHECK(shown(read_axis("{range: [64, 256, 64]}", kInteger)) == "64 128 192 256");
  CHECK(shown(read_axis("{range: [64, 255, 64]}", kInteger)) == "64 128 192");
  CHECK(shown(read_axis("{range: [3, 1, -1]}", kInteger)) == "3 2 1");
  CHECK(shown(read_axis("{range: [0.1, 0.5, 0.1]}", kNumber)) == "0.1 0.2 0.3 0.4 0.5");
  CHECK(shown(read_axis("{linspace: [0, 1, 5]}", kNumber)) == "0 0.25 0.5 0.75 1");
  CHECK(shown(read_axis("{linspace: [7, 9, 1]}", kNumber)) == "7");
  CHECK(shown(read_axis("{logspace: [1, 1000, 4]}", kNumber)) == "1 10 100 1000");
  CHECK(shown(read_axis("{logspace: [64, 4096, 4]}", kInteger)) == "64 256 1024 4096");
  CHECK(shown(read_axis("{logspace: [10, 100, 3]}", kInteger)) == "10 32 100");  // rounded
  CHECK(shown(read_axis("{pow2: [64, 512]}", kInteger)) == "64 128 256 512");
  CHECK(shown(read_axis("[[0, 8], [8, 16]]", spec_of(ParameterType::integer_list))) == "[0, 8] [8, 16]");
  CHECK(shown(read_axis("[0, 8]", spec_of(ParameterType::integer_list))) == "[0, 8]");
}

TEST_CASE("Generators refuse what they cannot make", "[config]") {
  const auto refused = [](const std::string& text) { return read_axis(text, kInteger).problems; };
  CHECK_THAT(refused("{range: [1, 2]}"),
             Catch::Contains("p.range must be a list of 3 finite numbers: [start, stop, step]"));
  CHECK_THAT(refused("{range: [1, 2, 0]}"), Catch::Contains("needs a step that is not 0"));
  CHECK_THAT(refused("{range: [1, 2, -1]}"), Catch::Contains("leads away from its stop"));
  CHECK_THAT(refused("{range: [0, 1e200, 1e-200]}"), Catch::Contains("more than 10000"));
  CHECK_THAT(refused("{range: [1, .inf, 1]}"), Catch::Contains("finite numbers"));
  CHECK_THAT(refused("{linspace: [1, 2, 1e12]}"), Catch::Contains("more than 10000"));
  CHECK_THAT(refused("{linspace: [1, 2, 0]}"), Catch::Contains("whole count of at least 1"));
  CHECK_THAT(refused("{linspace: [1, 2, 1.5]}"), Catch::Contains("whole count of at least 1"));
  CHECK_THAT(refused("{logspace: [0, 2, 3]}"), Catch::Contains("two positive ends"));
  CHECK_THAT(refused("{pow2: [10, 14]}"), Catch::Contains("two powers of two"));
  CHECK_THAT(refused("{pow2: [64, 32]}"), Catch::Contains("two powers of two in increasing order"));
  CHECK_THAT(refused("{linspase: [1, 2, 3]}"), Catch::Contains("did you mean 'linspace'"));
  CHECK_THAT(refused("{range: [1, 2, 1], pow2: [1, 2]}"), Catch::Contains("a map with 2 keys"));
  CHECK_THAT(refused("{range: [1e300, 1e300, 1]}"), Catch::Contains("p"));
  CHECK_THAT(refused("[]"), Catch::Contains("an empty list"));
  CHECK_THAT(refused("[1, [2]]"), Catch::Contains("p must be a whole number, but is a list"));
  CHECK_THAT(read_axis("{pow2: [1, 2]}", spec_of(ParameterType::text)).problems,
             Catch::Contains("only numbers can be generated"));
  ParameterSpec buckets = kInteger;
  buckets.power_of_two = true;
  CHECK_THAT(read_axis("{range: [32, 128, 32]}", buckets).problems,
             Catch::Contains("power of two, but is 96"));
}

TEST_CASE("No value of a bad list is used", "[config]") {
  const Read read = read_axis("[1, x, 3, y]", kInteger);
  CHECK(read.values.empty());
  CHECK_THAT(read.problems, Catch::Contains("'x'") && Catch::Contains("'y'"));
}
