// libFuzzer's door to one target, which HYPERATTN_FUZZ_TARGET names.
#include <cstdint>

#include "core/parallel.h"
#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool one_thread = (hyperattn::set_thread_count(1), true);
  static_cast<void>(one_thread);
  hyperattn::fuzz::HYPERATTN_FUZZ_TARGET(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
