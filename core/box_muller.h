// Standard normal numbers from random bits (Box and Muller, 1958), with a logarithm and cosine of additions,
// products, a quotient and a root alone, in one order: the same bits on every processor, system and compiler,
// whose own functions differ in their last bits. A loop of it becomes vectors.
#pragma once

#include <cstdint>

namespace hyperattn {

/// target[i] = √(−2 ln(1 − u)) · cos(2πv), where u and v in [0, 1) are the upper 53 bits of low[i] and
/// high[i]; within 4 units in the last place.
void box_muller(const uint64_t* low, const uint64_t* high, int64_t count, double* target);

}  // namespace hyperattn
