#include "core/box_muller.h"

#include "core/cloned.h"

namespace hyperattn {

HYPERATTN_CLONED void box_muller(const uint64_t* low, const uint64_t* high, int64_t count, double* target) {
  for (int64_t i = 0; i < count; ++i) target[i] = box_muller_steps::number(low[i], high[i]);
}

}  // namespace hyperattn
