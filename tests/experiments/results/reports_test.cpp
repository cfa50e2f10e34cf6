// show, compare and merge, and what they stand on.
#include "experiments/results/reports.h"
#include "experiments/results/repeat_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <sstream>

#include "experiments/results/rank_test.h"
#include "experiments/results/text_diff.h"
#include "experiments/results/text_table.h"
#include "tests/experiments/results/support.h"

namespace hyperattn {
namespace {

using namespace results_test;

/// p-value by going through all choices of the pooled values.
double brute_force_p(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> pooled = a;
  pooled.insert(pooled.end(), b.begin(), b.end());
  const auto u_of = [&](const std::vector<int>& in_a) {
    double u = 0;
    for (size_t i = 0; i < pooled.size(); ++i)
      for (size_t j = 0; j < pooled.size(); ++j)
        if (in_a[i] == 1 && in_a[j] == 0) u += pooled[i] > pooled[j] ? 1 : pooled[i] == pooled[j] ? 0.5 : 0;
    return std::abs(u - static_cast<double>(a.size() * b.size()) / 2);
  };
  std::vector<int> in_a(pooled.size(), 0);
  std::fill(in_a.begin(), in_a.begin() + static_cast<long>(a.size()), 1);
  const double observed = u_of(in_a);
  std::sort(in_a.begin(), in_a.end());
  double extreme = 0;
  double all = 0;
  do {
    all += 1;
    if (u_of(in_a) >= observed - 1e-9) extreme += 1;
  } while (std::next_permutation(in_a.begin(), in_a.end()));
  return extreme / all;
}

/// Trials of one case with given figures; `repeats` become the timings of trial 0.
ResultsFile results_of(const std::vector<double>& repeats, const std::vector<double>& epsilon) {
  ResultsFile results;
  results.path = "made-up.h5";
  results.name = "test";
  results.created = "2024-05-01T12:00:00Z";
  results.complete = true;
  results.trials_per_case = static_cast<int64_t>(epsilon.size());
  results.cases = {{"case0", "{}"}};
  for (size_t t = 0; t < epsilon.size(); ++t) {
    TrialRecord record;
    record.row.set_text("case_id", "case0");
    record.row.set_text("backend", "hyper");
    record.row.set_text("status", "ok");
    record.row.set_integer("trial", static_cast<int64_t>(t));
    record.row.set_integer("sample_size", 128);
    record.row.set_number("epsilon", epsilon[t]);
    record.row.set_number("seconds", median(repeats));
    if (t == 0)
      for (size_t r = 0; r < repeats.size(); ++r)
        record.add_timing(kTotalStage, static_cast<int64_t>(r), repeats[r]);
    record.add_timing("sort", 0, 99);  // a stage is not the whole call
    results.trials.push_back(record);
  }
  return results;
}

std::string compared(const ResultsFile& a, const ResultsFile& b) {
  std::ostringstream out;
  compare_results(a, b, out);
  return out.str();
}

std::string shown(const ResultsFile& results) {
  std::ostringstream out;
  show_results(results, out);
  return out.str();
}

/// Writes a results file with these trials of the cases of `made_up_run(cases, trials)`.
void write_run(const std::string& path, int cases, int trials, const std::vector<TrialRecord>& records,
               const std::string& config = "seed: 1\n") {
  ResultStore store(path, made_up_run(cases, trials, config), Existing::replace);
  for (const TrialRecord& record : records) store.append(record);
  store.finish(false);
}

}  // namespace

TEST_CASE("the rank test's exact p-values agree with enumeration", "[results]") {
  CHECK(rank_test({1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}) == Approx(2.0 / 252).epsilon(1e-12));
  CHECK(rank_test({1, 2, 3}, {4, 5, 6}) == Approx(0.1).epsilon(1e-12));
  CHECK(rank_test({6, 7, 8, 9, 10}, {1, 2, 3, 4, 5}) == Approx(2.0 / 252).epsilon(1e-12));
  CHECK(rank_test({3, 3, 3}, {3, 3}) == 1.0);
  CHECK(rank_test({}, {1, 2}) == 1.0);
  std::mt19937 random(3);
  for (int round = 0; round < 40; ++round) {
    std::vector<double> a(1 + random() % 6);
    std::vector<double> b(1 + random() % 6);
    for (double& value : a) value = static_cast<double>(random() % 5);  // many ties
    for (double& value : b) value = static_cast<double>(random() % 5) + round % 3;
    INFO("round " << round << ", sizes " << a.size() << " and " << b.size());
    CHECK(rank_test(a, b) == Approx(brute_force_p(a, b)).epsilon(1e-12));
  }
}

TEST_CASE("the rank test's normal approximation continues the exact one", "[results]") {
  std::mt19937 random(5);
  std::normal_distribution<double> normal;
  std::vector<double> a(20);
  std::vector<double> b(20);
  for (double& value : a) value = normal(random);
  for (double& value : b) value = normal(random) + 0.8;
  const double exact = rank_test(a, b);
  std::vector<double> b21 = b;
  b21.push_back(median(b));
  const double approximate = rank_test(a, b21);
  INFO("exact " << exact << ", approximate with one value more " << approximate);
  CHECK(approximate == Approx(exact).epsilon(0.35));

  int rejected = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<double> x(30);
    std::vector<double> y(25);
    for (double& value : x) value = std::floor(4 * normal(random));  // with ties
    for (double& value : y) value = std::floor(4 * normal(random));
    rejected += rank_test(x, y) < 0.05 ? 1 : 0;
  }
  INFO("rejected " << rejected << " of 2000 true nulls at 5 %");
  CHECK(rejected > 60);
  CHECK(rejected < 145);
}

