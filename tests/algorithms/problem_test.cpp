// What is refused of a problem's numbers, wherever they stand.
#include "algorithms/problem.h"

#include <catch2/catch.hpp>
#include <limits>
#include <string>

#include "tests/check_error.h"

namespace hyperattn {
namespace {

TEST_CASE("every number of a tensor is looked at, and the first that is none is named") {
  // More than one chunk of 2^16 numbers, and a last one of an odd size.
  Tensor<float> tensor(TensorShape{1, 3, 7919, 3}, 1.0F);
  tensor.data()[5] = std::numeric_limits<float>::max();
  tensor.data()[6] = std::numeric_limits<float>::denorm_min();
  tensor.data()[7] = -0.0F;
  CHECK_NOTHROW(check_finite(tensor.view(), "k"));
  const int64_t size = tensor.shape().size();
  REQUIRE(size == 71271);
  for (const int64_t place : {int64_t{0}, int64_t{15}, int64_t{65535}, int64_t{65536}, size - 2, size - 1})
    for (const float bad :
         {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
          std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::signaling_NaN()}) {
      CAPTURE(place, bad);
      const float before = tensor.data()[place];
      tensor.data()[place] = bad;
      const int64_t row = place / 3 % 7919;
      const std::string where = "[0, " + std::to_string(place / 3 / 7919) + ", " + std::to_string(row) +
                                ", " + std::to_string(place % 3) + "]";
      testing::check_error(Blame::input, {"k holds a non-finite value", where},
                           [&] { check_finite(tensor.view(), "k"); });
      tensor.data()[place] = before;
    }
}

}  // namespace
}  // namespace hyperattn
