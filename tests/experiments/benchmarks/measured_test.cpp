// When a benchmark's rounds end, and what is said of a figure that is not certain.
#include "experiments/benchmarks/measured.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

namespace hyperattn {
namespace {

TEST_CASE("rounds that agree end after the least number of them") {
  int calls = 0;
  const Measured figure = measure([&] { return 3.0 + 0.001 * (++calls % 2); }, 5);
  CHECK(calls == 5);
  CHECK(figure.rounds == 5);
  CHECK(figure.value == 3.001);
  CHECK(figure.is_certain());
}

TEST_CASE("rounds go on until the median is certain") {
  const std::vector<double> seen = {1.1, 1.0, 1.07, 0.96, 1.001, 0.999, 1.001, 0.999};
  size_t calls = 0;
  const Measured figure = measure([&] { return seen.at(calls++); }, 4);
  CHECK(calls == 7);
  CHECK(figure.value == 1.001);
  CHECK(figure.is_certain());
}

TEST_CASE("rounds that never agree end after four times as many, and say so") {
  int calls = 0;
  const Measured figure = measure([&] { return 1.0 + 0.5 * (calls++ % 3); }, 3);
  CHECK(calls == 12);
  // Rounds of 1, 1.5 and 2: the median deviation is 0.5.
  const double error = 2 * 1.2533 * 1.4826 * 0.5 / (std::sqrt(12.0) * 1.5);
  CHECK(figure.value == 1.5);
  CHECK(figure.error == Approx(error).epsilon(1e-12));
  CHECK_FALSE(figure.is_certain());
  CHECK(figure.uncertainty() ==
        "1.5 is certain to 35.8 % only, after 12 rounds: the machine is too busy for 2 %");
}

TEST_CASE("a quotient is as uncertain as both of its parts") {
  const Measured quotient = 2 * (Measured{6, 0.03, 4} / Measured{3, 0.04, 7});
  CHECK(quotient.value == 4);
  CHECK(quotient.error == Approx(0.05).epsilon(1e-12));
  CHECK(quotient.rounds == 7);
}

TEST_CASE("all figures of the same rounds must be certain") {
  const Measured certain{1, 0.01, 4};
  const Measured uncertain{1, 0.5, 4};
  CHECK(is_enough({certain, certain}, 4));
  CHECK_FALSE(is_enough({certain, uncertain}, 4));
  CHECK_FALSE(is_enough({certain, certain}, 5));
  CHECK(is_enough({{1, 0.5, 16}}, 4));
}

}  // namespace
}  // namespace hyperattn
