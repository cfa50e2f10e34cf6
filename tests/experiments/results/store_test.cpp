// Durability, resuming and refusals of the result store.
#include "experiments/results/result_store.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>

#include "experiments/config/grid.h"
#include "experiments/files/journal.h"
#include "experiments/results/record_text.h"
#include "experiments/results/reports.h"
#include "tests/experiments/results/support.h"

namespace hyperattn {
namespace {

namespace fs = std::filesystem;
using namespace results_test;

std::string contents(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

const TrialRecord* find(const ResultsFile& results, const TrialKey& key) {
  for (const TrialRecord& record : results.trials)
    if (record.key() == key) return &record;
  return nullptr;
}

}  // namespace

TEST_CASE("a run is written and read back whole", "[results]") {
  const ScratchFolder folder;
  const std::string path = folder / "made/on/the/way/run.h5";
  {
    ResultStore store(path, made_up_run(3, 2), Existing::refuse);
    CHECK(read_results(path).trials.empty());  // the file is there from the start
    for (int c = 2; c >= 0; --c)
      for (int t = 0; t < 2; ++t) store.append(made_up_record(c, t));
    store.set_provenance("fma_peak_gflops", 12.5);
    store.finish(true);
  }
  CHECK_FALSE(fs::exists(path + ".journal"));
  CHECK_FALSE(fs::exists(path + ".partial"));

  const ResultsFile back = read_results(path);
  CHECK(back.schema == "hyperattn.results/1");
  CHECK(back.name == "test");
  CHECK(back.complete);
  CHECK(back.created.size() == 20);
  CHECK(back.finished.size() == 20);
  CHECK(back.config == "name: test\nseed: 1\n");
  CHECK(back.trials_per_case == 2);
  REQUIRE(back.cases == made_up_run(3, 2).cases);
  REQUIRE(back.provenance.size() == 1);
  CHECK(std::get<int64_t>(back.provenance[0].at("threads")) == 2);
  CHECK(std::get<double>(back.provenance[0].at("fma_peak_gflops")) == 12.5);
  CHECK(std::get<bool>(back.provenance[0].at("quiet")));
  CHECK(back.missing().empty());
  REQUIRE(back.trials.size() == 6);
  for (int i = 0; i < 6; ++i) {
    INFO("row " << i);
    CHECK(back.trials[static_cast<size_t>(i)].same_as(made_up_record(i / 2, i % 2)));  // in the plan's order
  }
}

TEST_CASE("columns that were never set say that they do not apply", "[results]") {
  const ScratchFolder folder;
  ResultStore store(folder / "run.h5", made_up_run(1, 1), Existing::refuse);
  store.append(made_up_record(0, 0));
  store.finish(true);
  const RowValues row = read_results(folder / "run.h5").trials[0].row;
  CHECK(row.integer("bucket_count") == -1);
  CHECK(std::isnan(row.number("alpha")));
  CHECK(row.text("message").empty());
  CHECK(std::isinf(row.number("log_kappa")));
}

TEST_CASE("a record with a wrong column is a mistake of ours", "[results]") {
  TrialRecord record;
  CHECK_THROWS_AS(record.row.set_number("epsilonn", 1), std::logic_error);
  CHECK_THROWS_AS(record.row.set_number("seq_len", 1), std::logic_error);
  CHECK_THROWS_AS(record.row.set_integer("epsilon", 1), std::logic_error);
  CHECK_THROWS_AS((void)record.row.text("seconds"), std::logic_error);

  const ScratchFolder folder;
  ResultStore store(folder / "run.h5", made_up_run(1, 1), Existing::refuse);
  CHECK_THROWS_AS(store.append(record), std::logic_error);
  CHECK_THROWS_AS(store.append(made_up_record(1, 0)), std::logic_error);  // case1 is not in the plan
  CHECK_THROWS_AS(store.append(made_up_record(0, 0, "fine")), std::logic_error);
}

TEST_CASE("parameters fill the columns of their names", "[results]") {
  Parameters parameters;
  parameters.set("seq_len", int64_t{7});
  parameters.set("causal", true);
  parameters.set("approx_kappa", std::string("auto"));
  parameters.set("clip_constant", int64_t{2});
  parameters.set("bucket_order", std::string("gray"));
  parameters.set("unknown_to_the_schema", 1.0);
  parameters.set("heads", IntegerList{0, 3});
  TrialRecord record;
  record.set_parameters({integer_parameter("seq_len", ""), boolean_parameter("causal", ""),
                         number_parameter("approx_kappa", ""), number_parameter("clip_constant", ""),
                         text_parameter("bucket_order", ""), number_parameter("unknown_to_the_schema", ""),
                         integer_list_parameter("heads", "").in_column("model_heads")},
                        parameters);
  CHECK(record.row.integer("seq_len") == 7);
  CHECK(record.row.integer("causal") == 1);
  CHECK(std::isnan(record.row.number("approx_kappa")));
  CHECK(record.row.number("clip_constant") == 2.0);
  CHECK(record.row.text("bucket_order") == "gray");
  CHECK(record.row.text("model_heads") == "[0, 3]");
  CHECK(record.row.integer("heads") == -1);
}

TEST_CASE("figures of one head from several measures share a row", "[results]") {
  TrialRecord record;
  FigureRow figures;
  figures.head = 3;
  figures.figures = {{"epsilon", 1.0}};
  record.add(figures);
  figures.figures = {{"alpha", 2.0}};
  record.add(figures);
  figures.head = -1;
  figures.figures = {{"alpha", 4.0}};
  record.add(figures);
  REQUIRE(record.details.size() == 1);
  CHECK(record.details[0].values.number("epsilon") == 1.0);
  CHECK(record.details[0].values.number("alpha") == 2.0);
  CHECK(record.row.number("alpha") == 4.0);
}

TEST_CASE("a file with a plan that no run could have is refused before it is counted", "[results]") {
  const ScratchFolder folder;
  ResultsFile results;
  results.cases = {{"case0", "{}"}, {"case1", "{}"}};
  for (const int64_t trials :
       {int64_t{-1}, int64_t{0}, kMaximumTrials, std::numeric_limits<int64_t>::max()}) {
    results.trials_per_case = trials;
    write_results(folder / "plan.h5", results);
    check_error(Blame::input,
                {"plan.h5", "trials_per_case " + std::to_string(trials), "between 1 and 1000000"},
                [&] { (void)read_results(folder / "plan.h5"); });
  }
  results.trials_per_case = kMaximumTrials / 2;
  write_results(folder / "plan.h5", results);
  CHECK(read_results(folder / "plan.h5").trials_per_case == kMaximumTrials / 2);
}

TEST_CASE("a file of a version that had the status skipped is read, and another status refused",
          "[results]") {
  const ScratchFolder folder;
  ResultsFile results;
  results.cases = {{"case0", "{}"}};
  results.trials = {made_up_record(0, 0, "skipped")};
  write_results(folder / "old.h5", results);
  const ResultsFile back = read_results(folder / "old.h5");
  CHECK(back.trials.at(0).row.text("status") == "skipped");
  CHECK(back.missing() == std::vector<TrialKey>{{"case0", 0}});
  results.trials = {made_up_record(0, 0, "lost")};
  write_results(folder / "wrong.h5", results);
  check_error(Blame::input, {"wrong.h5", "has status 'lost'", "must be ok or failed"},
              [&] { (void)read_results(folder / "wrong.h5"); });
}

TEST_CASE("a precision that had no effect when a file was written is the default of its case", "[results]") {
  const ScratchFolder folder;
  ResultsFile results;
  results.cases = {{"case0", R"({"backend":"hyper","parameters":{}})"},
                   {"case1", R"({"backend":"hyper","parameters":{"precision":"bf16"}})"},
                   {"case2", R"({"backend":"hyper","parameters":{"engine":"cuda"}})"},
                   {"case3", R"({"backend":"hyper","parameters":{"engine":"cuda","precision":"fp32"}})"}};
  for (int i = 0; i < 4; ++i) {
    results.trials.push_back(made_up_record(i, 0));
    results.trials.back().row.set_text("engine", i < 2 ? "cpu" : "cuda");
    results.trials.back().row.set_text("precision", i == 3 ? "fp32" : "bf16");
  }
  write_results(folder / "old.h5", results);
  std::vector<std::string> precisions;
  for (const TrialRecord& record : read_results(folder / "old.h5").trials)
    precisions.push_back(record.row.text("precision"));
  CHECK(precisions == std::vector<std::string>{"fp32", "bf16", "bf16", "fp32"});
}

TEST_CASE("an existing output is refused, and left as it is", "[results]") {
  const ScratchFolder folder;
  const std::string path = folder / "run.h5";
  ResultStore(path, made_up_run(1, 1), Existing::refuse).finish(true);
  const std::string before = contents(path);
  check_error(Blame::usage, {path, "--resume", "--force"},
              [&] { ResultStore(path, made_up_run(1, 1), Existing::refuse); });
  CHECK(contents(path) == before);
  CHECK_FALSE(fs::exists(path + ".journal"));
  check_error(Blame::usage, {"/dev/null", "regular file"},
              [] { ResultStore("/dev/null", made_up_run(1, 1), Existing::replace); });
  check_error(Blame::usage, {"regular file"},
              [&] { ResultStore(folder / "", made_up_run(1, 1), Existing::replace); });
}

TEST_CASE("forced, a run replaces the file, and what is there stays until then", "[results]") {
  const ScratchFolder folder;
  const std::string path = folder / "run.h5";
  {
    ResultStore store(path, made_up_run(2, 1), Existing::refuse);
    store.append(made_up_record(0, 0));
  }
  ResultStore store(path, made_up_run(3, 1, "name: other\n"), Existing::replace);
  CHECK_FALSE(store.is_done({"case0", 0}));
  CHECK(read_results(path).config == "name: other\n");
  CHECK(read_results(path).trials.empty());
}

TEST_CASE("resuming keeps what is done and runs failures again", "[results]") {
  const ScratchFolder folder;
  const std::string path = folder / "run.h5";
  const bool finished = GENERATE(false, true);
  INFO("first session finished: " << finished);
  {
    ResultStore store(path, made_up_run(3, 2), Existing::refuse);
    store.append(made_up_record(0, 0));
    store.append(made_up_record(1, 0, "failed"));
    store.append(made_up_record(2, 1, "skipped"));  // as version 0.1 could have it
    if (finished) store.finish(false);
  }
  CHECK(fs::exists(path + ".journal") == !finished);
  {
    ResultStore store(path, made_up_run(3, 2), Existing::resume);
    CHECK(store.is_done({"case0", 0}));
    CHECK_FALSE(store.is_done({"case0", 1}));
    CHECK_FALSE(store.is_done({"case1", 0}));
    CHECK_FALSE(store.is_done({"case2", 1}));
    CHECK(store.results().finished.empty());
    for (int c = 0; c < 3; ++c)
      for (int t = 0; t < 2; ++t)
        if (!store.is_done({"case" + std::to_string(c), t})) store.append(made_up_record(c, t));
    store.finish(true);
  }
  const ResultsFile back = read_results(path);
  CHECK(back.provenance.size() == 2);
  REQUIRE(back.trials.size() == 6);
  for (int i = 0; i < 6; ++i)
    CHECK(back.trials[static_cast<size_t>(i)].same_as(made_up_record(i / 2, i % 2)));
}

TEST_CASE("resuming nothing begins anew", "[results]") {
  const ScratchFolder folder;
  ResultStore store(folder / "run.h5", made_up_run(1, 1), Existing::resume);
  CHECK_FALSE(store.is_done({"case0", 0}));
}

TEST_CASE("resuming another run is refused with the difference", "[results]") {
  const ScratchFolder folder;
  const std::string path = folder / "run.h5";
  {
    ResultStore store(path, made_up_run(2, 1), Existing::refuse);
    store.append(made_up_record(0, 0));
    store.finish(false);
  }
  const std::string before = contents(path);
  check_error(Blame::usage, {path, "- seed: 1\n", "+ seed: 2\n"},
              [&] { ResultStore(path, made_up_run(2, 1, "name: test\nseed: 2\n"), Existing::resume); });
  check_error(Blame::usage, {path, "other cases"},
              [&] { ResultStore(path, made_up_run(3, 1), Existing::resume); });
  RunDescription shard = made_up_run(2, 1);
  shard.shard = "2/4";
  check_error(Blame::usage, {path, "2/4"}, [&] { ResultStore(path, shard, Existing::resume); });
  CHECK(contents(path) == before);
  CHECK_FALSE(fs::exists(path + ".journal"));
}

TEST_CASE("the journal alone is enough", "[results]") {
  const ScratchFolder folder;
  const std::string path = folder / "run.h5";
  {
    ResultStore store(path, made_up_run(2, 1), Existing::refuse);
    store.append(made_up_record(0, 0));
  }
  fs::remove(path);
  check_error(Blame::usage, {"--resume"}, [&] { ResultStore(path, made_up_run(2, 1), Existing::refuse); });
  ResultStore store(path, made_up_run(2, 1), Existing::resume);
  CHECK(store.is_done({"case0", 0}));
  CHECK(read_results(path).trials.size() == 1);
}

TEST_CASE("the journal of a killed run is read by show and merge, with its file or without", "[results]") {
  const ScratchFolder folder;
  const std::string path = folder / "run.h5";
  {
    ResultStore store(path, made_up_run(2, 2), Existing::refuse);
    for (int trial = 0; trial < 2; ++trial) store.append(made_up_record(0, trial));
    store.append(made_up_record(1, 0));
  }  // as after a kill: the journal has three trials; make the file lack the last one
  ResultsFile file = read_results(path);
  file.trials = {made_up_record(0, 0), made_up_record(0, 1)};
  write_results(path, file);
  const auto check_all = [&] {
    const StoredResults stored = read_with_journal(path);
    CHECK(stored.results.trials.size() == 3);
    CHECK(stored.from_journal == 3);
    CHECK(stored.results.path == path);
    REQUIRE(find(stored.results, {"case1", 0}) != nullptr);
    CHECK(find(stored.results, {"case1", 0})->same_as(made_up_record(1, 0)));
    const ResultsFile merged = merge_results(folder / "merged.h5", {path}, true);
    CHECK(merged.trials.size() == 3);
    CHECK_FALSE(merged.complete);
    CHECK(read_results(folder / "merged.h5").trials.size() == 3);
  };
  check_all();
  fs::create_symlink("run.h5", folder / "link.h5");
  CHECK(read_with_journal(folder / "link.h5").results.trials.size() == 3);
  const std::string before = contents(path + ".journal");
  fs::remove(path);
  check_all();
  CHECK(contents(path + ".journal") == before);
  CHECK_FALSE(fs::exists(path));
  check_error(
      Blame::usage,
      {"a run that was killed left 3 trials", path + ".journal", "but no output", "--resume", "--force"},
      [&] { ResultStore store(path, made_up_run(2, 2), Existing::refuse); });
  CHECK(contents(path + ".journal") == before);
  ResultStore(path, made_up_run(2, 2), Existing::resume).finish(false);
  CHECK(read_with_journal(path).results.trials.size() == 3);
  CHECK(read_with_journal(path).from_journal == 0);
  fs::remove(path);
  check_error(Blame::input, {path, "does not exist"}, [&] { (void)read_with_journal(path); });
}

TEST_CASE("a journal whose header no run could have is refused", "[results]") {
  const ScratchFolder folder;
  const auto refusal = [&](const ResultsFile& header, const std::string& word) {
    {
      Journal journal(folder / "run.h5.journal");
      journal.clear();
      journal.append(encode_header(header));
    }
    check_error(Blame::input, {"run.h5.journal", word}, [&] { (void)read_with_journal(folder / "run.h5"); });
  };
  ResultsFile header;
  header.schema = "hyperattn.results/9";
  refusal(header, "hyperattn.results/9");
  header = {};
  header.trials_per_case = int64_t{1} << 40;
  refusal(header, "trials_per_case");
}

TEST_CASE("a journal torn at any byte keeps its whole records", "[results]") {
  const ScratchFolder folder;
  const std::string path = folder / "journal";
  const std::vector<std::string> records{"first", "", "third record"};
  {
    Journal journal(path);
    for (const std::string& record : records) journal.append(record);
  }
  const std::string whole = contents(path);
  for (size_t size = 0; size <= whole.size(); ++size) {
    INFO("journal of " << size << " of " << whole.size() << " bytes");
    std::ofstream(path, std::ios::binary | std::ios::trunc) << whole.substr(0, size);
    const auto expected =
        static_cast<size_t>(std::count(whole.begin(), whole.begin() + static_cast<long>(size), '\n'));
    const Journal journal(path);
    REQUIRE(journal.records().size() == expected);
    for (size_t i = 0; i < expected; ++i) REQUIRE(journal.records()[i] == records[i]);
    const size_t kept = expected == 0 ? 0 : contents(path).size();
    REQUIRE(contents(path) == whole.substr(0, kept));  // what was torn is cut off
  }
}

TEST_CASE("a store resumes from a torn journal", "[results]") {
  const ScratchFolder folder;
  const std::string path = folder / "run.h5";
  {
    ResultStore store(path, made_up_run(2, 1), Existing::refuse);
    store.append(made_up_record(0, 0));
    store.append(made_up_record(1, 0));
  }
  fs::remove(path);
  const std::string whole = contents(path + ".journal");
  std::ofstream(path + ".journal", std::ios::binary | std::ios::trunc) << whole.substr(0, whole.size() - 10);
  {
    ResultStore store(path, made_up_run(2, 1), Existing::resume);
    CHECK(store.is_done({"case0", 0}));
    CHECK_FALSE(store.is_done({"case1", 0}));
    store.append(made_up_record(1, 0));
  }
  CHECK(ResultStore(path, made_up_run(2, 1), Existing::resume).is_done({"case1", 0}));
}

TEST_CASE("a journal's number that is no 64-bit integer is refused where one must be", "[results]") {
  const std::string whole = encode_record(made_up_record(0, 7));
  REQUIRE(decode_record(whole, "record").row.integer("trial") == 7);
  for (const std::string value : {"1e88", "7.0", "18446744073709551615", "\"7\"", "null"}) {
    for (const std::string before : {"\"trial\":", "\"timings\":[[\"total\","}) {
      std::string text = whole;
      const size_t place = text.find(before);
      REQUIRE(place != std::string::npos);
      text.replace(place + before.size(), 1, value);
      INFO(text);
      check_error(Blame::input, {"record 1", "64-bit integer"},
                  [&] { static_cast<void>(decode_record(text, "record 1")); });
    }
  }
  ResultsFile header;
  header.trials_per_case = 3;
  std::string text = encode_header(header);
  const std::string before = "\"trials_per_case\":";
  text.replace(text.find(before) + before.size(), 1, "1e88");
  check_error(Blame::input, {"header", "1e+88", "64-bit integer"},
              [&] { static_cast<void>(decode_header(text, "header")); });
}

TEST_CASE("a journal that is damaged inside is refused, not guessed at", "[results]") {
  const ScratchFolder folder;
  const std::string path = folder / "run.h5";
  {
    ResultStore store(path, made_up_run(2, 1), Existing::refuse);
    store.append(made_up_record(0, 0));
    store.append(made_up_record(1, 0));
  }
  std::string bytes = contents(path + ".journal");
  bytes[bytes.find('\n') + 40] ^= 1;
  std::ofstream(path + ".journal", std::ios::binary | std::ios::trunc) << bytes;
  check_error(Blame::input, {path + ".journal", "record 2"},
              [&] { ResultStore(path, made_up_run(2, 1), Existing::resume); });
  CHECK(contents(path + ".journal") == bytes);
}

TEST_CASE("a journal of another run than the file's is the younger", "[results]") {
  // A --force that was killed after it began its journal and before it wrote its file.
  const ScratchFolder folder;
  const std::string path = folder / "run.h5";
  {
    ResultStore old_run(path, made_up_run(1, 1, "name: old\n"), Existing::refuse);
    old_run.append(made_up_record(0, 0));
    old_run.finish(true);
  }
  const std::string old_file = contents(path);
  { ResultStore new_run(path, made_up_run(1, 1, "name: new\n"), Existing::replace); }
  std::ofstream(path, std::ios::binary | std::ios::trunc) << old_file;
  ResultStore store(path, made_up_run(1, 1, "name: new\n"), Existing::resume);
  CHECK_FALSE(store.is_done({"case0", 0}));
}

TEST_CASE("two processes can't write the same results", "[results]") {
  const ScratchFolder folder;
  const std::string path = folder / "run.h5";
  const ResultStore store(path, made_up_run(1, 1), Existing::refuse);
  for (const Existing existing : {Existing::resume, Existing::replace, Existing::refuse})
    check_error(Blame::environment, {path, "in use"},
                [&] { ResultStore(path, made_up_run(1, 1), existing); });
}

TEST_CASE("an output that can't be made is refused", "[results]") {
  const ScratchFolder folder;
  std::ofstream(folder / "file") << "x";
  check_error(Blame::environment, {"file"},
              [&] { ResultStore(folder / "file/run.h5", made_up_run(1, 1), Existing::refuse); });
  check_error(Blame::environment, {"/proc"},
              [] { ResultStore("/proc/no/run.h5", made_up_run(1, 1), Existing::refuse); });
}

TEST_CASE("a removed output folder is noticed", "[results]") {
  const ScratchFolder folder;
  const std::string path = folder / "gone/run.h5";
  ResultStore store(path, made_up_run(2, 1), Existing::refuse);
  store.append(made_up_record(0, 0));
  fs::remove_all(folder / "gone");
  check_error(Blame::environment, {path, "removed"}, [&] { store.append(made_up_record(1, 0)); });
  check_error(Blame::environment, {path}, [&] { store.finish(true); });
}

namespace {

/// Runs `body` in a child process and returns its wait status.
template <class Body>
int in_child(const Body& body) {
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    int code = 98;
    try {
      code = body();
    } catch (const Error& error) {
      code = error.exit_code();
    } catch (...) {
      code = 99;
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace

TEST_CASE("a full disk is one error, and earlier results stay whole", "[results]") {
  const ScratchFolder folder;
  const std::string path = folder / "run.h5";
  const rlim_t limit =
      GENERATE(20000, 40000, 60000, 100000);  // stands for the disk's size; the .h5 fills it first
  int reported = 0;
  const std::string log = folder / "reported";
  const int status = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit size{limit, limit};
    ::setrlimit(RLIMIT_FSIZE, &size);
    const int descriptor = ::open(log.c_str(), O_WRONLY | O_CREAT, 0666);
    ResultStore store(path, made_up_run(500, 1), Existing::refuse);
    for (int i = 0; i < 500; ++i) {
      store.append(made_up_record(i, 0));
      if (::write(descriptor, "x", 1) != 1) return 97;
    }
    return 0;
  });
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
  if (fs::exists(log)) reported = static_cast<int>(fs::file_size(log));
  INFO("limit " << limit << ", trials reported done: " << reported);
  CHECK_FALSE(fs::exists(path + ".partial"));
  if (fs::exists(path)) (void)read_results(path);
  // With room again, everything that was reported is there.
  const ResultStore store(path, made_up_run(500, 1), Existing::resume);
  for (int i = 0; i < reported; ++i) REQUIRE(store.is_done({"case" + std::to_string(i), 0}));
}

TEST_CASE("killed at random moments, a run loses nothing that it reported", "[results][kill]") {
  const ScratchFolder folder;
  const std::string path = folder / "run.h5";
  const std::string log = folder / "reported";
  std::mt19937 random(7);
  constexpr int kCases = 4000;
  size_t total = 0;
  for (int round = 0; round < 10; ++round) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      try {
        const int descriptor = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
        ResultStore store(path, made_up_run(kCases, 1), Existing::resume);
        for (int i = 0; i < kCases; ++i) {
          if (store.is_done({"case" + std::to_string(i), 0})) continue;
          store.append(made_up_record(i, 0));
          if (::write(descriptor, "x", 1) != 1) ::_exit(97);  // reported: one byte a trial, in order
        }
      } catch (...) {
        ::_exit(99);
      }
      ::_exit(0);
    }
    ::usleep(std::uniform_int_distribution<useconds_t>(1000, 150000)(random));
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    // Where the disk is fast, the last round may have nothing left to do before the kill.
    REQUIRE((WIFSIGNALED(status) || WEXITSTATUS(status) == 0));

    const size_t reported = fs::exists(log) ? fs::file_size(log) : 0;
    INFO("round " << round << ", trials reported done: " << reported);
    if (fs::exists(path)) {
      const ResultsFile file = read_results(path);  // opens, and holds only true rows
      for (const TrialRecord& record : file.trials) {
        const int i = std::stoi(record.key().case_id.substr(4));
        REQUIRE(record.same_as(made_up_record(i, 0)));
      }
    }
    if (reported == 0 && !fs::exists(path)) continue;
    const ResultStore store(path, made_up_run(kCases, 1), Existing::resume);
    for (size_t i = 0; i < reported; ++i) {
      const TrialRecord* record = find(store.results(), {"case" + std::to_string(i), 0});
      REQUIRE(record != nullptr);
    }
    total = reported;
  }
  CHECK(total > 0);
}

}  // namespace hyperattn
