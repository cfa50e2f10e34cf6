// `hyperattn lm --logits`: what it writes, and what it refuses.
#include <catch2/catch.hpp>
#include <cmath>

#include "experiments/files/hdf5_file.h"
#include "experiments/lm/logits.h"
#include "tests/experiments/language_model/fixture.h"

using namespace hyperattn;
using namespace hyperattn::testing;
using Catch::Contains;

namespace {

/// A tiny model and twelve ids.
struct TinyCase {
  ScratchFolder folder;
  TinyModel model{TinyModelOptions{}, WeightType::f32, 5};
  std::vector<int32_t> ids = {3, 36, 0, 7, 7, 12, 30, 1, 22, 5, 18, 9};

  TinyCase() {
    model.write(folder.path());
    write_file(folder / "ids.json", "[3, 36, 0, 7, 7, 12, 30, 1, 22, 5, 18, 9]");
  }

  int logits(const std::string& output, std::vector<std::string> more) const {
    std::vector<std::string> arguments = {"lm",
                                          "--logits",
                                          folder / output,
                                          "model=" + folder.path(),
                                          "inputs.ids=" + folder / "ids.json",
                                          "seq_len=12"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return program(arguments);
  }
};

}  // namespace

TEST_CASE("logits: they give the losses of a double-precision forward pass; chosen rows are those of all") {
  const TinyCase tiny;
  REQUIRE(tiny.logits("all.h5", {}) == 0);
  const Hdf5File all = Hdf5File::open(tiny.folder / "all.h5");
  const DoubleArray logits = all.read_doubles("/logits");
  REQUIRE(logits.shape == std::vector<int64_t>{12, 37});
  const std::vector<double> losses = tiny.model.losses(tiny.ids);
  for (size_t i = 0; i < losses.size(); ++i) {
    const double* row = logits.values.data() + i * 37;
    double sum = 0;
    for (int j = 0; j < 37; ++j) sum += std::exp(row[j]);
    CAPTURE(i);
    CHECK(std::log(sum) - row[tiny.ids[i + 1]] == Approx(losses[i]).margin(2e-4));
  }
  CHECK(all.read_integers("/ids").values == std::vector<int64_t>(tiny.ids.begin(), tiny.ids.end()));
  CHECK(all.read_integers("/positions").values.size() == 12);
  CHECK(all.text_attribute("/logits", "architecture") == "LlamaForCausalLM");
  CHECK(all.text_attribute("/logits", "replaced_layers") == "[]");

  REQUIRE(tiny.logits("some.h5", {"--positions", "11,0,3:5"}) == 0);
  const Hdf5File some = Hdf5File::open(tiny.folder / "some.h5");
  const std::vector<int64_t> positions = some.read_integers("/positions").values;
  CHECK(positions == std::vector<int64_t>{11, 0, 3, 4});
  const DoubleArray chosen = some.read_doubles("/logits");
  REQUIRE(chosen.shape == std::vector<int64_t>{4, 37});
  for (int64_t i = 0; i < 4; ++i)
    for (int64_t j = 0; j < 37; ++j)
      CHECK(chosen.values[i * 37 + j] == logits.values[positions[static_cast<size_t>(i)] * 37 + j]);
}

TEST_CASE("logits: layers may be replaced, and reference attention gives the same") {
  const TinyCase tiny;
  REQUIRE(tiny.logits("exact.h5", {}) == 0);
  REQUIRE(tiny.logits("reference.h5", {"backends=reference", "replaced=[2]"}) == 0);
  const Hdf5File reference = Hdf5File::open(tiny.folder / "reference.h5");
  CHECK(reference.text_attribute("/logits", "replaced_layers") == "[1, 2]");
  CHECK_THAT(reference.text_attribute("/logits", "attention"), Contains("2 layers: reference"));
  const DoubleArray a = Hdf5File::open(tiny.folder / "exact.h5").read_doubles("/logits");
  const DoubleArray b = reference.read_doubles("/logits");
  double largest = 0;
  for (int64_t i = 0; i < a.values.size(); ++i)
    largest = std::max(largest, std::abs(a.values[i] - b.values[i]));
  CHECK(largest < 1e-4);
  CHECK(largest > 0);
}

TEST_CASE("logits: misuse is refused with the exit code of its kind, and nothing is left behind") {
  const TinyCase tiny;
  CHECK(tiny.logits("out.h5", {"seq_len=13"}) == 3);  // 12 ids
  CHECK(tiny.logits("out.h5", {"windows=2"}) == 2);
  CHECK(tiny.logits("out.h5", {"replaced=[1, 2]"}) == 2);
  CHECK(tiny.logits("out.h5", {"backends=[exact, dense]"}) == 2);
  CHECK(tiny.logits("out.h5", {"trials=2"}) == 2);
  CHECK(tiny.logits("out.h5", {"backends=dense"}) == 2);  // which replaces nothing
  CHECK(tiny.logits("out.h5", {"--resume"}) == 2);
  CHECK(tiny.logits("out.h5", {"-o", "other.h5"}) == 2);
  CHECK(tiny.logits("out.h5", {"--positions", "12"}) == 2);
  CHECK_FALSE(std::filesystem::exists(tiny.folder / "out.h5"));
  CHECK(tiny.logits("ids.json", {"--force"}) == 2);  // an input
  CHECK(program({"lm", "--positions", "1"}) == 2);
  REQUIRE(tiny.logits("out.h5", {}) == 0);
  CHECK(tiny.logits("out.h5", {}) == 2);
  CHECK(tiny.logits("out.h5", {"--force"}) == 0);
}

TEST_CASE("logits: positions are numbers and half-open ranges") {
  using List = std::vector<int64_t>;
  CHECK(parse_positions("", 3) == List{0, 1, 2});
  CHECK(parse_positions("2,0,0", 3) == List{2, 0, 0});
  CHECK(parse_positions("1:3,0", 3) == List{1, 2, 0});
  for (const char* wrong : {"3", "-1", "a", "1,", ",1", "1:1", "2:1", "0:4", "1:2:3", "1 2", ":", "1:"}) {
    CAPTURE(wrong);
    CHECK_THAT(usage_error([&] { (void)parse_positions(wrong, 3); }), Contains("--positions"));
  }
}
