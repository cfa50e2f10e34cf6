// Made-up runs for the tests of results.
#pragma once

#include <string>

#include "experiments/results/result_store.h"
#include "tests/check_error.h"
#include "tests/scratch_folder.h"

namespace hyperattn::results_test {

using testing::check_error;
using testing::error_of;
using testing::ScratchFolder;

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

}  // namespace hyperattn::results_test