TEST_CASE("smallest attainable p-values", "[results]") {
  CHECK(smallest_p_value(5, 5) == Approx(2.0 / 252));
  CHECK(smallest_p_value(4, 4) == Approx(2.0 / 70));
  CHECK(smallest_p_value(1, 1) == 1.0);
  CHECK(smallest_p_value(0, 9) == 1.0);
  CHECK(smallest_p_value(200, 300) < 1e-100);
}

TEST_CASE("medians leave NaN out", "[results]") {
  CHECK(median({3, 1, 2}) == 2);
  CHECK(median({4, 1, 2, 3}) == 2.5);
  CHECK(median({std::nan(""), 5}) == 5);
  CHECK(std::isnan(median({})));
  CHECK(std::isnan(median({std::nan("")})));
}

TEST_CASE("columns without a value are left out of a table", "[results]") {
  TextTable table;
  table.add_key_column("key", TextTable::Align::left);
  for (const char* title : {"none", "some", "all"}) table.add_column(title, TextTable::Align::right);
  table.add_row({"a", "", "", "1"});
  table.add_row({"b", "", "2", "3"});
  std::ostringstream out;
  table.print(out, 40);
  CHECK(out.str() == "key  some  all\na            1\nb       2    3\n");
}

TEST_CASE("tables are aligned and broken into blocks at the width", "[results]") {
  TextTable table;
  table.add_key_column("key", TextTable::Align::left);
  for (int c = 0; c < 6; ++c) table.add_column("column " + std::to_string(c), TextTable::Align::right);
  table.add_row({"κ", "1", "2", "3", "4", "5", "6"});
  table.add_row({"long key", "10", "20", "30", "40", "50", "a\x1b\nb"});
  std::ostringstream out;
  table.print(out, 40);
  const std::string text = out.str();
  INFO(text);
  std::istringstream lines(text);
  int keys = 0;
  for (std::string line; std::getline(lines, line);) {
    CHECK(text_width(line) <= 40);
    keys += line.rfind("κ", 0) == 0 ? 1 : 0;
  }
  CHECK(keys == 2);
  CHECK(one_line("a\x1b[31m\nb\xff") == "a\\x1b[31m b\\xff");
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK_THAT(text, Catch::Contains("κ                1         2         3\n"));
  CHECK_THROWS_AS(table.add_row({"too short"}), std::logic_error);
}

TEST_CASE("differences of texts", "[results]") {
  CHECK(text_diff("a\nb\nc\n", "a\nb\nc\n").empty());
  CHECK(text_diff("a\nb\nc\n", "a\nx\nc\nd\n") == "- b\n+ x\n+ d\n");
  CHECK(text_diff("", "a\n") == "+ a\n");
  CHECK(text_diff("1\n2\n3\n", "", 2) == "- 1\n- 2\n… and 1 more lines\n");
}

TEST_CASE("show names what is there, medians, failures and what is missing", "[results]") {
  ResultsFile results;
  results.path = "run.h5";
  results.name = "sweep";
  results.created = "2024-05-01T12:00:00Z";
  results.trials_per_case = 3;
  results.provenance = {{{"processor", std::string("Imaginary 9000")}, {"warnings", std::string("busy")}}};
  results.cases = made_up_run(3, 3).cases;
  for (int t = 0; t < 3; ++t) {
    TrialRecord record = made_up_record(0, t);
    record.row.set_number("seconds", 0.010 * (t + 1));
    results.trials.push_back(record);
  }
  TrialRecord failed = made_up_record(1, 0, "failed");
  failed.row.set_text("message", "no memory for\x1b[31m it");
  failed.row.set_number("epsilon", 12345);
  results.trials.push_back(failed);
  const std::string text = shown(results);
  INFO(text);
  CHECK_THAT(text, Catch::Contains("NOT complete"));
  CHECK_THAT(text, Catch::Contains("Imaginary 9000"));
  CHECK_THAT(text, Catch::Contains("warning: busy"));
  CHECK_THAT(text, Catch::Contains("3 cases, 4 trials, 1 failed, 3 ok; 6 without a result"));
  CHECK_THAT(text, Catch::Contains("3/3  20.0 ms"));
  CHECK_THAT(text, Catch::Contains("epsilon"));
  CHECK_THAT(text, Catch::Contains("0.3333"));
  CHECK_THAT(text, Catch::Contains("hyper sample_size=1, trial 0, failed: no memory for\\x1b[31m it"));
  CHECK_THAT(text, !Catch::Contains("12345"));  // a figure of a failed trial counts for nothing
  CHECK_THAT(text, Catch::Contains("the same in all: seq_len=4096\n"));
  CHECK_THAT(text, Catch::Contains("\nbackend  sample_size "));  // so that it is no column
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) CHECK(text_width(line) <= 110);
}

