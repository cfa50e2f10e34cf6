// Parameters without an effect: refused where an entry sets them, one case where an axis does.
#include <catch2/catch.hpp>

#include "core/error.h"
#include "experiments/config/attend_arguments.h"
#include "experiments/config/grid.h"

namespace hyperattn {
namespace {

using Catch::Matchers::Contains;

const std::string kInputs = "inputs: {source: gaussian, seq_len: 64, head_dim: 8}\n";

ExperimentConfig read(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return read_config_text(text, "test.yaml", overrides);
}

std::string problems_of(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    (void)read(text, overrides);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

std::vector<std::string> lines_of(const Grid& grid) {
  std::vector<std::string> lines;
  for (const Case& grid_case : grid.cases)
    lines.push_back(describe_case(grid.inputs[grid_case.input], grid_case));
  return lines;
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("a value without an effect on one entry is refused by name, with the reason", "[effects]") {
  CHECK(problems_of(kInputs + "backends: {name: hyper, mask_path: mask.h5}\n") ==
        "test.yaml:2: backends[0].mask_path has effect only with mask: file, but mask is sort_lsh");
  CHECK(problems_of(kInputs + "backends: {name: lsh, mask: band, bucket_count: 64}\n") ==
        "test.yaml:2: backends[0].bucket_count has effect only with mask: sort_lsh, but mask is band");
  CHECK(problems_of(kInputs + "backends: {name: hyper, min_seq_len: 64}\n") ==
        "test.yaml:2: backends[0].min_seq_len has effect only with causal: true, but causal is false");
  CHECK(problems_of(kInputs + "backends: {name: hyper, mask: band, centre_keys: true}\n") ==
        "test.yaml:2: backends[0].centre_keys has effect only with buckets: lsh, and buckets has effect only "
        "with mask: sort_lsh, but mask is band");
  CHECK(problems_of(kInputs + "backends: exact\ntiming: {max_repeats: 7}\n") ==
        "test.yaml:3: timing.max_repeats has effect only with repeats: auto, but repeats is 3");
}

TEST_CASE("every shipped choice of the estimator leaves its own parameters in effect", "[effects]") {
  CHECK(
      problems_of(kInputs + "backends: {name: hyper, estimator: theory, sample_size: 16, approx_kappa: 10}\n")
          .empty());
  CHECK(
      problems_of(kInputs + "backends: {name: hyper, estimator: theory, sampling: value_norm}\n") ==
      "test.yaml:2: backends[0].sampling has effect only with residual: sample, and residual has effect only "
      "with estimator: residual, but estimator is theory");
}

TEST_CASE("the default may be written where it has no effect: a resolved configuration has all",
          "[effects]") {
  CHECK(problems_of(kInputs + "backends: {name: lsh, mask: band, bucket_count: 128}\n").empty());
  const ExperimentConfig config =
      read(kInputs + "backends: [exact, lsh, {name: hyper, estimator: theory, clip_constant: 2}]\n");
  CHECK(read(config.resolved_yaml).resolved_yaml == config.resolved_yaml);
}

TEST_CASE("an effect in one case of the sweep is enough", "[effects]") {
  CHECK(problems_of(kInputs + "sweep: {mask: [sort_lsh, band]}\n"
                              "backends: {name: hyper, bucket_count: 64, band_width: 4}\n")
            .empty());
  CHECK(problems_of(kInputs + "sweep: {causal: [false, true]}\nbackends: {name: hyper, min_seq_len: 64}\n")
            .empty());
  CHECK(
      problems_of("inputs: [{source: gaussian, seq_len: 64}, {source: gaussian, seq_len: 64, causal: true}]\n"
                  "backends: {name: hyper, min_seq_len: 64}\n")
          .empty());
}

TEST_CASE("an argument that takes the effect from a value of the file is no fault of the file", "[effects]") {
  const std::string text = kInputs + "backends: {name: hyper, bucket_count: 64}\n";
  CHECK(problems_of(text, {"hyper.mask=none"}).empty());
  CHECK(problems_of(text, {"hyper.mask=none", "hyper.bucket_count=32"}) ==
        "argument 'hyper.bucket_count=32': backends[0].bucket_count has effect only with mask: sort_lsh, but "
        "mask is none");
  CHECK(problems_of(text, {"hyper.mask_path=/nonexistent.h5"}) ==
        "argument 'hyper.mask_path=/nonexistent.h5': backends[0].mask_path has effect only with mask: file, "
        "but mask is sort_lsh");
}

TEST_CASE("attend refuses what has no effect, by name", "[effects]") {
  const auto problem = [](const std::vector<std::string>& arguments) -> std::string {
    try {
      (void)read_attend_arguments(arguments);
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  };
  CHECK_THAT(problem({"backend=hyper", "min_seq_len=64"}),
             Contains("min_seq_len has effect only with causal: true, but causal is false"));
  CHECK(problem({"backend=hyper", "min_seq_len=64", "causal=true"}).empty());
  CHECK(problem({"backend=hyper", "min_seq_len=2048"}).empty());
}

TEST_CASE("points of an axis without an effect are one case, with the default", "[effects]") {
  const Grid grid =
      expand_grid(read(kInputs + "sweep: {bucket_count: [16, 32, 64]}\n"
                                 "backends: [{name: lsh}, {name: lsh, mask: band, band_width: 4}]\n"));
  CHECK(lines_of(grid) == Lines{"lsh bucket_count=16 on gaussian head_dim=8 seq_len=64",
                                "lsh bucket_count=32 on gaussian head_dim=8 seq_len=64",
                                "lsh bucket_count=64 on gaussian head_dim=8 seq_len=64",
                                "lsh band_width=4 mask=band on gaussian head_dim=8 seq_len=64"});
  CHECK(grid.cases[3].parameters.integer("bucket_count") == 128);
  REQUIRE(grid.collapsed.size() == 1);
  CHECK(grid.collapsed[0].parameter == "bucket_count");
  CHECK(grid.collapsed[0].count == 2);
  CHECK(grid.collapsed[0].why == "has effect only with mask: sort_lsh, but mask is band");
  CHECK(grid.collapsed[0].example == "lsh band_width=4 mask=band on gaussian head_dim=8 seq_len=64");
}

TEST_CASE("the case of an axis without an effect has the name that it has without the axis", "[effects]") {
  const std::string backends = "backends: {name: lsh, mask: band, band_width: 4}\n";
  const Grid with = expand_grid(read(kInputs + "sweep: {block_size: [16, 32]}\n" + backends));
  const Grid without = expand_grid(read(kInputs + backends));
  REQUIRE(with.cases.size() == 1);
  CHECK(with.cases[0].id == without.cases[0].id);
}

TEST_CASE("an axis collapses case by case: over causal and other inputs, and over choices", "[effects]") {
  const Grid causal = expand_grid(read(kInputs + "sweep: {causal: [false, true], min_seq_len: [16, 32]}\n"
                                                 "backends: {name: lsh}\n"));
  CHECK(causal.cases.size() == 3);
  const Grid residuals = expand_grid(
      read(kInputs + "sweep: {residual: [sample, centroids, none], sampling: [uniform, value_norm], "
                     "sample_size: [8, 16]}\nbackends: {name: hyper}\n"));
  CHECK(residuals.cases.size() == 4 + 2 + 1);
  int64_t left_out = 0;
  for (const Collapsed& collapsed : residuals.collapsed) left_out += collapsed.count;
  CHECK(left_out == 12 - 7);
}

TEST_CASE("a case that no other equals keeps its name, although an axis sets what has no effect",
          "[effects]") {
  // Files of earlier versions have such cases: here sample_size, which goes in step with block_size.
  const Grid zipped = expand_grid(read(kInputs + "sweep: {zip: {block_size: [8, 16], sample_size: [8, 16]}}\n"
                                                 "backends: {name: hyper, residual: none}\n"));
  CHECK(lines_of(zipped) ==
        Lines{"hyper block_size=8 residual=none sample_size=8 on gaussian head_dim=8 seq_len=64",
              "hyper block_size=16 residual=none sample_size=16 on gaussian head_dim=8 seq_len=64"});
  CHECK(zipped.collapsed.empty());
}

TEST_CASE("predicates are about the values of the axes, before points become one case", "[effects]") {
  const std::string backends = "backends: [{name: lsh}, {name: lsh, mask: band}]\n";
  const Grid one =
      expand_grid(read(kInputs + "sweep: {bucket_count: [16, 32], where: bucket_count < 32}\n" + backends));
  CHECK(lines_of(one) == Lines{"lsh bucket_count=16 on gaussian head_dim=8 seq_len=64",
                               "lsh bucket_count=16 mask=band on gaussian head_dim=8 seq_len=64"});
  const Grid two = expand_grid(
      read(kInputs + "sweep: {bucket_count: [16, 32, 64], where: bucket_count < 64}\n" + backends));
  CHECK(lines_of(two).back() == "lsh mask=band on gaussian head_dim=8 seq_len=64");
  REQUIRE(two.collapsed.size() == 1);
  CHECK(two.collapsed[0].count == 1);
}

TEST_CASE("inputs that are equal but for their labels are both there", "[effects]") {
  const std::string input = "{source: gaussian, seq_len: 64, label: ";
  const Grid grid = expand_grid(
      read("inputs: [" + input + "A}, " + input + "B}, " + input + "A}]\nbackends: [exact, lsh]\n"));
  CHECK(lines_of(grid) == Lines{"exact on A seq_len=64", "lsh on A seq_len=64", "exact on B seq_len=64",
                                "lsh on B seq_len=64"});
  const Grid alone = expand_grid(read("inputs: " + input + "B}\nbackends: [exact, lsh]\n"));
  CHECK(grid.inputs[0].id == alone.inputs[0].id);
  CHECK(grid.inputs[1].id != alone.inputs[0].id);
}

}  // namespace hyperattn
