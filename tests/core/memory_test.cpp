#include "core/memory.h"

#include <catch2/catch.hpp>
#include <cstdint>

namespace hyperattn {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

TEST_CASE("live buffers are counted, freed ones are not, whether they are kept for later or given back") {
  const int64_t before = allocated_bytes();
  reset_peak_allocated_bytes();
  for (const int64_t size : {int64_t{100}, kMiB - 1, kMiB, 3 * kMiB + 5, 40 * kMiB}) {
    INFO(size << " bytes");
    {
      Buffer<char> buffer(size);
      buffer[0] = 1;
      buffer[size - 1] = 1;
      CHECK(allocated_bytes() == before + size);
      CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % 64 == 0);
    }
    CHECK(allocated_bytes() == before);
  }
  CHECK(peak_allocated_bytes() == before + 40 * kMiB);
}

#ifndef __SANITIZE_ADDRESS__
TEST_CASE("a large buffer's memory serves the next request of its size, and only one at a time") {
  const char* first = nullptr;
  {
    const Buffer<char> buffer(20 * kMiB);
    first = buffer.data();
  }
  const Buffer<char> again(20 * kMiB);
  const Buffer<char> other(20 * kMiB);
  CHECK(again.data() == first);
  CHECK(other.data() != first);
}
#endif

}  // namespace
}  // namespace hyperattn
