// From text to ExperimentConfig: defaults, and every problem at once with its place.
#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>

#include "algorithms/backend.h"
#include "core/error.h"
#include "experiments/inputs/input_source.h"
#include "experiments/measures/measure.h"
#include "tests/experiments/config/fakes.h"
#include "tests/scratch_folder.h"

using namespace hyperattn;
using namespace hyperattn::fakes;
using Catch::Contains;

TEST_CASE("A minimal configuration gets every default", "[config]") {
  const ExperimentConfig config = fakes::read(kMinimal);
  CHECK(config.name == "test");
  CHECK(config.seed == 0);
  CHECK(config.trials == 1);
  CHECK(config.timing.warmup == 1);
  CHECK(config.timing.repeats == 3);
  CHECK_FALSE(config.timing.adaptive);
  CHECK(config.timing.pass == PassKind::forward);
  CHECK(config.output == "results/test.h5");
  REQUIRE(config.measures.size() == 2);
  CHECK(config.measures[0].measure->name() == "timing");
  CHECK(config.measures[1].measure->name() == "spectral_error");
  REQUIRE(config.inputs.size() == 1);
  CHECK(config.inputs[0].label == "gaussian");
  CHECK(config.inputs[0].parameters.integer("head_dim") == 64);
  CHECK_FALSE(config.inputs[0].parameters.has("key_len"));
}

TEST_CASE("A full configuration is read as written", "[config]") {
  const ExperimentConfig config = fakes::read(R"(
name: full
seed: 18446744073709551615
trials: 3
timing: {warmup: 0, repeats: auto, relative_error: 0.01, min_repeats: 4, max_repeats: 50, pass: forward_backward}
inputs:
  - {source: gaussian, seq_len: 8, causal: true, scale: 0.5}
  - {source: file, path: a.h5, query_rows: [0, 4], label: heads}
backends: [exact, {name: hyper, approx_kappa: .inf, estimator: theory}]
measures: [timing, {name: alpha, skip_columns: 32}]
output: out/x.h5
)");
  CHECK(config.seed == 18446744073709551615U);
  CHECK(config.timing.adaptive);
  CHECK(config.timing.relative_error == 0.01);
  CHECK(config.timing.min_repeats == 4);
  CHECK(config.timing.max_repeats == 50);
  CHECK(config.timing.pass == PassKind::forward_backward);
  CHECK(config.inputs[0].parameters.boolean("causal"));
  CHECK(config.inputs[0].parameters.number("scale") == 0.5);
  CHECK(config.inputs[1].label == "heads");
  CHECK(config.inputs[1].parameters.integers("query_rows") == IntegerList{0, 4});
  CHECK(config.backends[1].parameters.number("approx_kappa") > 1e300);
  CHECK(config.backends[1].parameters.text("estimator") == "theory");
  CHECK(config.measures[1].parameters.integer("skip_columns") == 32);
  CHECK(config.output == "out/x.h5");
}

TEST_CASE("All problems are reported at once, in the order of the file", "[config]") {
  const std::string problems = problems_of(R"(name: bad
trails: 3
seed: -1
timing: {repeats: 0, warmpu: 2}
inputs:
  - source: gaussian
    seqlen: 12
    heads: 2.5
backends:
  - {name: exact}
  - {name: hypr}
  - {name: lsh, bucket_count: 96,
     block_size: 0}
measures: [timing, alhpa]
)");
  CAPTURE(problems);
  CHECK(contains(problems,
                 "test.yaml:2: unknown key 'trails'; did you mean 'trials'? Allowed: name, seed, trials"));
  CHECK(contains(problems,
                 "test.yaml:3: seed must be a whole number from 0 to 18446744073709551615, but is '-1'"));
  CHECK(contains(problems, "test.yaml:4: timing.repeats must be between 1 and 1000000, but is 0"));
  CHECK(contains(problems, "test.yaml:4: unknown key 'warmpu' in timing; did you mean 'warmup'?"));
  CHECK(contains(
      problems,
      "test.yaml:7: unknown key 'seqlen' in inputs[0] (gaussian); did you mean 'seq_len'? Allowed: source"));
  CHECK(contains(problems, "test.yaml:8: inputs[0].heads must be a whole number, but is '2.5'"));
  CHECK(contains(problems, "test.yaml:6: inputs[0].seq_len is missing: 'gaussian' needs it"));
  CHECK(contains(problems, "test.yaml:11: unknown backend 'hypr' in backends[1]; did you mean 'hyper'?"));
  CHECK(contains(problems, "test.yaml:12: backends[2].bucket_count must be a power of two, but is 96"));
  CHECK(contains(problems, "test.yaml:13: backends[2].block_size must be between 1 and"));
  CHECK(contains(problems, "test.yaml:14: unknown measure 'alhpa' in measures[1]; did you mean 'alpha'?"));
  CHECK(std::count(problems.begin(), problems.end(), '\n') == 10);
  CHECK(problems.find(":2:") < problems.find(":3:"));
  CHECK(problems.find(":13:") < problems.find(":14:"));
}

