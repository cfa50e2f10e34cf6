// Lists, plurals, sizes and times as people read them.
#include "core/text.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

namespace hyperattn {

TEST_CASE("lists have their separator between words alone", "[text]") {
  CHECK(join({}).empty());
  CHECK(join({"a"}) == "a");
  CHECK(join({"a", "", "c"}) == "a, , c");
  CHECK(join({"a", "b", "c"}, " or ") == "a or b or c");
}

TEST_CASE("one thing is singular, and nothing else is", "[text]") {
  CHECK(counted(int64_t{0}, "trial") == "0 trials");
  CHECK(counted(int64_t{1}, "trial") == "1 trial");
  CHECK(counted(size_t{2}, "trial") == "2 trials");
  CHECK(counted(int64_t{-1}, "layer") == "-1 layers");
}

TEST_CASE("shares are percentages of three digits", "[text]") {
  CHECK(percent_text(0.05) == "5 %");
  CHECK(percent_text(0.21456) == "21.5 %");
  CHECK(percent_text(1.5) == "150 %");
}

TEST_CASE("numbers for people", "[text]") {
  CHECK(seconds_text(1.2345) == "1.23 s");
  CHECK(seconds_text(0.0123) == "12.3 ms");
  CHECK(seconds_text(0.9996) == "1.00 s");
  CHECK(seconds_text(123e-6) == "123 µs");
  CHECK(seconds_text(86400) == "8.64e+04 s");
  CHECK(seconds_text(std::nan("")).empty());
  CHECK(bytes_text(0) == "0 B");
  CHECK(bytes_text(1536) == "1.5 KiB");
  CHECK(bytes_text(3.0 * (1 << 30)) == "3 GiB");
  CHECK(bytes_text(-1).empty());
  CHECK(figure_text(0.123456) == "0.1235");
  CHECK(figure_text(std::numeric_limits<double>::infinity()) == "inf");
}

TEST_CASE("durations read well", "[text]") {
  CHECK(duration_text(0) == "0 s");
  CHECK(duration_text(0.4) == "< 1 s");
  CHECK(duration_text(59.4) == "59 s");
  CHECK(duration_text(200) == "3 min 20 s");
  CHECK(duration_text(3900) == "1 h 05 min");
  CHECK(duration_text(-1) == "0 s");
}

TEST_CASE("quantities have three digits and the prefix that these need", "[text]") {
  CHECK(quantity_text(0, "B") == "0 B");
  CHECK(quantity_text(2.5e9, "FLOP") == "2.5 GFLOP");
  CHECK(quantity_text(999.4, "B") == "999 B");
  CHECK(quantity_text(999.7e6, "B") == "1 GB");
  CHECK(quantity_text(3e21, "FLOP") == "3e+03 EFLOP");
}

}  // namespace hyperattn
