// Cases are never shown under one name: what differs tells them apart, what does not is said once.
#include "experiments/results/cases.h"

#include <catch2/catch.hpp>
#include <functional>
#include <sstream>

#include "experiments/results/reports.h"
#include "experiments/results/text_table.h"

namespace hyperattn {
namespace {

using Set = std::function<void(RowValues&)>;

/// One trial of a case for each of `cases`, all alike but for what these set.
ResultsFile made_of(const std::vector<Set>& cases) {
  ResultsFile results;
  results.path = "made-up.h5";
  results.name = "test";
  for (const Set& set : cases) {
    TrialRecord record;
    RowValues& row = record.row;
    row.set_text("case_id", "case" + std::to_string(results.cases.size()));
    row.set_text("status", "ok");
    row.set_integer("trial", 0);
    row.set_text("backend", "hyper");
    row.set_text("source", "gaussian");
    row.set_text("input_label", "gaussian");
    row.set_integer("seq_len", 64);
    row.set_integer("key_len", 64);
    row.set_integer("causal", 0);
    row.set_integer("bucket_count", 16);
    row.set_number("epsilon", 0.5);
    set(row);
    results.cases.push_back({row.text("case_id"), "{}"});
    results.trials.push_back(record);
  }
  return results;
}

std::vector<std::string> labels_of(const ResultsFile& results) {
  const Cases cases = trials_by_case(results);
  const CaseNames names({&cases});
  std::vector<std::string> labels;
  for (const CaseTrials& entry : cases) labels.push_back(names.label(entry));
  return labels;
}

using Labels = std::vector<std::string>;

const Set kPlain = [](RowValues&) {};

Set number(const char* column, double value) {
  return [=](RowValues& row) { row.set_number(column, value); };
}
Set integer(const char* column, int64_t value) {
  return [=](RowValues& row) { row.set_integer(column, value); };
}
Set text(const char* column, const std::string& value) {
  return [=](RowValues& row) { row.set_text(column, value); };
}

}  // namespace

TEST_CASE("every parameter column tells two cases apart", "[results]") {
  for (const ColumnSpec& column : trial_columns()) {
    if (column.role != ColumnRole::parameter || column.name == "layers") continue;
    CAPTURE(column.name);
    const auto set = [&](int value) -> Set {
      if (column.kind == ColumnKind::number) return number(column.name.c_str(), value);
      if (column.kind == ColumnKind::integer) return integer(column.name.c_str(), value);
      return text(column.name.c_str(), value == 1 ? "one" : "two");
    };
    // What makes the parameter effective, where that needs other values than the defaults.
    const auto effective = [&](int value) -> Set {
      return [&, value](RowValues& row) {
        if (column.name == "band_width") row.set_text("mask", "band");
        if (column.name == "mask_path") row.set_text("mask", "file");
        if (column.name == "min_seq_len") row.set_integer("causal", 1);
        if (column.name == "column_share") row.set_text("residual", "columns+centroids");
        if (column.name == "precision") row.set_text("engine", "cuda");
        if (column.name.rfind("clt_", 0) == 0 || column.name == "base_sample")
          row.set_text("residual", "clt_sample");
        for (const char* of_nystrom : {"pivots", "temperature", "tau", "bins"})
          if (column.name == of_nystrom) row.set_text("residual", "nystrom");
        if (column.name == "tau") row.set_text("temperature", "given");
        if (column.name == "thinning_delta") row.set_text("residual", "thinned");
        if (column.name == "prescore_keys") row.set_text("prescore", "leverage");
        if (column.name.rfind("approx_", 0) == 0 || column.name == "clip_constant")
          row.set_text("estimator", "theory");
        set(value)(row);
      };
    };
    const Labels labels = labels_of(made_of({effective(1), effective(2)}));
    CHECK(labels[0] != labels[1]);
    CHECK_THAT(labels[0] + labels[1], !Catch::Contains("case_id"));
  }
}

TEST_CASE("values that are near each other, and absent ones, are told apart", "[results]") {
  CHECK(labels_of(made_of({number("scale", 0.12345671), number("scale", 0.12345672), kPlain})) ==
        Labels{"hyper scale=0.12345671", "hyper scale=0.12345672", "hyper"});
}

TEST_CASE("what has no effect tells nothing apart, and cases that nothing does have their ids", "[results]") {
  const Set band_16 = [](RowValues& row) { row.set_text("mask", "band"); };
  const Set band_32 = [](RowValues& row) {
    row.set_text("mask", "band");
    row.set_integer("bucket_count", 32);
  };
  CHECK(labels_of(made_of({band_16, band_32})) == Labels{"hyper case_id=case0", "hyper case_id=case1"});
  CHECK(labels_of(made_of({kPlain, band_32})) == Labels{"hyper mask=sort_lsh", "hyper mask=band"});
}

TEST_CASE("a word that a column of numbers has no place for is shown", "[results]") {
  const Set automatic = text("estimator", "theory");
  const Set given = [](RowValues& row) {
    row.set_text("estimator", "theory");
    row.set_number("approx_kappa", 100);
  };
  CHECK(labels_of(made_of({automatic, given})) ==
        Labels{"hyper approx_kappa=auto", "hyper approx_kappa=100"});
}

TEST_CASE("what follows from the name of the inputs is said with it, what is the same once", "[results]") {
  const auto inputs = [](const char* label, int64_t heads) -> Set {
    return [=](RowValues& row) {
      row.set_text("input_label", label);
      row.set_integer("heads", heads);
    };
  };
  const ResultsFile results = made_of({inputs("A", 1), inputs("B", 4)});
  CHECK(labels_of(results) == Labels{"hyper input_label=A", "hyper input_label=B"});
  std::ostringstream out;
  show_results(results, out);
  INFO(out.str());
  CHECK_THAT(out.str(), Catch::Contains("input A: heads=1\n") && Catch::Contains("input B: heads=4\n"));
  CHECK_THAT(out.str(), Catch::Contains("the same in all: source=gaussian, seq_len=64, bucket_count=16\n"));
}

TEST_CASE("long values are shortened, stay distinct, and are told whole once", "[results]") {
  const std::string folder(60, 'a');
  const ResultsFile results =
      made_of({text("path", folder + "/one/" + folder), text("path", folder + "/two/" + folder)});
  const Labels labels = labels_of(results);
  CHECK(labels[0] != labels[1]);
  CHECK(text_width(labels[0]) < 60);
  std::ostringstream out;
  show_results(results, out);
  CHECK_THAT(out.str(),
             Catch::Contains(folder + "/one/" + folder) && Catch::Contains(folder + "/two/" + folder));
}

TEST_CASE("texts are measured as a terminal shows them", "[results]") {
  CHECK(text_width("abc") == 3);
  CHECK(text_width("标签") == 4);
  CHECK(text_width("é") == 1);
  CHECK(text_width("µs") == 2);
  CHECK(shortened_text("标签标签标签", 7) == "标…签");
  CHECK(shortened_text("short", 5) == "short");
  CHECK(wrapped_list({"a=1", "b=2", "c=3"}, "  ", 11) == "  a=1, b=2,\n  c=3");
  TextTable table;
  table.add_key_column("name", TextTable::Align::left);
  table.add_column("n", TextTable::Align::right);
  table.add_row({"标签", "1"});
  table.add_row({"ab", "2"});
  std::ostringstream out;
  table.print(out, 80);
  CHECK(out.str() == "name  n\n标签  1\nab    2\n");
}

TEST_CASE("compare says what was measured otherwise", "[results]") {
  const ResultsFile a = made_of({integer("repeats", 3)});
  const ResultsFile b = made_of({integer("repeats", 5)});
  std::ostringstream out;
  compare_results(a, b, out);
  CHECK_THAT(out.str(), Catch::Contains("measured otherwise: repeats 3 in A, 5 in B\n"));
  CHECK_THAT(out.str(), Catch::Contains("1 cases in common, 0 only in A, 0 only in B"));
}

}  // namespace hyperattn
