// `hyperattn lm` from its arguments to its rows.
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <sstream>

#include "experiments/files/hdf5_file.h"
#include "experiments/language_model/text.h"
#include "experiments/lm/model_cases.h"
#include "experiments/results/results_file.h"
#include "tests/experiments/language_model/fixture.h"
#include "tests/paths.h"

using namespace hyperattn;
using namespace hyperattn::testing;
using Catch::Contains;

namespace {

std::string shipped_model() {
  return source_dir() + "/" + kDefaultModel;
}

/// The exit code of two cases, no layer and three replaced, written to `output`; with what else is said.
int two_cases(const ModelWithIds& tiny, const std::string& output, std::vector<std::string> more) {
  more.insert(more.end(), {"backends=exact", "inputs.replaced=[0, 3]", "-o", output});
  return program(tiny.lm(more));
}

}  // namespace

TEST_CASE("lm: order of replacement") {
  using Order = std::vector<int64_t>;
  CHECK(replacement_order("last", 4) == Order{3, 2, 1, 0});
  CHECK(replacement_order("first", 4) == Order{0, 1, 2, 3});
  CHECK(replacement_order("even", 5) == Order{0, 2, 4, 1, 3});
  CHECK(replacement_order("odd", 5) == Order{1, 3, 0, 2, 4});
}

TEST_CASE("lm: rows hold the losses of the model, and exact layers equal reference layers") {
  const ModelWithIds tiny;
  const std::string output = tiny.folder / "lm.h5";
  REQUIRE(program(tiny.lm({"backends=reference", "-o", output})) == 0);
  const ResultsFile results = read_results(output);
  REQUIRE(results.trials.size() == 4);
  double nats = 0;
  std::vector<double> by_window(4, 0);
  for (size_t window = 0; window < 4; ++window) {
    const auto begin = tiny.ids.begin() + static_cast<int64_t>(50 * window);
    for (const double loss : tiny.model.losses(std::vector<int32_t>(begin, begin + 51)))
      by_window[window] += loss / 50;
    nats += by_window[window] / 4;
  }
  for (size_t replaced = 0; replaced < 4; ++replaced) {
    const RowValues& row = results.trials[replaced].row;
    CAPTURE(replaced, row.number("cross_entropy"), nats);
    CHECK(row.text("status") == "ok");
    CHECK(row.integer("replaced") == static_cast<int64_t>(replaced));
    CHECK(row.text("backend") == (replaced == 0 ? "" : "reference"));
    CHECK(std::abs(row.number("cross_entropy") - nats) < 1e-5);
    CHECK(row.number("perplexity") == Approx(std::exp(nats)).epsilon(1e-5));
    CHECK(row.number("bits_per_token") == Approx(nats / std::log(2.0)).epsilon(1e-5));
    CHECK_FALSE(row.has("bits_per_byte"));
    std::istringstream windows(row.text("window_cross_entropy"));
    for (size_t window = 0; window < 4; ++window) {
      char before = 0;
      double stored = 0;
      windows >> before >> stored;
      CAPTURE(window, before, stored, by_window[window]);
      CHECK(before == (window == 0 ? '[' : ','));
      CHECK(std::abs(stored - by_window[window]) < 1e-5);
    }
    CHECK(row.number("attention_seconds") > 0);
    CHECK(row.number("attention_seconds") < row.number("seconds"));
    CHECK(row.text("text_sha256").size() == 64);
  }
  CHECK(results.trials[2].row.text("layers") == "[1, 2]");
}

