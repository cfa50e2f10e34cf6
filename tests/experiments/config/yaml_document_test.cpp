// The YAML tree: structure, places, and what is refused before any meaning is looked at.
#include <catch2/catch.hpp>

#include "experiments/config/problems.h"
#include "experiments/config/yaml_document.h"

using namespace hyperattn;

namespace {

struct Parsed {
  YamlNode root;
  std::string problems;
};

Parsed parse(const std::string& text) {
  Problems problems("t.yaml");
  YamlNode root = parse_yaml(text, {}, problems);
  return {root, problems.text()};
}

std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

}  // namespace

TEST_CASE("A YAML tree keeps order, lines and quoting", "[config]") {
  const Parsed parsed = parse("b: 1\na:\n  - x\n  - '2'\nc:\n");
  REQUIRE(parsed.problems.empty());
  REQUIRE(parsed.root.fields.size() == 3);
  CHECK(parsed.root.fields[0].key == "b");
  const YamlNode& a = *parsed.root.find("a");
  REQUIRE(a.is_list());
  CHECK(a.items[0].text == "x");
  CHECK(a.items[0].origin.line == 3);
  CHECK_FALSE(a.items[0].quoted);
  CHECK(a.items[1].quoted);
  CHECK(parsed.root.find("c")->kind == YamlNode::Kind::null);
  CHECK(parsed.root.find("d") == nullptr);
}

TEST_CASE("Anchors and aliases are copies", "[config]") {
  const Parsed parsed = parse("a: &x {k: 1}\nb: *x\n");
  REQUIRE(parsed.problems.empty());
  CHECK(parsed.root.find("b")->find("k")->text == "1");
}

TEST_CASE("A merge key takes over what the map does not say itself", "[config]") {
  const Parsed parsed = parse(
      "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: [4]}\nc: {y: 5, <<: *a}\nd: {<<: [*b, *a], z: 6}\ne: {'<<': 7}\n"
      "f: {<<: {<<: *a, x: 8}}\n");
  REQUIRE(parsed.problems.empty());
  const auto said = [&](const char* map) {
    std::string text;
    for (const YamlField& field : parsed.root.find(map)->fields)
      text += field.key + "=" + field.value.text + " ";
    return text;
  };
  CHECK(said("c") == "y=5 x=1 ");
  CHECK(said("d") == "z=6 y=3 x=1 ");
  CHECK(said("e") == "<<=7 ");  // quoted: a key like any other
  CHECK(said("f") == "x=8 y=2 ");
  CHECK_THAT(parse("a: {<<: 5}").problems,
             Catch::Contains("'<<' takes a map or a list of maps") && Catch::Contains("'5'"));
  CHECK_THAT(parse("a: &a {x: 1}\nb:\n  <<: [*a, y]\n").problems, Catch::StartsWith("t.yaml:3:"));
  CHECK_THAT(parse("a: {<<: *a}").problems, Catch::Contains("not well-formed"));
}

TEST_CASE("null is told from nothing", "[config]") {
  for (const char* word : {"~", "null", "Null", "NULL"}) {
    const Parsed parsed = parse("a: " + std::string(word) + "\nn:\n");
    CHECK(parsed.root.find("a")->kind == YamlNode::Kind::null);
    CHECK(describe(*parsed.root.find("a")) == "null");
    CHECK(describe(*parsed.root.find("n")) == "empty");
  }
  for (const char* next : {"next", "nullable", "Nulls"})
    CHECK(parse("a:\n" + std::string(next) + ": 1\n").root.find("a")->text.empty());
  CHECK(parse("[~, null]").root.items.at(1).text == "null");
}

TEST_CASE("A key that occurs twice is named with both lines", "[config]") {
  CHECK(parse("a: 1\nb: 2\na: 3\n").problems == "t.yaml:3: key 'a' occurs twice; first in line 1");
}

TEST_CASE("Text that is no well-formed YAML is refused with its line", "[config]") {
  CHECK_THAT(parse("a: 1\nb: [1, 2\n").problems,
             Catch::StartsWith("t.yaml:") && Catch::Contains("not well-formed YAML"));
  CHECK_THAT(parse("a: *nothing\n").problems, Catch::Contains("t.yaml:1: not well-formed YAML"));
  CHECK_THAT(parse("a: !!str 5\n").problems, Catch::Contains("t.yaml:1: YAML tags"));
  CHECK_THAT(parse("a: 1\n---\nb: 2\n").problems, Catch::Contains("more than one YAML document"));
  CHECK_THAT(parse("? [1, 2]\n: 3\n").problems, Catch::Contains("a key must be a word"));
  CHECK_THAT(parse("a: 1\nb: \xff\xfe\n").problems, Catch::Contains("t.yaml:2: not text in UTF-8"));
  CHECK_THAT(parse(std::string("a: 1\0b", 6)).problems, Catch::Contains("not text in UTF-8"));
  CHECK_THAT(parse("a: \xed\xa0\x80\n").problems, Catch::Contains("not text in UTF-8"));  // a surrogate
  CHECK(parse("a: \xc3\xa4 \xf0\x9f\x98\x80\n").problems.empty());
}

TEST_CASE("An empty text is a null tree", "[config]") {
  CHECK(parse("").root.kind == YamlNode::Kind::null);
  CHECK(parse("# only a comment\n").problems.empty());
}

TEST_CASE("Hostile sizes are refused instead of filling memory or the stack", "[config]") {
  CHECK(parse(repeated("[", 32) + repeated("]", 32)).problems.empty());
  CHECK_THAT(parse(repeated("[", 33) + repeated("]", 33)).problems,
             Catch::Contains("nested more than 32 levels"));
  CHECK_THAT(parse(repeated("[", 100000)).problems, Catch::Contains("nested more than 32 levels"));
  CHECK_THAT(parse(repeated("- ", 100000)).problems, Catch::Contains("nested more than 32 levels"));
  CHECK_THAT(parse("[" + repeated("1,", 250000) + "]").problems, Catch::Contains("more than 200000 values"));
  CHECK_THAT(parse(std::string((size_t{1} << 20) + 1, ' ')).problems, Catch::Contains("larger than 1 MiB"));
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string before = "*a" + std::to_string(i - 1) + ", ";
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + repeated(before, 9) + "x]\n";
  }
  CHECK_THAT(parse(bomb).problems, Catch::Contains("aliases blow the configuration up"));
  std::string keys;
  for (int i = 0; i < 1001; ++i) keys += "k" + std::to_string(i) + ": 1\n";
  CHECK_THAT(parse(keys).problems, Catch::Contains("more than 1000 keys"));
}
