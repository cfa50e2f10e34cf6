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

TEST_CASE("an engine's own default of a parameter that engines share is not part of a case's identity",
          "[engines]") {
  const auto json = [](const std::string& rest) {
    const Grid grid = grid_of(rest);
    return case_parameters_json(read_config_text(kInputs + rest, "test.yaml"), grid, grid.cases.at(0));
  };
  for (const char* plain :
       {"backends: hyper", "backends: {name: hyper, precision: fp32}",
        "backends: {name: hyper, engine: cuda}", "backends: {name: hyper, engine: cuda, precision: bf16}"})
    CHECK(json(plain).find("precision") == std::string::npos);
  CHECK(json("backends: {name: hyper, precision: bf16}").find(R"("precision":"bf16")") != std::string::npos);
  CHECK(json("backends: {name: hyper, engine: cuda, precision: fp32}").find(R"("precision":"fp32")") !=
        std::string::npos);
  // The identities that these cases had when the CPU's engine had no such parameter.
  CHECK(ids_of(grid_of("backends: [exact, lsh, {name: lsh, engine: cuda}]")) ==
        std::vector<std::string>{"2d4ca34e6a2e2cbe", "384f7d2d3c211390", "9051e58cd16a8a25"});
}

TEST_CASE("an axis over engines takes the default of each, and one over precisions is one on each",
          "[engines]") {
  const Grid engines = grid_of("backends: hyper\nsweep: {engine: [cpu, cuda, reference]}");
  std::vector<std::string> precisions;
  for (const Case& grid_case : engines.cases) precisions.push_back(grid_case.parameters.text("precision"));
  CHECK(precisions == std::vector<std::string>{"fp32", "bf16", "fp32"});
  const Grid both = grid_of("backends: hyper\nsweep: {engine: [cpu, reference], precision: [fp32, bf16]}");
  CHECK(lines_of(both) == std::vector<std::string>{"hyper engine=cpu precision=fp32" + kOn,
                                                   "hyper engine=cpu precision=bf16" + kOn,
                                                   "hyper engine=reference" + kOn});
  CHECK(read_attend_arguments({"backend=hyper", "engine=cuda"}).parameters.text("precision") == "bf16");
  CHECK(read_attend_arguments({"backend=hyper"}).parameters.text("precision") == "fp32");
  CHECK_THROWS_WITH(grid_of("backends: {name: hyper, engine: reference, precision: bf16}"),
                    Contains("precision has effect only with engine: cpu or cuda"));
}

TEST_CASE("a speedup is over exact attention on the same ground", "[engines]") {
  const Backend& exact = *find_backend("exact");
  CHECK(exact.ground(default_parameters(exact.parameters())) == "cpu fp32");
  CHECK(exact.is_baseline());
  CHECK(find_backend("dense")->is_baseline());
  CHECK_FALSE(find_backend("reference")->is_baseline());
}

}  // namespace hyperattn
