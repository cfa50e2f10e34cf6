// KEY=VALUE arguments and groups: one form, the YAML's own paths, and who wins.
#include <catch2/catch.hpp>

#include "algorithms/backend.h"
#include "experiments/inputs/input_source.h"
#include "tests/experiments/config/fakes.h"

using namespace hyperattn;
using namespace hyperattn::fakes;
using Catch::Contains;

namespace {

const std::string kTwoInputs = R"(trials: 2
inputs:
  - {source: gaussian, seq_len: 64}
  - {source: file, path: a.h5}
sweep:
  block_size: [8, 16]
backends: [exact, lsh, {name: hyper, sample_size: 4}]
)";

}  // namespace

TEST_CASE("Top-level values and timing can be overridden", "[config]") {
  const ExperimentConfig config = fakes::read(kMinimal, {"trials=5", "seed=9", "name=other", "output=x.h5",
                                                         "timing.repeats=7", "timing={warmup: 0}"});
  CHECK(config.trials == 5);
  CHECK(config.seed == 9);
  CHECK(config.name == "other");
  CHECK(config.output == "x.h5");
  CHECK(config.timing.repeats == 7);
  CHECK(config.timing.warmup == 0);
}

TEST_CASE("The shell's word is taken as it stands", "[config]") {
  const auto output = [](const std::string& value) {
    return fakes::read(kMinimal, {"output=" + value}).output;
  };
  for (const std::string text : {"run #3.h5", "#3.h5", "it's.h5", "a  b.h5", "&anchor a.h5", "x # y # z",
                                 "C:\\x #1", "! b", "~/x #1", "null #1"})
    CHECK(output(text) == text);
  CHECK(output("'quoted #3.h5'") == "quoted #3.h5");
  CHECK(output("\"quoted \\\" #3.h5\"") == "quoted \" #3.h5");
  CHECK(output(" spaces.h5 ") == "spaces.h5");
  CHECK_THAT(problems_of(kMinimal, {"output='a' #b"}), Contains("begins a comment"));
  CHECK_THAT(problems_of(kMinimal, {"sweep.seq_len=[64, 128] # two"}), Contains("begins a comment"));
  CHECK_THAT(problems_of(kMinimal, {"trials=2 # two"}), Contains("trials") && Contains("2 # two"));
  CHECK(
      fakes::read(kMinimal, {"inputs=[{source: file, path: 'a #2.h5'}]"}).inputs[0].parameters.text("path") ==
      "a #2.h5");
  CHECK_THAT(problems_of(kMinimal, {"inputs=[{source: file, path: a #2.h5}]"}), Contains("inputs="));
  CHECK_THAT(problems_of(kMinimal, {"output=\"a\" b"}), Contains("YAML"));
  CHECK_THAT(problems_of(kMinimal, {"output=a: b"}), Contains("a map"));
}

TEST_CASE("Truth and null in every spelling of YAML 1.2", "[config]") {
  for (const char* word : {"true", "True", "TRUE"}) {
    CHECK(
        fakes::read(kMinimal, {std::string("inputs.causal=") + word}).inputs[0].parameters.boolean("causal"));
    CHECK(fakes::case_lines(
              fakes::read(kMinimal, {"inputs.causal=true", std::string("sweep.where=causal == ") + word}))
              .size() == 1);
  }
  for (const char* word : {"false", "False", "FALSE"})
    CHECK_FALSE(
        fakes::read(kMinimal, {std::string("inputs.causal=") + word}).inputs[0].parameters.boolean("causal"));
  CHECK_THAT(problems_of(kMinimal, {"inputs.causal=tRUE"}), Contains("true or false"));
  CHECK_THAT(problems_of(kMinimal, {"inputs.causal='true'"}), Contains("the text \"true\""));
  for (const char* word : {"~", "null", "Null", "NULL"}) {
    CAPTURE(word);
    CHECK_FALSE(
        fakes::read(kMinimal, {std::string("inputs.key_len=") + word}).inputs[0].parameters.has("key_len"));
    CHECK(fakes::read(kMinimal + "sweep: " + word + "\ngroups: " + word + "\n").sweep.empty());
    CHECK(fakes::read(kMinimal + "sweep: {heads: [1, 2]}\n", {std::string("sweep.heads=") + word})
              .sweep.empty());
    CHECK_THAT(problems_of(kMinimal, {std::string("inputs.heads=") + word}), Contains("is null"));
  }
  CHECK_THAT(problems_of(kMinimal, {"inputs.key_len="}), Contains("is empty"));
}

