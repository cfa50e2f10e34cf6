// docs/results-format.md and the declared columns say the same (`hyperattn list columns` prints the table).
#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>
#include <string>

#include "experiments/results/schema.h"
#include "tests/paths.h"

namespace hyperattn {

TEST_CASE("docs/results-format.md has every column, in order, as it is declared", "[results]") {
  std::ifstream file(testing::source_dir() + "/docs/results-format.md");
  REQUIRE(file);
  std::string expected;
  for (const ColumnSpec& column : trial_columns()) expected += table_row(column) + "\n";
  std::stringstream text;
  text << file.rdbuf();
  const std::string head = "| column | kind | meaning |\n|---|---|---|\n";
  const size_t begin = text.str().find(head);
  REQUIRE(begin != std::string::npos);
  CHECK(text.str().substr(begin + head.size()) == expected);
}

}  // namespace hyperattn
