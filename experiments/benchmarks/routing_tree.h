// The settings of the routing tree whose time is compared with that of `hyper`.
#pragma once

#include <string>
#include <vector>

#include "experiments/benchmarks/one_head.h"

namespace hyperattn {

struct TreeCase {
  std::string name;
  int64_t rows = 0;
  bool causal = false;
  std::string tail;
  IntegerList beams;
  int64_t leaf = 0;  ///< min_seq_len; hyper's is 2048
};

/// No mask at n = 16384; causal at 32768 with leaves of 2048 rows, and of 512 with beams of 8.
[[nodiscard]] const std::vector<TreeCase>& tree_cases();

/// The call of `tree` for a case.
[[nodiscard]] Call tree_context(const TreeCase& of);

}  // namespace hyperattn
