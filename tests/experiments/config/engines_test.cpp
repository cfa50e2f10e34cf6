// A backend's engine: chosen in its entry or by an axis, told in the names of cases, part of their identity
// only where it is not the default.
#include <catch2/catch.hpp>

#include "algorithms/backend.h"
#include "core/error.h"
#include "experiments/config/attend_arguments.h"
#include "experiments/config/grid.h"

namespace hyperattn {
namespace {

using Catch::Matchers::Contains;

const std::string kInputs = "inputs: {source: gaussian, seq_len: 64, head_dim: 8}\n";

Grid grid_of(const std::string& rest) {
  return expand_grid(read_config_text(kInputs + rest, "test.yaml"));
}

std::vector<std::string> ids_of(const Grid& grid) {
  std::vector<std::string> ids;
  for (const Case& grid_case : grid.cases) ids.push_back(grid_case.id);
  return ids;
}

std::vector<std::string> lines_of(const Grid& grid) {
  std::vector<std::string> lines;
  for (const Case& grid_case : grid.cases)
    lines.push_back(describe_case(grid.inputs[grid_case.input], grid_case));
  return lines;
}

const std::string kOn = " on gaussian head_dim=8 seq_len=64";

}  // namespace

TEST_CASE("exact on the engine of a name is the backend of that name, one case", "[engines]") {
  for (const char* name : {"reference", "dense"}) {
    const Grid named = grid_of(std::string("backends: ") + name);
    const Grid both = grid_of(std::string("backends: [{name: exact, engine: ") + name + "}, " + name + "]");
    CHECK(ids_of(both) == ids_of(named));
    CHECK(both.cases.at(0).backend == find_backend(name));
    CHECK(lines_of(both) == std::vector<std::string>{name + kOn});
  }
}

TEST_CASE("the default engine is not part of a case's identity, another one is", "[engines]") {
  const Grid plain = grid_of("backends: hyper");
  CHECK(ids_of(grid_of("backends: {name: hyper, engine: cpu}")) == ids_of(plain));
  CHECK(
      case_parameters_json(read_config_text(kInputs + "backends: hyper", "test.yaml"), plain, plain.cases[0])
          .find("engine") == std::string::npos);
  const Grid other = grid_of("backends: {name: hyper, engine: reference}");
  CHECK(ids_of(other) != ids_of(plain));
  CHECK(lines_of(other) == std::vector<std::string>{"hyper engine=reference" + kOn});
}

TEST_CASE("an axis goes over engines, and predicates name them", "[engines]") {
  const Grid grid = grid_of("backends: [exact, hyper]\nsweep: {engine: [cpu, reference]}");
  CHECK(lines_of(grid) == std::vector<std::string>{"exact engine=cpu" + kOn, "reference" + kOn,
                                                   "hyper engine=cpu" + kOn, "hyper engine=reference" + kOn});
  const Grid kept = grid_of(
      "backends: [exact, reference, hyper]\nsweep: {hyper.engine: [cpu, reference], where: engine == "
      "'reference'}");
  CHECK(lines_of(kept) == std::vector<std::string>{"reference" + kOn, "hyper engine=reference" + kOn});
}

TEST_CASE("an engine that there is not, or that cannot run the method, is refused by name", "[engines]") {
  CHECK_THROWS_WITH(grid_of("backends: {name: hyper, engine: dense}"),
                    Contains("backends[0].engine must be one of cpu, reference") && Contains("'dense'"));
  CHECK_THROWS_WITH(grid_of("backends: {name: exact, engine: gpu}"), Contains("'gpu'"));
  CHECK_THROWS_WITH(grid_of("backends: {name: reference, engine: cpu}"), Contains("unknown key 'engine'"));
}

TEST_CASE("attend takes an engine, too", "[engines]") {
  const AttendArguments arguments = read_attend_arguments({"backend=hyper", "engine=reference"});
  CHECK(arguments.backend->engine().name() == "reference");
  CHECK(arguments.backend->name() == "hyper");
  CHECK(read_attend_arguments({"backend=exact", "engine=dense"}).backend == find_backend("dense"));
}

TEST_CASE("a speedup is over exact attention on the same ground", "[engines]") {
  const Backend& exact = *find_backend("exact");
  CHECK(exact.ground(default_parameters(exact.parameters())) == "cpu fp32");
  CHECK(exact.is_baseline());
  CHECK(find_backend("dense")->is_baseline());
  CHECK_FALSE(find_backend("reference")->is_baseline());
}

}  // namespace hyperattn
