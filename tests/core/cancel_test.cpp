#include "core/cancel.h"

#include <atomic>
#include <catch2/catch.hpp>

#include "core/parallel.h"

namespace hyperattn {
namespace {

TEST_CASE("a parallel loop that is asked to stop ends early and says why") {
  std::atomic<int> calls{0};
  const CancelCause cause = GENERATE(CancelCause::interrupt, CancelCause::timeout);
  const auto body = [&](int64_t, int) {
    if (++calls == 3) request_cancel(cause);
  };
  try {
    parallel_for(100000, body);
    FAIL("the loop ran to its end");
  } catch (const Cancelled& cancelled) {
    CHECK(cancelled.cause() == cause);
  }
  CHECK(calls < 1000);
  CHECK_THROWS_AS(parallel_for(1, body), Cancelled);  // later loops stop, too
  clear_cancel();
  CHECK_NOTHROW(parallel_for(1, body));
}

}  // namespace
}  // namespace hyperattn