TEST_CASE("An entry takes over another one by a merge key", "[config]") {
  const ExperimentConfig config = fakes::read(
      "inputs: {source: gaussian, seq_len: 64}\nbackends:\n  - &h {name: hyper, block_size: 16, sample_size: "
      "8}\n"
      "  - {<<: *h, block_size: 32}\n");
  REQUIRE(config.backends.size() == 2);
  CHECK(config.backends[1].parameters.integer("block_size") == 32);
  CHECK(config.backends[1].parameters.integer("sample_size") == 8);
  CHECK_THAT(problems_of("inputs: {source: gaussian, seq_len: 64}\nbackends:\n  - &h {name: hyper, "
                         "blok_size: 16}\n  - {<<: *h}\n"),
             Contains("test.yaml:3") && Contains("blok_size"));
}

TEST_CASE("inputs.KEY reaches every entry whose source has the parameter", "[config]") {
  const ExperimentConfig config = fakes::read(kTwoInputs, {"inputs.heads=4", "inputs.seq_len=32"});
  CHECK(config.inputs[0].parameters.integer("heads") == 4);
  CHECK_FALSE(config.inputs[1].parameters.has("heads"));
  CHECK(config.inputs[0].parameters.integer("seq_len") == 32);
  CHECK(config.inputs[1].parameters.integer("seq_len") == 32);
}

TEST_CASE("An index reaches one entry, a name all of that name", "[config]") {
  const ExperimentConfig config =
      fakes::read(kTwoInputs, {"inputs[0].head_dim=32", "hyper.sample_size=9", "gaussian.heads=3", "sweep="});
  CHECK(config.inputs[0].parameters.integer("head_dim") == 32);
  CHECK(config.inputs[0].parameters.integer("heads") == 3);
  CHECK(config.backends[2].parameters.integer("sample_size") == 9);
}

TEST_CASE("A whole section can be replaced", "[config]") {
  const ExperimentConfig config =
      fakes::read(kTwoInputs, {"backends=[lsh]", "inputs={source: odd, seq_len: 3}", "backends[0]=hyper",
                               "measures=[{name: alpha}]", "sweep="});
  REQUIRE(config.backends.size() == 1);
  CHECK(config.backends[0].backend->name() == "hyper");
  REQUIRE(config.inputs.size() == 1);
  CHECK(config.inputs[0].source->name() == "odd");
  CHECK(config.measures.size() == 1);
  CHECK(config.sweep.empty());
}

TEST_CASE("A map without a name goes into every entry that has the parameters", "[config]") {
  const ExperimentConfig config = fakes::read(kTwoInputs, {"inputs={causal: true, heads: 2}"});
  CHECK(config.inputs[1].parameters.boolean("causal"));
  CHECK(config.inputs[0].parameters.integer("heads") == 2);
}

TEST_CASE("Measures take overrides by their name", "[config]") {
  const std::string text = kMinimal + "measures: [alpha]\n";
  CHECK(fakes::read(text, {"alpha.skip_columns=5"}).measures[0].parameters.integer("skip_columns") == 5);
  CHECK(fakes::read(text, {"measures[0].skip_columns=6"}).measures[0].parameters.integer("skip_columns") ==
        6);
}

TEST_CASE("Axes can be set, generated, and taken away", "[config]") {
  CHECK(case_lines(fakes::read(kMinimal, {"sweep.heads=[2,3]"})).size() == 2);
  CHECK(case_lines(fakes::read(kMinimal, {"sweep.heads={pow2: [2, 16]}"})).size() == 4);
  CHECK(case_lines(fakes::read(kMinimal, {"sweep={heads: [2, 3], head_dim: [8, 16, 32]}"})).size() == 6);
  CHECK(case_lines(fakes::read(kTwoInputs, {"sweep.block_size="})).size() == 6);
  CHECK(case_lines(fakes::read(kTwoInputs, {"sweep.where=block_size < 10"})).size() == 6);
}

TEST_CASE("The command line goes before the file, whatever sets the parameter", "[config]") {
  const std::string swept = "inputs: {source: gaussian}\nsweep: {seq_len: [64, 128]}\nbackends: [exact]\n";
  CHECK(case_lines(fakes::read(swept, {"inputs.seq_len=8"})) ==
        std::vector<std::string>{"exact on gaussian seq_len=8"});
  CHECK(case_lines(fakes::read(kMinimal, {"sweep.seq_len=[8, 9]"})) ==
        std::vector<std::string>{"exact on gaussian seq_len=8", "exact on gaussian seq_len=9"});
  // An entry that the override pins leaves the axis to the others.
  const ExperimentConfig config =
      fakes::read(kTwoInputs, {"hyper.block_size=5", "inputs[1]=gaussian", "inputs[1].seq_len=64"});
  CHECK(case_lines(config) ==
        std::vector<std::string>{"exact on gaussian seq_len=64", "lsh block_size=8 on gaussian seq_len=64",
                                 "lsh block_size=16 on gaussian seq_len=64",
                                 "hyper block_size=5 sample_size=4 on gaussian seq_len=64"});
}

TEST_CASE("The later of two arguments for one path wins", "[config]") {
  CHECK(fakes::read(kMinimal, {"trials=5", "trials=6"}).trials == 6);
}

