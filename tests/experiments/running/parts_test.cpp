// The runner's parts that stand alone: statistics of repeats, time limits, shards.
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <limits>
#include <new>
#include <thread>

#include "core/cancel.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/timing.h"
#include "experiments/results/repeat_statistics.h"
#include "experiments/running/attempt.h"
#include "experiments/running/run_options.h"
#include "experiments/running/time_limit.h"

namespace hyperattn {
namespace {

TEST_CASE("median and median absolute deviation") {
  CHECK(median({3, 1, 2}) == 2);
  CHECK(median({4, 1, 3, 2}) == 2.5);
  CHECK(median({7}) == 7);
  CHECK(std::isnan(median({})));
  CHECK(median_absolute_deviation({1, 2, 3, 4, 100}) == 1);
  CHECK(median_absolute_deviation({5}) == 0);
  CHECK(std::isnan(median_absolute_deviation({})));
}

TEST_CASE("the median's relative error falls with the spread and with the square root of the count") {
  CHECK(std::isinf(relative_error_of_median({1})));
  CHECK(relative_error_of_median({2, 2, 2}) == 0);
  const double few = relative_error_of_median({9, 10, 11, 9, 10, 11});
  CHECK(few == Approx(1.2533 * 1.4826 * 1 / (std::sqrt(6.0) * 10)));
  CHECK(relative_error_of_median({9, 10, 11, 9, 10, 11, 9, 10, 11, 9, 10, 11,
                                  9, 10, 11, 9, 10, 11, 9, 10, 11, 9, 10, 11}) == Approx(few / 2));
}

TEST_CASE("a time limit stops parallel loops, and only those in its scope") {
  const auto nap = [](int64_t, int) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); };
  const Stopwatch watch;
  {
    const TimeLimit limit(0.05);
    CHECK_THROWS_AS(parallel_for(100000, nap), Cancelled);
  }
  INFO("stopped after " << watch.seconds() << " s");
  CHECK(watch.seconds() < 5);
  CHECK_NOTHROW(parallel_for(2, nap));
  {
    const TimeLimit limit(std::numeric_limits<double>::infinity());
    CHECK_NOTHROW(parallel_for(2, nap));
  }
  {
    const TimeLimit limit(1e300);
    CHECK_NOTHROW(parallel_for(2, nap));
  }
}

TEST_CASE("work over its time limit fails, however late the watchdog is") {
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(why_failed(infinity, 0, [] {}).empty());
  CHECK(why_failed(60, 0, [] {}).empty());
  for (int i = 0; i < 100; ++i)  // nothing is done, and yet more than this
    CHECK_THAT(why_failed(1e-12, 0, [] {}),
               Catch::Contains("limit of 1e-12 s") && Catch::Contains("--case-timeout"));
  CHECK_THAT(why_failed(60, 60, [] {}), Catch::Contains("limit of 60 s"));
  CHECK(why_failed(60, 0, [] { fail_input("the file is torn"); }) == "the file is torn");
  CHECK(why_failed(60, 0, [] { throw std::bad_alloc(); }) == "not enough memory");
}

TEST_CASE("a time limit does not hide an interrupt") {
  {
    const TimeLimit limit(0.01);
    request_cancel(CancelCause::interrupt);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    CHECK(cancel_cause() == CancelCause::interrupt);
  }
  CHECK(cancel_cause() == CancelCause::interrupt);
  clear_cancel();
}

TEST_CASE("shards are I/N, counted from 0 or from 1") {
  CHECK(parse_shard("0/1").count == 1);
  CHECK(parse_shard("2/3").index == 2);
  CHECK(parse_shard("3/3").index == 0);
  for (const char* wrong :
       {"", "1", "/", "1/", "/2", "4/3", "-1/3", "1/0", "1/2/3", "a/b", "1 /2", "1/2 ", "0/1000000"}) {
    INFO("--shard " << wrong);
    CHECK_THROWS_WITH(parse_shard(wrong), Catch::Contains("--shard must be I/N"));
  }
}

}  // namespace
}  // namespace hyperattn
