// The columns of /trials follow from the declarations, and those of version 0.1 stay what they were.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <set>

#include "experiments/files/hdf5_file.h"
#include "experiments/measures/measure.h"
#include "experiments/results/declared.h"
#include "experiments/results/results_file.h"
#include "tests/experiments/results/support.h"
#include "tests/paths.h"
#include "tests/scratch_folder.h"

namespace hyperattn {
namespace {

std::string old_file() {
  return testing::source_dir() + "/tests/data/version_0_1.h5";
}

const TrialRecord& row_of(const ResultsFile& results, const std::string& source, const std::string& mask) {
  for (const TrialRecord& record : results.trials)
    if (record.row.text("source") == source && record.row.text("mask") == mask) return record;
  throw std::logic_error("no such row");
}

}  // namespace

TEST_CASE("the columns of version 0.1 keep their names, their order and their kinds", "[results]") {
  const Table table = Hdf5File::open(old_file()).read_table("/trials");
  REQUIRE(table.columns.size() == 87);
  REQUIRE(trial_columns().size() > table.columns.size());
  for (size_t i = 0; i < table.columns.size(); ++i) {
    const ColumnSpec& column = trial_columns()[i];
    CAPTURE(i, column.name);
    CHECK(column.name == table.columns[i].name);
    const auto& values = table.columns[i].values;
    if (column.kind == ColumnKind::number) CHECK(std::holds_alternative<std::vector<double>>(values));
    if (column.kind == ColumnKind::text) CHECK(std::holds_alternative<std::vector<std::string>>(values));
    if (column.kind == ColumnKind::integer || column.kind == ColumnKind::seed)
      CHECK(std::holds_alternative<std::vector<int64_t>>(values));
  }
}

TEST_CASE("every parameter and figure that is declared has a column, and every column one name",
          "[results]") {
  std::set<std::string> names;
  for (const ColumnSpec& column : trial_columns()) CHECK(names.insert(column.name).second);
  for (const auto* parameters : {&case_parameters(), &run_settings()})
    for (const DeclaredParameter& declared : *parameters) {
      CAPTURE(declared.owner, declared.spec.name);
      const ColumnSpec* column = find_trial_column(column_of(declared.spec));
      REQUIRE(column != nullptr);
      // Each case of hyperattn lm has a number of its own out of the list.
      if (declared.spec.name == "replaced") continue;
      const bool is_text = declared.spec.type == ParameterType::text ||
                           declared.spec.type == ParameterType::choice ||
                           declared.spec.type == ParameterType::integer_list;
      CHECK((column->kind == ColumnKind::text) == is_text);
      CHECK((column->kind == ColumnKind::number) == (declared.spec.type == ParameterType::number));
    }
  for (const Measure* measure : all_measures())
    for (const FigureSpec& figure : measure->figures()) {
      CAPTURE(figure.name);
      REQUIRE(find_trial_column(figure.name) != nullptr);
      CHECK(find_trial_column(figure.name)->is_error == figure.is_error);
      CHECK(find_trial_column(figure.name)->is_headline == figure.is_headline);
    }
}

TEST_CASE("parameters that a file of version 0.1 has no columns of come from its cases", "[results]") {
  const ResultsFile results = read_results(old_file());
  const RowValues& clustered = row_of(results, "clustered", "sort_lsh").row;
  CHECK(clustered.integer("clusters") == 4);
  CHECK(clustered.number("cluster_spread") == 0.2);
  const RowValues& file = row_of(results, "file", "sort_lsh").row;
  CHECK(file.text("path") == "experiments/data/captured_heads/lm_heads_4096.h5");
  CHECK(file.text("query_rows") == "[0, 40]");
  const RowValues& model = row_of(results, "language_model", "sort_lsh").row;
  CHECK(model.text("model_heads") == "[1, 3]");
  CHECK(model.integer("paired") == 1);
  CHECK(row_of(results, "gaussian", "band").row.integer("band_width") == 4);
  CHECK(row_of(results, "gaussian", "band").row.integer("warmup") == -1);  // what is not known stays unknown
  CHECK(row_of(results, "gaussian", "band").row.seed("seed") == 11);
}

TEST_CASE("the declarations are in the file, as JSON that names every column", "[results]") {
  const testing::ScratchFolder folder;
  const std::string path = folder / "new.h5";
  write_results(path, read_results(old_file()));
  const auto json = nlohmann::json::parse(Hdf5File::open(path).read_text("/declarations"));
  REQUIRE(json["columns"].size() == trial_columns().size());
  for (size_t i = 0; i < trial_columns().size(); ++i) {
    CHECK(json["columns"][i]["name"] == trial_columns()[i].name);
    CHECK(json["columns"][i]["unit"] == trial_columns()[i].unit);
  }
  const auto declared = [&](const std::string& name, const std::string& owner) {
    for (const auto& parameter : json["parameters"])
      if (parameter["name"] == name && parameter["owner"] == owner) return parameter;
    return nlohmann::json();
  };
  CHECK(declared("band_width", "lsh")["default"] == 128);
  CHECK(declared("band_width", "lsh")["only_with"] ==
        nlohmann::json::parse(R"([[{"parameter": "mask", "one_of": ["band"]}]])"));
  CHECK(declared("collisions", "hyper")["only_with"].size() == 3);
  CHECK(declared("heads", "language_model")["column"] == "model_heads");
}

TEST_CASE("a seed of all 64 bits is the same number in the file", "[results]") {
  const testing::ScratchFolder folder;
  const std::string path = folder / "seed.h5";
  ResultsFile results = read_results(old_file());
  for (TrialRecord& record : results.trials) record.row.set_seed("seed", 18446744073709551615U);
  write_results(path, results);
  CHECK(read_results(path).trials.front().row.seed("seed") == 18446744073709551615U);
  const Table table = Hdf5File::open(path).read_table("/trials");
  CHECK(std::get<std::vector<uint64_t>>(table.find("seed")->values).front() == 18446744073709551615U);
}

}  // namespace hyperattn