TEST_CASE("Wrong arguments are refused by name", "[config]") {
  const auto refused = [](const std::string& argument) { return problems_of(kTwoInputs, {argument}); };
  CHECK_THAT(refused("trials"), Contains("argument 'trials': is not of the form KEY=VALUE"));
  CHECK_THAT(refused("=3"), Contains("is not of the form KEY=VALUE"));
  CHECK_THAT(refused("trials=0"), Contains("argument 'trials=0': trials must be between 1 and"));
  CHECK_THAT(refused("trails=3"), Contains("unknown path 'trails'; did you mean 'trials'?"));
  CHECK_THAT(refused("seq_len=3"),
             Contains("'seq_len' is a parameter of inputs: write inputs.seq_len, or sweep.seq_len"));
  CHECK_THAT(refused("inputs.haeds=3"),
             Contains("unknown parameter 'haeds' in inputs; did you mean 'heads'?"));
  CHECK_THAT(refused("hypr.block_size=3"), Contains("unknown path 'hypr'; did you mean 'hyper'?"));
  CHECK_THAT(refused("hyper.blocksize=3"),
             Contains("unknown parameter 'blocksize' in hyper; did you mean 'block_size'?"));
  CHECK_THAT(refused("inputs[2].heads=3"),
             Contains("inputs[2] does not exist; the entries are numbered from 0, and there are 2"));
  CHECK_THAT(refused("inputs[1].heads=3"),
             Contains("argument 'inputs[1].heads=3': unknown key 'heads' in inputs[1] (file)"));
  CHECK_THAT(refused("inputs[x].heads=3"), Contains("is not a path"));
  CHECK_THAT(refused("inputs[-1].heads=3"), Contains("is not a path"));
  CHECK_THAT(refused("inputs[99999999999999999999].heads=3"), Contains("is not a path"));
  CHECK_THAT(refused("inputs.=3"), Contains("is not a path"));
  CHECK_THAT(refused("sweep.haeds=[1]"),
             Contains("argument 'sweep.haeds=[1]': sweep.haeds applies nowhere") &&
                 Contains("did you mean 'heads'?"));
  CHECK_THAT(refused("sweep.heads=[1"), Contains("argument 'sweep.heads=[1': not well-formed YAML"));
  CHECK_THAT(refused("timing.warmpu=1"), Contains("unknown key 'warmpu' in timing"));
  CHECK_THAT(refused("groups.smoke=1"), Contains("unknown path 'groups'"));
  CHECK_THAT(refused("backends=[]"), Contains("backends is empty"));
  CHECK_THAT(
      refused("hyper.block_size=x"),
      Contains("argument 'hyper.block_size=x': backends[2].block_size must be a whole number, but is 'x'"));
}

TEST_CASE("Groups are assignments with a name; base is the default", "[config]") {
  const std::string text = kTwoInputs + R"(groups:
  base: {trials: 7}
  smoke:
    trials: 1
    timing: {repeats: 1}
    sweep: {block_size: [4]}
    inputs.seq_len: 16
    hyper.sample_size: 2
)";
  CHECK(fakes::read(text).trials == 7);
  CHECK(fakes::read(text).group == "base");
  for (const ExperimentConfig& config :
       {fakes::read(text, {}, "smoke"), fakes::read(text, {"group=smoke"})}) {
    CHECK(config.group == "smoke");
    CHECK(config.trials == 1);
    CHECK(config.timing.repeats == 1);
    CHECK(config.timing.warmup == 1);
    CHECK(config.inputs[0].parameters.integer("seq_len") == 16);
    CHECK(config.backends[2].parameters.integer("sample_size") == 2);
    CHECK(config.sweep[0].axes[0].values.size() == 1);
  }
  CHECK(fakes::read(text, {"trials=3"}, "smoke").trials == 3);
  CHECK_THAT(problems_of(text, {}, "papr"), Contains("has no group 'papr'. Allowed: base, smoke"));
  CHECK_THAT(problems_of(kTwoInputs, {"group=base"}), Contains("it has no groups"));
}

TEST_CASE("A mistake in a group that was not asked for is found, too", "[config]") {
  const std::string problems =
      problems_of(kMinimal + "groups:\n  paper:\n    inputs.seqlen: 3\n  other: 4\n");
  CHECK_THAT(problems, Contains("test.yaml:6: groups.other must be a map of assignments"));
  CHECK_THAT(problems_of(kMinimal + "groups:\n  paper:\n    inputs.seqlen: 3\n"),
             Contains("test.yaml:5: unknown parameter 'seqlen' in inputs; did you mean 'seq_len'?") &&
                 Contains("(in group paper)"));
  CHECK_THAT(problems_of(kMinimal + "groups:\n  paper: {trials: 0}\n"),
             Contains("test.yaml:4: trials must be") && Contains("(in group paper)"));
}