TEST_CASE("show of a language model's results has its loss, and not the list of layers", "[results]") {
  ResultsFile results = results_of({}, {0.1, 0.1});
  results.cases.push_back({"case1", "{}"});
  for (size_t t = 0; t < 2; ++t) {
    RowValues& row = results.trials[t].row;
    row.set_text("case_id", "case" + std::to_string(t));
    row.set_integer("replaced", static_cast<int64_t>(t));
    row.set_text("layers", t == 0 ? "[]" : "[5]");
    row.set_number("bits_per_token", 1.25 + static_cast<double>(t));
    row.set_number("attention_speedup", 3.5);
  }
  const std::string text = shown(results);
  INFO(text);
  CHECK_THAT(text, Catch::Contains("speedup is over no layer replaced"));
  CHECK_THAT(text, Catch::Contains("bits/token") && Catch::Contains("1.25") && Catch::Contains("2.25"));
  CHECK_THAT(text, Catch::Contains("att. speedup") && Catch::Contains("3.5"));
  CHECK_THAT(text, !Catch::Contains("layers") && !Catch::Contains("GFLOP/s"));
}

TEST_CASE("show has every figure if asked, and no column that the inputs' name implies", "[results]") {
  ResultsFile results = results_of({}, {0.1, 0.1});
  results.cases.push_back({"case1", "{}"});
  for (size_t t = 0; t < 2; ++t) {
    RowValues& row = results.trials[t].row;
    row.set_text("case_id", "case" + std::to_string(t));
    row.set_text("input_label", t == 0 ? "heads" : "made");
    row.set_text("source", t == 0 ? "file" : "gaussian");
    row.set_number("norm_value", 135.5);
    row.set_number("gflops", 77.5);
  }
  const std::string text = shown(results);
  INFO(text);
  CHECK_THAT(text, Catch::Contains("made") && Catch::Contains("epsilon") && Catch::Contains("--all"));
  CHECK_THAT(text, Catch::Contains("input made: source=gaussian") && !Catch::Contains("norm_value"));
  CHECK_THAT(text, Catch::Contains("\nbackend  input_label "));
  std::ostringstream all;
  show_results(results, all, {kReportWidth, true});
  CHECK_THAT(all.str(),
             Catch::Contains("norm_value") && Catch::Contains("135.5") && Catch::Contains("GFLOP/s"));
}

TEST_CASE("show of a file without trials says so", "[results]") {
  const std::string text = shown(results_of({}, {}));
  CHECK_THAT(text, Catch::Contains("1 cases, 0 trials"));
}

TEST_CASE("compare finds what became faster, slower, or neither", "[results]") {
  const std::vector<double> slow{1.00, 1.01, 1.02, 1.03, 1.04, 1.05};
  const std::vector<double> fast{0.50, 0.51, 0.52, 0.53, 0.54, 0.55};
  const std::string faster = compared(results_of(slow, {0.1}), results_of(fast, {0.1}));
  INFO(faster);
  CHECK_THAT(faster, Catch::Contains("faster"));
  CHECK_THAT(faster, Catch::Contains("0.512"));  // 0.525/1.025
  CHECK_THAT(faster, Catch::Contains("1 faster, 0 slower; 0 without"));
  CHECK_THAT(faster, Catch::Contains("1 error figures are equal to the last bit"));
  CHECK_THAT(compared(results_of(fast, {0.1}), results_of(slow, {0.1})),
             Catch::Contains("SLOWER") && Catch::Contains("0 faster, 1 slower"));
  CHECK_THAT(compared(results_of(slow, {0.1}), results_of(slow, {0.1})),
             Catch::Contains("no significant difference"));
  CHECK_THAT(compared(results_of({1, 2, 3}, {0.1}), results_of({7, 8, 9}, {0.1})),
             Catch::Contains("too few to tell"));
  CHECK_THAT(compared(results_of({}, {0.1}), results_of({}, {0.1})), Catch::Contains("no timings in common"));
}

