// Which cases a sweep makes: axis rules, equal points once, zip, where, order, identities and limits.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <set>

#include "algorithms/backend.h"
#include "core/error.h"
#include "tests/experiments/config/fakes.h"

using namespace hyperattn;
using namespace hyperattn::fakes;
using Catch::Contains;
using Lines = std::vector<std::string>;

namespace {

std::string sweep(const std::string& axes) {
  return "inputs: {source: gaussian, head_dim: 64}\nbackends: [exact, lsh, hyper]\nsweep:\n  seq_len: [32, "
         "64]\n" +
         axes;
}

std::string grid_problem(const std::string& text) {
  try {
    (void)expand_grid(fakes::read(text));
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("Lists multiply, and an axis applies only where it is a parameter", "[config]") {
  CHECK(case_lines(fakes::read(sweep("  bucket_count: [2, 4]\n  sample_size: [8]\n"))) ==
        Lines{"exact on gaussian seq_len=32", "lsh bucket_count=2 on gaussian seq_len=32",
              "lsh bucket_count=4 on gaussian seq_len=32",
              "hyper bucket_count=2 sample_size=8 on gaussian seq_len=32",
              "hyper bucket_count=4 sample_size=8 on gaussian seq_len=32", "exact on gaussian seq_len=64",
              "lsh bucket_count=2 on gaussian seq_len=64", "lsh bucket_count=4 on gaussian seq_len=64",
              "hyper bucket_count=2 sample_size=8 on gaussian seq_len=64",
              "hyper bucket_count=4 sample_size=8 on gaussian seq_len=64"});
}

TEST_CASE("Equal points run once", "[config]") {
  CHECK(case_lines(fakes::read(sweep("  bucket_count: [2, 2, 4, 2]\n"))).size() == 10);
  CHECK(case_lines(fakes::read("inputs: {source: gaussian, seq_len: 8}\nbackends: [exact, exact, lsh, {name: "
                               "lsh, block_size: 256}]\n"))
            .size() == 2);
  CHECK(case_lines(fakes::read("inputs: [{source: gaussian, seq_len: 8}, {source: gaussian, seq_len: 8, "
                               "head_dim: 64}]\nbackends: [exact]\n"))
            .size() == 1);
  CHECK(case_lines(fakes::read("inputs: {source: gaussian, seq_len: 8}\nbackends: [hyper]\nsweep: "
                               "{approx_epsilon: [1, 1.0]}\n"))
            .size() == 1);
}

TEST_CASE("Cases are grouped by input point in the order of the file", "[config]") {
  const Grid grid =
      expand_grid(fakes::read("inputs: [{source: gaussian}, {source: odd}]\nbackends: [hyper, exact]\nsweep: "
                              "{sample_size: [1, 2], seq_len: [8, 4]}\n"));
  REQUIRE(grid.inputs.size() == 4);
  REQUIRE(grid.cases.size() == 12);
  for (size_t i = 0; i < grid.cases.size(); ++i) CHECK(grid.cases[i].input == i / 3);
  CHECK(grid.inputs[0].parameters.integer("seq_len") == 8);
  CHECK(grid.inputs[2].label == "odd");
  CHECK(grid.cases[2].backend->name() == "exact");
}

TEST_CASE("A name of both inputs and backends needs a path", "[config]") {
  const std::string text =
      "inputs: [{source: odd, seq_len: 8}, {source: gaussian, seq_len: 8}]\nbackends: [lsh, hyper]\nsweep: ";
  CHECK_THAT(problems_of(text + "{block_size: [1, 2]}"),
             Contains("test.yaml:3: sweep.block_size is a parameter of inputs and of backends; write "
                      "inputs.block_size or backends.block_size"));
  CHECK(case_lines(fakes::read(text + "{inputs.block_size: [1, 2]}")).size() == 6);
  CHECK(case_lines(fakes::read(text + "{backends.block_size: [1, 2]}")).size() == 8);
  CHECK(case_lines(fakes::read(text + "{lsh.block_size: [1, 2]}")).size() == 6);
  CHECK(case_lines(fakes::read(text + "{'backends[1].block_size': [1, 2]}")).size() == 6);
  CHECK_THAT(problems_of(text + "{where: block_size > 2}"),
             Contains("write inputs.block_size or backends.block_size"));
  CHECK(case_lines(fakes::read(text + "{where: inputs.block_size > 8}")).size() == 2);
  CHECK(case_lines(fakes::read(text + "{where: backends.block_size == 256 and source == 'odd'}")).size() ==
        2);
}

TEST_CASE("An axis that applies nowhere is refused", "[config]") {
  CHECK_THAT(problems_of(kMinimal + "sweep: {bucket_count: [2]}"),
             Contains("test.yaml:3: sweep.bucket_count applies nowhere: no such entry of this configuration "
                      "has the parameter 'bucket_count' (these have it: lsh, hyper)"));
  CHECK_THAT(problems_of(kMinimal + "sweep: {haeds: [2]}"),
             Contains("there is no parameter 'haeds'; did you mean 'heads'?"));
  CHECK_THAT(problems_of(kMinimal + "sweep: {exact.heads: [2]}"),
             Contains("sweep.exact.heads applies nowhere"));
  CHECK_THAT(problems_of(kMinimal + "sweep: {lsh.block_size: [2]}"),
             Contains("the part before the dot must be inputs, backends"));
  CHECK_THAT(problems_of(kMinimal + "sweep: {'inputs[1].heads': [2]}"), Contains("but is 'inputs[1]'"));
  CHECK_THAT(problems_of(kMinimal + "sweep: {'a b': [2]}"), Contains("is not the name of a parameter"));
}

TEST_CASE("Values of an axis are checked against the parameter", "[config]") {
  CHECK_THAT(problems_of(kMinimal + "sweep: {heads: [1, two, 0]}"),
             Contains("sweep.heads must be a whole number, but is 'two'") &&
                 Contains("sweep.heads must be between 1 and"));
  CHECK_THAT(problems_of(kMinimal + "sweep: {heads: {a: 1}}"),
             Contains("unknown generator 'a' in sweep.heads"));
  // The refused axis supplies the parameter all the same: no second complaint about it.
  CHECK_FALSE(contains(problems_of("inputs: gaussian\nbackends: [exact]\nsweep: {seq_len: [x]}"), "missing"));
}

TEST_CASE("The axis supplies a required parameter", "[config]") {
  CHECK(case_lines(fakes::read("inputs: gaussian\nbackends: exact\nsweep: {seq_len: 5}")) ==
        Lines{"exact on gaussian seq_len=5"});
  CHECK_THAT(problems_of("inputs: [gaussian, odd]\nbackends: exact\nsweep: {odd.seq_len: [5]}"),
             Contains("inputs[0].seq_len is missing") && !Contains("inputs[1]"));
}

TEST_CASE("An entry and an axis that set the same parameter are a contradiction", "[config]") {
  CHECK_THAT(problems_of(kMinimal + "sweep: {seq_len: [1]}"),
             Contains("test.yaml:3: inputs[0].seq_len is set twice, by inputs[0] in line 1 and by axis "
                      "seq_len in line 3"));
  CHECK_THAT(problems_of(kMinimal + "sweep: {heads: [1], inputs.heads: [2]}"),
             Contains("set twice, by axis heads in line 3 and by axis inputs.heads in line 3"));
}

TEST_CASE("zip pairs axes", "[config]") {
  CHECK(case_lines(fakes::read("inputs: gaussian\nbackends: [exact, lsh]\nsweep: {zip: [{seq_len: [8, 16], "
                               "bucket_count: {pow2: [2, 4]}}], block_size: [1, 2]}")) ==
        Lines{"exact on gaussian seq_len=8", "lsh block_size=1 bucket_count=2 on gaussian seq_len=8",
              "lsh block_size=2 bucket_count=2 on gaussian seq_len=8", "exact on gaussian seq_len=16",
              "lsh block_size=1 bucket_count=4 on gaussian seq_len=16",
              "lsh block_size=2 bucket_count=4 on gaussian seq_len=16"});
  CHECK(case_lines(
            fakes::read(
                "inputs: gaussian\nbackends: [lsh]\nsweep: {zip: {seq_len: [8, 16], bucket_count: [2, 4]}}"))
            .size() == 2);
  CHECK(case_lines(fakes::read("inputs: gaussian\nbackends: [hyper]\nsweep: {zip: [{seq_len: [8, 16], "
                               "bucket_count: [2, 4]}, {sample_size: [1, 2], block_size: [1, 2]}]}"))
            .size() == 4);
  const auto refused = [](const std::string& zip) {
    return problems_of("inputs: gaussian\nbackends: [lsh]\nsweep: {zip: " + zip + "}");
  };
  CHECK_THAT(
      refused("[{seq_len: [8], bucket_count: [2, 4]}]"),
      Contains("sweep.zip[0] needs axes of equal length, but seq_len has 1, bucket_count has 2 values"));
  CHECK_THAT(refused("[{seq_len: [8], sample_size: [2]}]"),
             Contains("sweep.zip[0].sample_size applies nowhere"));
  CHECK_THAT(refused("[]"), Contains("inputs[0].seq_len is missing"));
  CHECK_THAT(refused("[3]"), Contains("sweep.zip[0] must be a map of axes of equal length, but is '3'"));
  CHECK_THAT(refused("{}"), Contains("but is empty"));
  CHECK_THAT(refused("x"), Contains("sweep.zip must be a map of axes"));
}

TEST_CASE("An override of one zipped axis leaves the other", "[config]") {
  const std::string text =
      "inputs: gaussian\nbackends: [lsh]\nsweep: {zip: {seq_len: [8, 16], bucket_count: [2, 4]}}";
  CHECK(case_lines(fakes::read(text, {"sweep.seq_len=[5]"})) ==
        Lines{"lsh bucket_count=2 on gaussian seq_len=5", "lsh bucket_count=4 on gaussian seq_len=5"});
}

TEST_CASE("where drops combinations and counts them", "[config]") {
  const ExperimentConfig config =
      fakes::read(sweep("  sample_size: [16, 48, 128]\n  where: ['sample_size <= key_len', 'seq_len > 32 or "
                        "backend == ''exact''']\n"));
  const Grid grid = expand_grid(config);
  CHECK(case_lines(config) ==
        Lines{"exact on gaussian seq_len=32", "exact on gaussian seq_len=64", "lsh on gaussian seq_len=64",
              "hyper sample_size=16 on gaussian seq_len=64", "hyper sample_size=48 on gaussian seq_len=64"});
  REQUIRE(grid.dropped.size() == 2);
  CHECK(grid.dropped[0].predicate == "sample_size <= key_len");
  CHECK(grid.dropped[0].count == 3);
  CHECK(grid.dropped[0].examples.front() == "hyper sample_size=48 on gaussian seq_len=32");
  CHECK(grid.dropped[1].count == 2);
}

TEST_CASE("A predicate does not concern cases without one of its names", "[config]") {
  // exact has no bucket_count; key_len is known from the shapes although no key_len was given.
  CHECK(case_lines(
            fakes::read(sweep("  bucket_count: [2, 64]\n  where: bucket_count < 3 and key_len == seq_len\n")))
            .size() == 6);
}

TEST_CASE("where refuses unknown names and nonsense", "[config]") {
  CHECK_THAT(
      problems_of(sweep("  where: ['sampel_size < 3']\n")),
      Contains("test.yaml:5: unknown name 'sampel_size' in sweep.where[0]; did you mean 'sample_size'?"));
  CHECK_THAT(problems_of(sweep("  where: 'backend == exact'\n")),
             Contains("unknown name 'exact' in sweep.where, where texts are quoted. Allowed: "));
  CHECK_THAT(problems_of(sweep("  where: ['seq_len <']\n")),
             Contains("sweep.where[0] cannot be understood at character 10"));
  CHECK_THAT(problems_of(sweep("  where: {a: b}\n")), Contains("sweep.where must be a list of predicates"));
  CHECK_THAT(problems_of(sweep("  where: [[a]]\n")), Contains("sweep.where[0] must be text"));
  CHECK_THAT(grid_problem(sweep("  where: ['seq_len']\n")),
             Contains("sweep.where 'seq_len' must be true or false, but is a number"));
  CHECK_THAT(grid_problem(sweep("  where: ['seq_len < 0']\n")), Contains("leaves no case to run"));
}

TEST_CASE("causal and scale are axes of every source", "[config]") {
  CHECK(case_lines(fakes::read(kMinimal + "sweep: {causal: [false, true], scale: [0.5, 1]}")) ==
        Lines{"exact on gaussian seq_len=64 scale=0.5", "exact on gaussian seq_len=64 scale=1",
              "exact on gaussian seq_len=64 causal=true scale=0.5",
              "exact on gaussian seq_len=64 causal=true scale=1"});
}

TEST_CASE("Ranges of rows are values of an axis", "[config]") {
  const ExperimentConfig config = fakes::read(
      "inputs: {source: file, path: a.h5}\nbackends: [exact]\nsweep: {query_rows: [[0, 8], [8, 16]]}");
  CHECK(case_lines(config) ==
        Lines{"exact on file path=a.h5 query_rows=[0, 8]", "exact on file path=a.h5 query_rows=[8, 16]"});
}

TEST_CASE("An identity depends on parameters, pass and seed, not on place, label, trials or axes",
          "[config]") {
  const auto ids = [](const std::string& text) {
    std::vector<std::string> all;
    for (const Case& grid_case : expand_grid(fakes::read(text)).cases) all.push_back(grid_case.id);
    return all;
  };
  const std::string base = ids("inputs: {source: gaussian, seq_len: 64}\nbackends: [hyper]\n")[0];
  CHECK(base.size() == 16);
  CHECK(base.find_first_not_of("0123456789abcdef") == std::string::npos);
  CHECK(ids("trials: 9\nname: b\nmeasures: [alpha]\ninputs: {source: gaussian, label: x}\nbackends: [lsh, "
            "hyper]\nsweep: {seq_len: [32, 64]}\n")[3] == base);
  for (const std::string other :
       {"seed: 1\ninputs: {source: gaussian, seq_len: 64}\nbackends: [hyper]\n",
        "inputs: {source: gaussian, seq_len: 65}\nbackends: [hyper]\n",
        "inputs: {source: odd, seq_len: 64}\nbackends: [hyper]\n",
        "inputs: {source: gaussian, seq_len: 64, causal: true}\nbackends: [hyper]\n",
        "inputs: {source: gaussian, seq_len: 64, scale: 0.125}\nbackends: [hyper]\n",
        "inputs: {source: gaussian, seq_len: 64}\nbackends: [{name: hyper, sample_size: 17}]\n",
        "inputs: {source: gaussian, seq_len: 64}\nbackends: [{name: hyper, approx_kappa: .inf}]\n",
        "inputs: {source: gaussian, seq_len: 64}\nbackends: [lsh]\n",
        "timing: {pass: forward_backward}\ninputs: {source: gaussian, seq_len: 64}\nbackends: [hyper]\n"})
    CHECK(ids(other)[0] != base);
  // A known answer: an identity that changes by accident orphans every results file.
  CHECK(ids("inputs: {source: gaussian, seq_len: 64}\nbackends: [exact]\n")[0] == "5d6d58ec92f97491");
}

TEST_CASE("The resolved parameters of a case are one JSON object", "[config]") {
  const ExperimentConfig config = fakes::read(
      "seed: 3\ninputs: {source: gaussian, seq_len: 64, scale: 0.5}\nbackends: [{name: hyper, approx_kappa: "
      ".inf}]\n");
  const Grid grid = expand_grid(config);
  const auto json = nlohmann::json::parse(case_parameters_json(config, grid, grid.cases[0]));
  CHECK(json["schema"] == "hyperattn.results/1");
  CHECK(json["seed"] == 3);
  CHECK(json["source"] == "gaussian");
  CHECK(json["inputs"]["head_dim"] == 64);
  CHECK(json["scale"] == 0.5);
  CHECK(json["causal"] == false);
  CHECK(json["backend"] == "hyper");
  CHECK(json["parameters"]["approx_kappa"] == ".inf");
  CHECK(json["pass"] == "forward");
}

TEST_CASE("Input points have distinct identities, shared by their cases", "[config]") {
  const Grid grid = expand_grid(fakes::read(sweep("  bucket_count: [2, 4]\n  causal: [true, false]\n")));
  std::set<std::string> ids;
  for (const InputPoint& input : grid.inputs) ids.insert(input.id);
  CHECK(ids.size() == 4);
  CHECK(grid.inputs.size() == 4);
}

TEST_CASE("Grids that nobody can run are refused before they are made", "[config]") {
  const std::string axes =
      "inputs: gaussian\nbackends: [hyper]\nsweep: {seq_len: {range: [1, 10000, 1]}, heads: {range: [1, "
      "10000, 1]}, "
      "head_dim: {range: [1, 10000, 1]}, block_size: {range: [1, 10000, 1]}, sample_size: {range: [1, 10000, "
      "1]}}";
  CHECK_THAT(grid_problem(axes), Contains("the sweep has 1e+20 combinations, more than 100000"));
  CHECK_THAT(grid_problem("trials: 1000000\n" + sweep("  sample_size: [1, 2]\n")),
             Contains("cases with 1000000 trials each are more than the 2000000 trials"));
}

TEST_CASE("What a backend or a source refuses is found for all cases before anything runs", "[config]") {
  const auto refused = [](const std::string& text) -> std::pair<int, std::string> {
    const ExperimentConfig config = fakes::read(text);
    try {
      validate_cases(config, expand_grid(config));
    } catch (const Error& error) {
      return {error.exit_code(), error.what()};
    }
    return {0, ""};
  };
  CHECK(refused(sweep("  sample_size: [16]\n")).first == 0);
  auto [code, text] = refused(sweep("  sample_size: [16, 48, 128]\n  heads: [1, 2]\n"));
  CHECK(code == 2);
  CHECK_THAT(text, Contains("test.yaml: backend 'hyper' sample_size is 48, but there are 32 keys (2 cases, "
                            "the first: hyper sample_size=48 on gaussian heads=1 seq_len=32)") &&
                       Contains("sample_size is 128, but there are 64 keys") &&
                       Contains("where: ['sample_size <= key_len']"));
  std::tie(code, text) = refused(
      "inputs: [{source: file, path: missing.h5}, {source: file, path: there.h5}]\nbackends: [exact]\n");
  CHECK(code == 3);
  CHECK_THAT(text, Contains("'missing.h5' does not exist") && !Contains("where"));
  std::tie(code, text) = refused(
      "timing: {pass: forward_backward}\ninputs: [{source: gaussian, seq_len: 8, key_len: 9}, {source: "
      "gaussian, seq_len: 8, causal: true}]\nbackends: [plain]\n");
  CHECK(code == 2);
  CHECK_THAT(text,
             Contains("backend 'plain' has no backward pass, but timing.pass is forward_backward (2 cases") &&
                 Contains("backend 'plain' has no causal form") &&
                 Contains("needs as many queries as keys, but there are 8 queries and 9 keys"));
  // A causal problem may have any number of queries and of keys.
  for (const char* key_len : {"7", "9"})
    CHECK(refused("inputs: {source: gaussian, seq_len: 8, causal: true, key_len: " + std::string(key_len) +
                  "}\nbackends: [exact]\n")
              .first == 0);
  // Usage goes before input.
  std::tie(code, text) = refused(
      "inputs: [{source: file, path: missing.h5}, {source: gaussian, seq_len: 8, key_len: 9, causal: "
      "true}]\nbackends: [plain]\n");
  CHECK(code == 2);
}
