// docs/results-format.md and the declared columns say the same.
#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>
#include <string>

#include "experiments/results/schema.h"
#include "tests/paths.h"

namespace hyperattn {
namespace {

std::string kind_word(ColumnKind kind) {
  if (kind == ColumnKind::integer) return "integer";
  if (kind == ColumnKind::seed) return "uint64";
  return kind == ColumnKind::number ? "number" : "text";
}

// A bar in a cell would end it.
std::string cell(const std::string& text) {
  std::string escaped;
  for (const char c : text) escaped += c == '|' ? std::string("\\|") : std::string(1, c);
  return escaped;
}

}  // namespace

TEST_CASE("docs/results-format.md has every column, in order, as it is declared", "[results]") {
  std::ifstream file(testing::source_dir() + "/docs/results-format.md");
  REQUIRE(file);
  std::string expected;
  for (const ColumnSpec& column : trial_columns())
    expected +=
        "| `" + column.name + "` | " + kind_word(column.kind) + " | " + cell(full_meaning(column)) + " |\n";
  std::stringstream text;
  text << file.rdbuf();
  const std::string head = "| column | kind | meaning |\n|---|---|---|\n";
  const size_t begin = text.str().find(head);
  REQUIRE(begin != std::string::npos);
  CHECK(text.str().substr(begin + head.size()) == expected);
}

}  // namespace hyperattn