TEST_CASE("What is missing or of the wrong kind is named", "[config]") {
  CHECK_THAT(problems_of(""), Contains("test.yaml: must be a map with the keys name, seed"));
  CHECK_THAT(problems_of("- 1\n"), Contains("must be a map"));
  CHECK_THAT(problems_of("name: x\n"),
             Contains("inputs is missing. Allowed: entries with 'source', one of gaussian") &&
                 Contains("backends is missing"));
  CHECK_THAT(problems_of("inputs: []\nbackends:\n"),
             Contains("test.yaml:1: inputs is empty") && Contains("test.yaml:2: backends is empty"));
  CHECK_THAT(problems_of("inputs: {seq_len: 4}\nbackends: [[exact]]\n"),
             Contains("inputs[0].source is missing. Allowed: gaussian, file, odd") &&
                 Contains("backends[0] must be a map with 'name', or the name alone, but is a list"));
  CHECK_THAT(problems_of(kMinimal + "timing: 3\n"),
             Contains("test.yaml:3: timing must be a map, but is '3'"));
  CHECK_THAT(problems_of(kMinimal + "sweep: [1]\n"), Contains("sweep must be a map of axes, but is a list"));
  CHECK_THAT(problems_of(kMinimal + "trials: 0\n"), Contains("test.yaml:3: trials must be between 1 and"));
  CHECK_THAT(problems_of(kMinimal + "trials: true\n"),
             Contains("trials must be a whole number, but is 'true'"));
  CHECK_THAT(problems_of(kMinimal + "name: [a]\n"), Contains("name must be text"));
  CHECK_THAT(problems_of(kMinimal + "name: a/b\n"), Contains("name must not hold '/'"));
  CHECK_THAT(problems_of(kMinimal + "output: {a: b}\n"),
             Contains("output must be the path of the results file, but is a map"));
  CHECK_THAT(problems_of(kMinimal + "groups: 3\n"), Contains("groups must be a map"));
  CHECK_THAT(problems_of(kMinimal + "where: [a]\n"), Contains("'where' belongs in sweep"));
}

TEST_CASE("A list where one value belongs says where lists go", "[config]") {
  CHECK_THAT(
      problems_of("inputs: {source: gaussian, seq_len: [1, 2]}\nbackends: [exact]\n"),
      Contains("inputs[0].seq_len must be a whole number, but is a list (several values go into sweep)"));
}

TEST_CASE("Adaptive timing has its own keys", "[config]") {
  CHECK_THAT(problems_of(kMinimal + "timing: {max_repeats: 9}\n"),
             Contains("has effect only with repeats: auto, but repeats is 3"));
  CHECK_THAT(problems_of(kMinimal + "timing: {repeats: auto, min_repeats: 9, max_repeats: 3}\n"),
             Contains("timing.min_repeats (9) is above timing.max_repeats (3)"));
  CHECK_THAT(problems_of(kMinimal + "timing: {repeats: often}\n"), Contains("one of auto, but is 'often'"));
  CHECK_THAT(problems_of(kMinimal + "timing: {pass: backward}\n"),
             Contains("one of forward, forward_backward, but is 'backward'"));
}

