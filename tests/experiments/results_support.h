// Made-up runs and scratch folders for the tests of results.
#pragma once

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "core/error.h"
#include "experiments/results/result_store.h"

namespace hyperattn::results_test {

/// A folder of this process's own, removed at the end.
class ScratchFolder {
 public:
  ScratchFolder() {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("hyperattn_results_" + std::to_string(::getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directories(path_);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// A plan of `cases` cases "case0", "case1", … with `trials` trials each.
inline RunDescription made_up_run(int cases, int trials,
                                  const std::string& config = "name: test\nseed: 1\n") {
  RunDescription run;
  run.name = "test";
  run.config = config;
  run.trials_per_case = trials;
  run.provenance = {
      {"version", std::string("0.0.1")}, {"threads", int64_t{2}}, {"peak", 0.5}, {"quiet", true}};
  for (int i = 0; i < cases; ++i)
    run.cases.push_back(
        {"case" + std::to_string(i), R"({"backend":"hyper","sample_size":)" + std::to_string(i) + "}"});
  return run;
}

/// A finished trial with figures, a head, a level and timings that depend on (case, trial).
inline TrialRecord made_up_record(int case_index, int trial, const std::string& status = "ok") {
  TrialRecord record;
  record.row.set_text("case_id", "case" + std::to_string(case_index));
  record.row.set_text("backend", "hyper");
  record.row.set_text("status", status);
  record.row.set_integer("trial", trial);
  record.row.set_integer("seq_len", 4096);
  record.row.set_integer("sample_size", case_index);
  record.row.set_number("seconds", 0.1 * (case_index + 1) + 0.001 * trial);
  record.row.set_number("epsilon", 1.0 / (case_index + 3));
  record.row.set_number("log_kappa", 1.0 / 0.0);
  FigureRow head;
  head.head = 1;
  head.figures["epsilon"] = 0.25;
  head.texts["norm_status"] = "converged";
  record.add(head);
  FigureRow level;
  level.level = 2;
  level.figures["alpha"] = trial;
  record.add(level);
  record.add_timing(kTotalStage, 0, 0.125);
  record.add_timing("sort", 0, 0.5);
  return record;
}

/// The message and blame of what `call` throws; fails the test if it does not throw an Error.
template <class Call>
Error error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  FAIL("an Error was expected, but nothing was thrown");
  throw;
}

/// Asserts that `call` fails with this blame and a message that names each of `parts`.
template <class Call>
void check_error(Blame blame, const std::vector<std::string>& parts, const Call& call) {
  const Error error = error_of(call);
  INFO("message: " << error.what());
  CHECK(static_cast<int>(error.blame()) == static_cast<int>(blame));
  for (const std::string& part : parts) CHECK_THAT(error.what(), Catch::Contains(part));
}

}  // namespace hyperattn::results_test
