// The cases of a file that version 0.1 made keep their names.
#include <catch2/catch.hpp>

#include "experiments/config/grid.h"
#include "experiments/results/results_file.h"
#include "tests/paths.h"

namespace hyperattn {

TEST_CASE("the configuration that version 0.1 stored gives the cases that it stored", "[identity]") {
  const ResultsFile stored = read_results(testing::source_dir() + "/tests/data/version_0_1.h5");
  const ExperimentConfig config = read_config_text(stored.config, "version_0_1.yaml");
  const Grid grid = expand_grid(config);
  REQUIRE(stored.cases.size() == 45);
  REQUIRE(grid.cases.size() == stored.cases.size());
  for (size_t i = 0; i < grid.cases.size(); ++i) {
    CHECK(case_parameters_json(config, grid, grid.cases[i]) == stored.cases[i].parameters);
    CHECK(grid.cases[i].id == stored.cases[i].case_id);
  }
}

}  // namespace hyperattn
