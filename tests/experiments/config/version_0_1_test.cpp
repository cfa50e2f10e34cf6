// The cases of a file that version 0.1 made keep their names.
#include <catch2/catch.hpp>
#include <filesystem>

#include "experiments/config/grid.h"
#include "experiments/results/results_file.h"
#include "tests/paths.h"

namespace hyperattn {
namespace {

/// The paths of the stored configuration are relative to the project.
class InProject {
 public:
  InProject() { std::filesystem::current_path(testing::source_dir()); }
  ~InProject() { std::filesystem::current_path(before_); }
  InProject(const InProject&) = delete;
  InProject& operator=(const InProject&) = delete;

 private:
  std::filesystem::path before_ = std::filesystem::current_path();
};

}  // namespace

TEST_CASE("the configuration that version 0.1 stored gives the cases that it stored", "[identity]") {
  const InProject in_project;
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
