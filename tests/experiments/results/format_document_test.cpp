// docs/results-format.md and the declared columns say the same (`hyperattn list columns` prints the list).
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
  for (const ColumnSpec& column : trial_columns()) expected += list_item(column) + "\n";
  std::stringstream text;
  text << file.rdbuf();
  const std::string first = "- `" + trial_columns().front().name + "` (";
  const size_t begin = text.str().find(first);
  REQUIRE(begin != std::string::npos);
  const size_t end = text.str().find("\n\n", begin);
  REQUIRE(end != std::string::npos);
  CHECK(text.str().substr(begin, end + 1 - begin) == expected);
}

}  // namespace hyperattn