TEST_CASE("A measure is asked for once; none at all is allowed", "[config]") {
  CHECK_THAT(problems_of(kMinimal + "measures: [timing, alpha, timing]\n"),
             Contains("measures[2] names 'timing' again"));
  CHECK(fakes::read(kMinimal + "measures: []\n").measures.empty());
}

TEST_CASE("Many problems are cut to a readable number", "[config]") {
  std::string text = kMinimal;
  for (int i = 0; i < 300; ++i) text += "unknown_" + std::to_string(i) + ": 1\n";
  const std::string problems = problems_of(text);
  CHECK(std::count(problems.begin(), problems.end(), '\n') == 50);
  CHECK_THAT(problems, Contains("… and 250 more"));
}

TEST_CASE("A configuration that is not there or is a folder is an error of usage", "[config]") {
  for (const std::string path : {"/nonexistent/no.yaml", "/"}) {
    try {
      (void)read_config(path, {}, {}, registry());
      FAIL("read " << path);
    } catch (const Error& error) {
      CHECK(error.exit_code() == 2);
      CHECK_THAT(error.what(), Contains("'" + path + "'"));
    }
  }
}

TEST_CASE("A file is read as its text is, and names itself in messages", "[config]") {
  const testing::ScratchFolder folder;
  const std::string path = folder / "experiment.yaml";
  std::ofstream(path) << kMinimal;
  CHECK(read_config(path, {}, {}, registry()).name == "experiment");
  std::ofstream(path) << kMinimal << "oops: 1\n";
  CHECK_THROWS_WITH(read_config(path, {}, {}, registry()), Contains(path + ":3: unknown key 'oops'"));
}

TEST_CASE("The resolved text reads back to the same cases", "[config]") {
  const std::vector<std::string> texts = {kMinimal,
                                          R"(name: "true"
seed: 7
timing: {repeats: auto, min_repeats: 3}
inputs:
  - {source: gaussian, seq_len: 100, label: "a: \"b\" # c"}
  - {source: odd}
  - {source: file, path: "12", query_rows: [0, 4], causal: false, scale: 0.1}
sweep:
  odd.seq_len: {range: [10, 30, 10]}
  sample_size: [1, 2]
  zip:
    - {bucket_count: {pow2: [2, 8]}, inputs.heads: [1, 2, 3]}
    - {backends.block_size: [8, 16]}
  approx_kappa: [auto, 2, .inf]
  where: ["sample_size <= key_len", "backend != 'lsh' or bucket_count > 2"]
backends: [exact, lsh, hyper, {name: hyper, estimator: theory, approx_epsilon: 0.25}]
measures: [{name: alpha, skip_columns: 3}]
)"};
  for (const std::string& text : texts) {
    const ExperimentConfig config = fakes::read(text);
    CAPTURE(config.resolved_yaml);
    const ExperimentConfig again = fakes::read(config.resolved_yaml);
    CHECK(again.resolved_yaml == config.resolved_yaml);
    const Grid a = expand_grid(config);
    const Grid b = expand_grid(again);
    REQUIRE(a.cases.size() == b.cases.size());
    for (size_t i = 0; i < a.cases.size(); ++i) CHECK(a.cases[i].id == b.cases[i].id);
    CHECK(again.inputs.back().label == config.inputs.back().label);
    CHECK(again.timing.min_repeats == config.timing.min_repeats);
  }
}

TEST_CASE("The resolved text holds the overrides and no groups", "[config]") {
  const std::string text =
      "inputs: [{source: gaussian}, {source: odd}]\nsweep: {seq_len: [8, 16]}\nbackends: [exact]\n"
      "groups: {base: {trials: 2}, smoke: {trials: 1, sweep.seq_len: [4]}}\n";
  const ExperimentConfig config = fakes::read(text, {"inputs[0].seq_len=32"}, "smoke");
  CAPTURE(config.resolved_yaml);
  CHECK(contains(config.resolved_yaml, "trials: 1\n"));
  CHECK(contains(config.resolved_yaml, "\"inputs[1].seq_len\": [4]"));
  CHECK(contains(config.resolved_yaml, "seq_len: 32\n"));
  CHECK_FALSE(contains(config.resolved_yaml, "groups"));
  CHECK(case_lines(fakes::read(config.resolved_yaml)) == case_lines(config));
}