TEST_CASE("lm: resuming runs what is missing, and an existing output is refused") {
  const ModelWithIds tiny;
  const std::string output = tiny.folder / "lm.h5";
  const auto call = [&](const std::vector<std::string>& more) { return two_cases(tiny, output, more); };
  REQUIRE(call({}) == 0);
  CHECK(call({}) == 2);
  ResultsFile results = read_results(output);
  REQUIRE(results.trials.size() == 2);
  CHECK(results.trials[0].row.number("cross_entropy") == results.trials[1].row.number("cross_entropy"));
  results.trials.pop_back();
  write_results(output, results);
  REQUIRE(call({"--resume"}) == 0);
  CHECK(read_results(output).missing().empty());
  CHECK(program(tiny.lm({"backends=lsh", "--resume", "-o", output})) == 2);
}

TEST_CASE("lm: results whose stored configuration has what is refused now are resumed") {
  const ModelWithIds tiny;
  const std::string output = tiny.folder / "lm.h5";
  const auto call = [&](const std::vector<std::string>& more) { return two_cases(tiny, output, more); };
  REQUIRE(call({}) == 0);
  ResultsFile results = read_results(output);
  const std::string now = results.config;
  const auto replace = [&](const std::string& old_text, const std::string& new_text) {
    REQUIRE(results.config.find(old_text) != std::string::npos);
    results.config.replace(results.config.find(old_text), old_text.size(), new_text);
  };
  replace("inputs:",
          "timing:\n  warmup: 1\n  repeats: 3\n  pass: forward\ninputs:");  // as version 0.1 wrote it
  replace("    seq_len:", "    causal: false\n    seq_len:");
  results.trials.pop_back();
  write_results(output, results);
  REQUIRE(call({"--resume"}) == 0);
  CHECK(read_results(output).missing().empty());
  CHECK(read_results(output).config == now);
  CHECK(call({"--resume", "seed=1"}) == 2);
}

TEST_CASE("lm: a dry run checks all and writes nothing; a group and a repeated number count once") {
  const ModelWithIds tiny;
  const std::string output = tiny.folder / "lm.h5";
  write_file(tiny.folder / "lm.yaml",
             "inputs: {source: language_model, replaced: [3, 1, 3]}\nbackends: exact\n"
             "groups: {base: {}, two: {trials: 2}}\n");
  const auto call = [&](std::vector<std::string> more) {
    more.insert(more.end(), {tiny.folder / "lm.yaml", "-o", output});
    return program(tiny.lm(more));
  };
  CHECK(call({"--dry-run"}) == 0);
  CHECK(call({"--dry-run", "inputs.windows=5"}) == 3);
  CHECK_FALSE(std::filesystem::exists(output));
  CHECK(call({"--group", "three"}) == 2);
  REQUIRE(call({"--group", "two"}) == 0);
  std::vector<int64_t> replaced;
  for (const TrialRecord& trial : read_results(output).trials)
    replaced.push_back(trial.row.integer("replaced"));
  CHECK(replaced == std::vector<int64_t>{0, 0, 3, 3, 1, 1});
}

TEST_CASE("lm: mistakes end with the exit code of their kind") {
  const ModelWithIds tiny;
  const std::string output = tiny.folder / "lm.h5";
  const auto code = [&](std::vector<std::string> more) {
    more.insert(more.begin(), "backends=exact");
    more.insert(more.end(), {"-o", output});
    return program(tiny.lm(more));
  };
  CHECK(code({"inputs.windows=5"}) == 3);           // text shorter than its windows
  CHECK(code({"inputs.seq_len=513"}) == 3);         // longer than the text, whatever the model's positions
  CHECK(code({"inputs.replaced=[4]"}) == 2);        // more layers than there are
  CHECK(code({"inputs.text=/etc/hostname"}) == 2);  // text and ids
  CHECK(code({"inputs.replace=middle"}) == 2);      // no such order
  CHECK(code({"trials=1000000"}) == 2);             // times four cases: more than a results file holds
  CHECK(code({"timing={pass: forward_backward}"}) == 2);
  CHECK(code({"inputs.scale=2"}) == 2);
  CHECK(code({"backends=charm"}) == 2);
  CHECK(code({"inputs.ids=" + tiny.folder / "absent"}) == 3);
  write_file(tiny.folder / "ids.txt", "1 2 37");
  CHECK(code({}) == 3);  // outside the vocabulary
  CHECK(program({"lm", "a.yaml", "b.yaml"}) == 2);
  CHECK_FALSE(std::filesystem::exists(output));
}

