// Texts and ids, captured heads, and `hyperattn lm` from its arguments to its rows.
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <sstream>

#include "experiments/files/hdf5_file.h"
#include "experiments/inputs/input_source.h"
#include "experiments/inputs/language_model.h"
#include "experiments/language_model/model_cases.h"
#include "experiments/language_model/text.h"
#include "experiments/results/results_file.h"
#include "tests/experiments/language_model/fixture.h"
#include "tests/paths.h"

using namespace hyperattn;
using namespace hyperattn::testing;
using Catch::Contains;

namespace {

/// A tiny model with a file of random ids beside it.
struct TinyCase {
  ScratchFolder folder;
  TinyModel model{TinyModelOptions{}, WeightType::f32, 5};
  std::vector<int32_t> ids;

  TinyCase() {
    model.write(folder.path());
    std::string text;
    for (int i = 0; i < 201; ++i) {
      ids.push_back((i * i + 3 * i) % 37);
      text += std::to_string(ids.back()) + (i % 10 == 9 ? "\n" : " ");
    }
    write_file(folder / "ids.txt", text);
  }

  [[nodiscard]] std::vector<std::string> lm(std::vector<std::string> more) const {
    std::vector<std::string> arguments = {"lm", "inputs.model=" + folder.path(),
                                          "inputs.ids=" + folder / "ids.txt", "inputs.seq_len=50",
                                          "inputs.windows=4"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

std::string shipped_model() {
  return source_dir() + "/" + kDefaultModel;
}

}  // namespace

TEST_CASE("language model text: a folder is its files, then its subfolders, joined by zero bytes") {
  const ScratchFolder folder;
  std::filesystem::create_directories(folder / "a/c");
  write_file(folder / "b", "B");
  write_file(folder / "z", "Z");
  write_file(folder / "a/x", "X");
  write_file(folder / "a/c/y", "Y\xff");
  CHECK(read_text_bytes(folder.path()) == std::string("B\0Z\0X\0Y\xff", 8));
  const TokenText text = byte_tokens(folder.path());
  CHECK(text.ids == std::vector<int32_t>{'B', 0, 'Z', 0, 'X', 0, 'Y', 255});
  CHECK(text.bytes);
  CHECK(text.window(1, 3) == text.ids.data() + 3);
  CHECK_THAT(input_error([&] { (void)text.window(2, 3); }),
             Contains("window 2 of 3 tokens needs 10 tokens, but it has 8"));
}

TEST_CASE("language model text: links are followed, and folders that lie in themselves refused") {
  const ScratchFolder folder;
  std::filesystem::create_directories(folder / "text/a/b");
  write_file(folder / "text/a/b/x", "X");
  write_file(folder / "elsewhere", "E");
  std::filesystem::create_symlink("../elsewhere", folder / "text/e");
  std::filesystem::create_symlink("a", folder / "text/twice");  // no loop: a folder that is met twice
  CHECK(read_text_bytes(folder / "text") == std::string("E\0X\0X", 5));
  const auto refusal = [&](const std::string& target, const std::string& link) {
    std::filesystem::create_symlink(target, folder / link);
    const std::string message = input_error([&] { (void)read_text_bytes(folder / "text"); });
    std::filesystem::remove(folder / link);
    return message;
  };
  CHECK_THAT(refusal(".", "text/self"), Contains("text/self'") && Contains("leads back to"));
  CHECK_THAT(refusal("..", "text/a/b/up"), Contains("a/b/up'") && Contains("text/a'"));
  CHECK_THAT(refusal("loop", "text/loop"), Contains("text/loop'") && Contains("symbolic links"));
  CHECK_THAT(refusal("absent", "text/dangling"), Contains("text/dangling'"));
  REQUIRE(mkfifo((folder / "text/fifo").c_str(), 0600) == 0);  // reading it would wait for ever
  CHECK_THAT(input_error([&] { (void)read_text_bytes(folder / "text"); }),
             Contains("neither a file nor a folder"));
}

TEST_CASE("language model text: what cannot be tokens is refused, with its place") {
  const ScratchFolder folder;
  const auto refusal = [&](const std::string& ids) {
    write_file(folder / "ids", ids);
    return input_error([&] { (void)read_token_file(folder / "ids", 37); });
  };
  CHECK(refusal(" 1\t36\n0") == "no error");
  CHECK_THAT(refusal("1 2\n3 37"), Contains("line 2") && Contains("'37'") && Contains("between 0 and 36"));
  CHECK_THAT(refusal("1 -1"), Contains("'-1'") && Contains("between 0 and 36"));
  CHECK_THAT(refusal("1 2.5"), Contains("'2.5'") && Contains("decimal"));
  CHECK_THAT(refusal("1 99999999999999999999"), Contains("decimal"));
  CHECK_THAT(refusal("\n"), Contains("holds no ids"));
  CHECK_THAT(input_error([&] { (void)byte_tokens(folder / "absent"); }), Contains("does not exist"));
  write_file(folder / "empty", "");
  CHECK_THAT(input_error([&] { (void)byte_tokens(folder / "empty"); }), Contains("empty"));
}

TEST_CASE("language model source: heads in the order asked for, rows cut, refusals") {
  const TinyCase tiny;
  const InputSource& source = *find_input_source("language_model");
  Parameters parameters = default_parameters(source.parameters());
  parameters.set("model", tiny.folder.path());
  parameters.set("ids", tiny.folder / "ids.txt");
  parameters.set("seq_len", int64_t{20});
  CHECK(source.shapes(parameters).query == TensorShape{1, 18, 20, 8});
  const AttentionInputs all = source.make(parameters, 0, 2);
  parameters.set("layers", IntegerList{2, 0});
  parameters.set("heads", IntegerList{1, 5});
  parameters.set("paired", true);
  parameters.set("query_rows", IntegerList{10, 20});
  parameters.set("key_rows", IntegerList{0, 7});
  const AttentionInputs some = source.make(parameters, 0, 2);
  REQUIRE(some.query.shape() == TensorShape{1, 2, 10, 8});
  REQUIRE(some.value.shape() == TensorShape{1, 2, 7, 8});
  CHECK(some.query.matrix(0).row(3)[2] == all.query.matrix(13).row(13)[2]);
  CHECK(some.key.matrix(1).row(6)[7] == all.key.matrix(5).row(6)[7]);
  CHECK(some.value.matrix(0).row(0)[0] == all.value.matrix(13).row(0)[0]);

  parameters.set("heads", IntegerList{1});
  CHECK_THAT(usage_error([&] { (void)source.shapes(parameters); }), Contains("2 layers and 1 heads"));
  parameters.set("heads", IntegerList{1, 6});
  CHECK_THAT(usage_error([&] { (void)source.shapes(parameters); }), Contains("between 0 and 5"));
  parameters.set("heads", IntegerList{1, 5});
  parameters.set("key_rows", IntegerList{0, 21});
  CHECK_THAT(usage_error([&] { (void)source.shapes(parameters); }), Contains("key_rows") && Contains("20"));
  parameters.erase("key_rows");
  CHECK_THAT(input_error([&] { (void)source.make(parameters, 0, 10); }), Contains("too short"));
  parameters.set("seq_len", int64_t{513});
  CHECK_NOTHROW(source.shapes(parameters));  // beyond max_position_embeddings: a warning, later
  parameters.set("seq_len", int64_t{20});
  parameters.erase("ids");
  CHECK_THAT(usage_error([&] { source.check_contents(parameters); }), Contains("no byte tokenizer"));
}

TEST_CASE("lm: order of replacement") {
  using Order = std::vector<int64_t>;
  CHECK(replacement_order("last", 4) == Order{3, 2, 1, 0});
  CHECK(replacement_order("first", 4) == Order{0, 1, 2, 3});
  CHECK(replacement_order("even", 5) == Order{0, 2, 4, 1, 3});
  CHECK(replacement_order("odd", 5) == Order{1, 3, 0, 2, 4});
}

TEST_CASE("lm: rows hold the losses of the model, and exact layers equal reference layers") {
  const TinyCase tiny;
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
  const TinyCase tiny;
  const std::string output = tiny.folder / "lm.h5";
  const auto call = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"backends=exact", "inputs.replaced=[0, 3]", "-o", output});
    return program(tiny.lm(more));
  };
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
  const TinyCase tiny;
  const std::string output = tiny.folder / "lm.h5";
  const auto call = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"backends=exact", "inputs.replaced=[0, 3]", "-o", output});
    return program(tiny.lm(more));
  };
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
  const TinyCase tiny;
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
  const TinyCase tiny;
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
  TinyCase tiny;
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
