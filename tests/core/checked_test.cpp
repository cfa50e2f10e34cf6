// Products of sizes, and shapes that no machine holds.
#include "core/checked.h"

#include <catch2/catch.hpp>
#include <limits>
#include <vector>

#include "core/tensor.h"
#include "tests/check_error.h"

namespace hyperattn {

using testing::check_error;

TEST_CASE("products are exact, or none", "[checked]") {
  constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
  CHECK(checked_product({}) == 1);
  CHECK(checked_product({3, 5, 7}) == 105);
  CHECK(checked_product({kLargest, 1}) == kLargest);
  CHECK(checked_product({int64_t{1} << 31, int64_t{1} << 31}) == int64_t{1} << 62);
  CHECK_FALSE(checked_product({int64_t{1} << 32, int64_t{1} << 31}));
  CHECK_FALSE(checked_product({65536, 2731, 402604038, 256}));  // 2^64 + 2^25
  CHECK_FALSE(checked_product({65536, 65536, 2147483647, 64}));
  CHECK_FALSE(checked_product_of(std::vector<int64_t>{int64_t{1} << 40, int64_t{1} << 40, 0}));
}

TEST_CASE("a shape is countable up to what a double counts", "[checked]") {
  CHECK(is_countable({1, 1, 1, 1}));
  CHECK(is_countable({1, 1 << 15, int64_t{1} << 30, 1 << 8}));
  CHECK_FALSE(is_countable({1, 1 << 15, (int64_t{1} << 30) + 1, 1 << 8}));
  CHECK_FALSE(is_countable({65536, 65536, 1, 1}));
  CHECK_FALSE(is_countable({65536, 2731, 402604038, 256}));
  CHECK_FALSE(is_countable({65536, 65536, 2147483647, 256}));
}

TEST_CASE("a buffer whose bytes cannot be counted is refused", "[checked]") {
  for (const int64_t size :
       {(int64_t{1} << 61) + 1, (int64_t{1} << 62) + 16, std::numeric_limits<int64_t>::max()})
    check_error(Blame::environment, {"64-bit count of bytes"}, [&] { const Buffer<double> buffer(size); });
}

}  // namespace hyperattn
