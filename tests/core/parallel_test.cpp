// Parallel loops: every index once, whatever the threads; exceptions come back to the caller.
#include "core/parallel.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace hyperattn {
namespace {

/// The threads of the process, set back at the end.
class Threads {
 public:
  explicit Threads(int threads) : before_(thread_count()) { set_thread_count(threads); }
  ~Threads() { set_thread_count(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

}  // namespace

TEST_CASE("a parallel loop calls its body once for every index, for any number of threads", "[parallel]") {
  for (const int threads : {1, 2, 3, 8}) {
    const Threads set(threads);
    REQUIRE(thread_count() == threads);
    for (const int64_t count : {0, 1, 2, 3, 17, 1009})
      for (const int64_t together : {int64_t{1}, int64_t{4}, int64_t{2000}, small_pieces(count)}) {
        std::vector<std::atomic<int>> calls(static_cast<size_t>(count) + 1);
        std::atomic<int> wrong_workers{0};
        const auto body = [&](int64_t index, int worker) {
          ++calls[static_cast<size_t>(index)];
          if (worker < 0 || worker >= threads) ++wrong_workers;
        };
        parallel_for(count, body, together);
        std::vector<int64_t> wrong;
        for (int64_t i = 0; i <= count; ++i)
          if (calls[static_cast<size_t>(i)] != (i < count ? 1 : 0)) wrong.push_back(i);
        CAPTURE(threads, count, together, wrong);
        CHECK(wrong.empty());
        CHECK(wrong_workers == 0);
      }
  }
}

TEST_CASE("small pieces of work are taken together, at least one and eight turns of every thread",
          "[parallel]") {
  const Threads set(2);
  for (const int64_t count : {0, 1, 15, 16, 31}) CHECK(small_pieces(count) == (count < 32 ? 1 : 2));
  CHECK(small_pieces(32) == 2);
  CHECK(small_pieces(1024) == 64);
}

TEST_CASE("pieces that take less together than a team is worth are all one thread's", "[parallel]") {
  const Threads set(2);
  CHECK(pieces_worth_a_team(0, 10) == 1);
  CHECK(pieces_worth_a_team(25, 10) == 25);
  CHECK(pieces_worth_a_team(26, 10) == small_pieces(26));
  CHECK(pieces_worth_a_team(1024, 1) == 64);
}

TEST_CASE("a parallel loop over nothing, or less, calls nothing", "[parallel]") {
  int calls = 0;
  parallel_for(0, [&](int64_t, int) { ++calls; });
  parallel_for(-5, [&](int64_t, int) { ++calls; });
  CHECK(calls == 0);
}

TEST_CASE("an exception ends a parallel loop early and reaches the caller", "[parallel]") {
  for (const int threads : {1, 2, 5}) {
    const Threads set(threads);
    std::atomic<int64_t> calls{0};
    std::string message;
    try {
      parallel_for(1000000, [&](int64_t index, int) {
        ++calls;
        if (index == 3) throw std::runtime_error("index 3 has no key");
      });
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    CAPTURE(threads, calls.load());
    CHECK(message == "index 3 has no key");
    CHECK(calls < 1000000);
    std::atomic<int64_t> later{0};  // and the next loop knows nothing of it
    parallel_for(100, [&](int64_t, int) { ++later; });
    CHECK(later == 100);
  }
}

TEST_CASE("parallel_fill sets all values and none beside them", "[parallel]") {
  const int64_t chunk = int64_t{1} << 18;
  for (const int64_t size : {int64_t{0}, int64_t{1}, chunk - 1, chunk, chunk + 1, 3 * chunk + 7}) {
    std::vector<float> data(static_cast<size_t>(size) + 2, -1.0F);
    parallel_fill(data.data() + 1, size, 2.5F);
    int64_t filled = 0;
    for (int64_t i = 1; i <= size; ++i) filled += data[static_cast<size_t>(i)] == 2.5F ? 1 : 0;
    CAPTURE(size);
    CHECK(filled == size);
    CHECK(data.front() == -1.0F);
    CHECK(data.back() == -1.0F);
  }
}

}  // namespace hyperattn