TEST_CASE("compare finds what became more or less accurate", "[results]") {
  const std::vector<double> seconds{1, 2, 3, 4, 5};
  const std::vector<double> good{0.10, 0.11, 0.12, 0.13, 0.14};
  const std::vector<double> bad{0.20, 0.21, 0.22, 0.23, 0.24};
  CHECK_THAT(compared(results_of(seconds, good), results_of(seconds, bad)),
             Catch::Contains("LARGER") && Catch::Contains("0.12") && Catch::Contains("0.22"));
  CHECK_THAT(compared(results_of(seconds, bad), results_of(seconds, good)), Catch::Contains("smaller"));
  CHECK_THAT(compared(results_of(seconds, {0.1}), results_of(seconds, {0.2})),
             Catch::Contains("too few to tell"));
}

TEST_CASE("compare matches other case identities by parameters", "[results]") {
  const std::vector<double> seconds{1, 2, 3, 4, 5};
  const ResultsFile a = results_of(seconds, {0.1});
  ResultsFile b = results_of(seconds, {0.1});
  b.cases[0].case_id = "another";
  b.trials[0].row.set_text("case_id", "another");
  CHECK_THAT(compared(a, b), Catch::Contains("1 cases in common (some matched by their parameters"));
  b.trials[0].row.set_integer("sample_size", 256);
  CHECK_THAT(compared(a, b), Catch::Contains("0 cases in common, 1 only in A, 1 only in B"));
}

TEST_CASE("compare says where results were lost", "[results]") {
  const ResultsFile a = results_of({1, 2}, {0.1, 0.2});
  ResultsFile b = a;
  b.trials[1].row.set_text("status", "failed");
  CHECK_THAT(compared(a, b), Catch::Contains("FEWER RESULTS in B: hyper: 2 trials ok in A, 1 in B"));
}

TEST_CASE("shards merge into what an undivided run would have written", "[results]") {
  const ScratchFolder folder;
  write_run(folder / "1.h5", 3, 1, {made_up_record(2, 0)});
  write_run(folder / "2.h5", 3, 1, {made_up_record(0, 0), made_up_record(1, 0, "failed")});
  const std::string path = folder / "new/merged.h5";
  const ResultsFile part = merge_results(path, {folder / "1.h5", folder / "2.h5"}, false);
  REQUIRE(part.missing().size() == 1);
  CHECK(part.missing()[0] == TrialKey{"case1", 0});
  CHECK_FALSE(read_results(path).complete);
  CHECK(read_results(path).provenance.size() == 2);

  write_run(folder / "3.h5", 3, 1, {made_up_record(1, 0)});
  check_error(Blame::usage, {path, "--force"}, [&] { merge_results(path, {folder / "1.h5"}, false); });
  merge_results(path, {folder / "1.h5", folder / "2.h5", folder / "3.h5"}, true);
  const ResultsFile whole = read_results(path);
  CHECK(whole.complete);
  REQUIRE(whole.trials.size() == 3);
  for (int i = 0; i < 3; ++i) CHECK(whole.trials[static_cast<size_t>(i)].same_as(made_up_record(i, 0)));
}

TEST_CASE("merging what does not belong together is refused", "[results]") {
  const ScratchFolder folder;
  write_run(folder / "a.h5", 2, 1, {made_up_record(0, 0)});
  write_run(folder / "config.h5", 2, 1, {}, "seed: 2\n");
  write_run(folder / "plan.h5", 3, 1, {});
  TrialRecord other = made_up_record(0, 0);
  other.row.set_number("seconds", 77);
  write_run(folder / "other.h5", 2, 1, {other});
  const std::string out = folder / "out.h5";
  check_error(Blame::usage, {"config.h5", "- seed: 1", "+ seed: 2"}, [&] {
    merge_results(out, {folder / "a.h5", folder / "config.h5"}, false);
  });
  check_error(Blame::usage, {"plan.h5", "cases differ"}, [&] {
    merge_results(out, {folder / "a.h5", folder / "plan.h5"}, false);
  });
  check_error(Blame::input, {"other.h5", "case0"}, [&] {
    merge_results(out, {folder / "a.h5", folder / "other.h5"}, false);
  });
  check_error(Blame::usage, {"nothing to merge"}, [&] { merge_results(out, {}, false); });
  check_error(Blame::input, {"absent.h5"}, [&] { merge_results(out, {folder / "absent.h5"}, false); });
  CHECK_FALSE(std::filesystem::exists(out));
  (void)merge_results(out, {folder / "a.h5", folder / "a.h5"}, false);  // the same rows twice are one
  CHECK(read_results(out).trials.size() == 1);
  CHECK(read_results(out).provenance.size() == 1);
}

}  // namespace hyperattn
