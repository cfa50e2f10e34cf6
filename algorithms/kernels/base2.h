// Scores are kept in base 2, since 2^x is what processors are quick at.
#pragma once

namespace hyperattn {

constexpr float kLog2E = 1.44269504088896340736F;

}  // namespace hyperattn
