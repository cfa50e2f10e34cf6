// How a trial is timed: the order of the repeats, when adaptive ones end, threads bound to processors, and
// what is said about timings that cannot be trusted.
#include <omp.h>
#include <sched.h>

#include <catch2/catch.hpp>
#include <set>

#include "core/machine.h"
#include "experiments/config/config.h"
#include "experiments/config/grid.h"
#include "experiments/running/pinning.h"
#include "experiments/running/timing_noise.h"
#include "experiments/sweep/trial_runner.h"

namespace hyperattn {
namespace {

/// Runs trial 0 of a small sweep with three backends; returns its rows, and the backends of the repeats in
/// their order.
struct TimedTrial {
  std::vector<std::string> order;
  std::vector<TrialRecord> records;

  explicit TimedTrial(const std::string& timing) {
    const ExperimentConfig config = read_config_text(
        "inputs: {source: gaussian, seq_len: 64, head_dim: 8}\n"
        "backends: [exact, dense, {name: lsh, bucket_count: 4, block_size: 16}]\n"
        "measures: [timing]\ntiming: " +
            timing,
        "test.yaml");
    const Grid grid = expand_grid(config);
    TrialPlan plan;
    plan.config = &config;
    plan.point = &grid.inputs.at(0);
    for (const Case& grid_case : grid.cases) plan.cases.push_back(&grid_case);
    records = run_trial(plan, [&](const Case& grid_case, const std::string& step) {
      if (step.rfind("repeat", 0) == 0) order.push_back(grid_case.backend->name());
    });
  }
  [[nodiscard]] std::vector<int64_t> repeats() const {
    std::vector<int64_t> counts;
    for (const TrialRecord& record : records)
      counts.push_back(std::count_if(record.timings.begin(), record.timings.end(),
                                     [](const TimingRow& row) { return row.stage == kTotalStage; }));
    return counts;
  }
};

TrialRecord timed(const std::vector<double>& seconds, const std::string& status = "ok") {
  TrialRecord record;
  record.row.set_text("status", status);
  for (size_t i = 0; i < seconds.size(); ++i)
    record.add_timing(kTotalStage, static_cast<int64_t>(i), seconds[i]);
  return record;
}

/// The processors that a thread may run on.
cpu_set_t affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  REQUIRE(sched_getaffinity(0, sizeof set, &set) == 0);
  return set;
}

}  // namespace

TEST_CASE("repeats go round by round, and each round begins with the next backend") {
  const TimedTrial trial("{repeats: 3}");
  CHECK(trial.order == std::vector<std::string>{"exact", "dense", "lsh",  //
                                                "dense", "lsh", "exact",  //
                                                "lsh", "exact", "dense"});
  CHECK(trial.repeats() == std::vector<int64_t>{3, 3, 3});
}

TEST_CASE("adaptive repeats end between their limits") {
  // Every median is this certain at once, and no median ever is that certain.
  CHECK(TimedTrial("{repeats: auto, relative_error: 1, min_repeats: 4, max_repeats: 50}").repeats() ==
        std::vector<int64_t>{4, 4, 4});
  const std::vector<int64_t> most =
      TimedTrial("{repeats: auto, relative_error: 1e-6, min_repeats: 3, max_repeats: 6}").repeats();
  CHECK(most == std::vector<int64_t>{6, 6, 6});
}

TEST_CASE("steady timings are passed over in silence") {
  TimingConfig timing;
  TimingNoise noise(steady_timings(timing));
  CHECK(noise.warning().empty());
  noise.add(timed({1.00, 1.01, 0.99}), "steady");
  noise.add(timed({1}), "single");
  noise.add(timed({1, 2, 9}, "failed"), "failed");
  CHECK(noise.warning().empty());
}

TEST_CASE("noisy timings are named with their number, the worst one, and what helps") {
  TimingConfig timing;
  TimingNoise noise(steady_timings(timing));
  noise.add(timed({1.00, 1.01, 0.99}), "steady");
  noise.add(timed({1, 1.2, 0.8}), "shaky");  // 1.2533 · 1.4826 · 0.2 / √3 = 21.5 %
  noise.add(timed({1, 1.1, 0.9}), "less shaky");
  CHECK_THAT(noise.warning(), Catch::Contains("2 of 3 trials are noisy") &&
                                  Catch::Contains("more than 5 %") &&
                                  Catch::Contains("at worst 21.5 %, shaky") && Catch::Contains("--pin") &&
                                  Catch::Contains("timing.repeats"));
  timing.adaptive = true;
  timing.relative_error = 0.5;
  timing.max_repeats = 9;
  TimingNoise adaptive(steady_timings(timing));
  adaptive.add(timed({1, 1.2, 0.8}), "shaky");
  CHECK(adaptive.warning().empty());
  adaptive.add(timed({1, 1.9, 0.1}), "hopeless");
  CHECK_THAT(adaptive.warning(), Catch::Contains("1 of 2") && Catch::Contains("timing.max_repeats (9)"));
}

TEST_CASE("pinned threads keep to one processor each") {
  const cpu_set_t before = affinity();
  pin_threads();
  std::set<int> used;
  int bound = 0;
#pragma omp parallel
  {
    cpu_set_t set;
    CPU_ZERO(&set);
    const bool known = sched_getaffinity(0, sizeof set, &set) == 0;
#pragma omp critical
    {
      bound += known && CPU_COUNT(&set) == 1 ? 1 : 0;
      for (int i = 0; i < CPU_SETSIZE; ++i)
        if (CPU_ISSET(i, &set)) used.insert(i);
    }
    sched_setaffinity(0, sizeof before, &before);
  }
  CHECK(bound == omp_get_max_threads());
  const int processors = CPU_COUNT(&before);
  CHECK(static_cast<int>(used.size()) == std::min(omp_get_max_threads(), processors));
}

}  // namespace hyperattn