TEST_CASE("lm: a damaged model ends with exit code 3 and leaves no output") {
  ModelWithIds tiny;
  const std::string output = tiny.folder / "lm.h5";
  const std::string weights = tiny.folder / "model.safetensors";
  SECTION("a tensor is missing") {
    tiny.model.tensors.erase("model.layers.1.mlp.up_proj.weight");
    tiny.model.write(tiny.folder.path());
  }
  SECTION("a tensor is misshapen") {
    tiny.model.tensors["model.norm.weight"].shape = {4, 6};
    tiny.model.write(tiny.folder.path());
  }
  SECTION("the architecture is another") {
    tiny.model.config_json.replace(tiny.model.config_json.find("Llama"), 5, "Gemma");
    tiny.model.write(tiny.folder.path());
  }
  SECTION("the file is cut off") {
    std::filesystem::resize_file(weights, std::filesystem::file_size(weights) / 2);
  }
  CHECK(program(tiny.lm({"backends=exact", "-o", output})) == 3);
  CHECK_FALSE(std::filesystem::exists(output));
}

TEST_CASE("lm: capture writes the heads that the shipped file holds in float16") {
  if (!std::filesystem::exists(kDefaultText)) {
    WARN("the evaluation text is not installed here");
    return;
  }
  const ScratchFolder folder;
  const std::string output = folder / "heads.h5";
  REQUIRE(program({"lm", "--capture", output, "model=" + shipped_model(), "layers=[0, 1, 3, 5]",
                   "heads=[0, 3, 0, 3]", "paired=true"}) == 0);
  const Hdf5File made = Hdf5File::open(output);
  const Hdf5File shipped = Hdf5File::open(source_dir() + "/experiments/data/captured_heads/lm_heads_4096.h5");
  if (made.text_attribute("/inputs", "text_sha256") !=
      "2cf50833497c62491e7f97a24030823a7fcd15c05683d9985a20b8c056d01677") {
    WARN("another version of the evaluation text is installed here");
    return;
  }
  for (const char* name : {"/inputs/q", "/inputs/k", "/inputs/v"}) {
    const Tensor<float> a = made.read_tensor(name);
    const Tensor<float> b = shipped.read_tensor(name);
    REQUIRE(a.shape() == b.shape());
    double worst = 0;
    for (int64_t i = 0; i < a.shape().size(); ++i)
      worst = std::max<double>(worst, std::abs(a.data()[i] - b.data()[i]) / (1 + std::abs(b.data()[i])));
    CAPTURE(name, worst);
    CHECK(worst < 2e-2);  // float16 keeps 3 digits; the two forward passes differ in rounding
  }
  CHECK(program({"lm", "--capture", output, "model=" + shipped_model()}) == 2);  // exists
}

TEST_CASE("lm: the shipped model predicts its evaluation text as its README says") {
  if (!std::filesystem::exists(kDefaultText)) {
    WARN("the evaluation text is not installed here");
    return;
  }
  const ScratchFolder folder;
  const std::string output = folder / "lm.h5";
  REQUIRE(program({"lm", "inputs.model=" + shipped_model(), "inputs.replaced=[0]", "-o", output}) == 0);
  const ResultsFile results = read_results(output);
  const RowValues& row = results.trials.at(0).row;
  if (row.text("text_sha256") != "2cf50833497c62491e7f97a24030823a7fcd15c05683d9985a20b8c056d01677") {
    WARN("another version of the evaluation text is installed here");
    return;
  }
  CAPTURE(row.number("bits_per_byte"));
  CHECK(std::abs(row.number("bits_per_byte") - 1.1057) < 1e-4);
}
