// Everything besides the problem that a call of a method depends on.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "core/parameters.h"
#include "core/tensor.h"

namespace hyperattn {

class HeavyMask;

/// Random choices prescribed from outside (golden cases) instead of drawn.
struct Replay {
  DenseMatrix<double> projections;  ///< (d, r): hash directions; hashes are then computed in double
  /// Query rows N of the node → sampled key rows, flattened (batch·heads, nodes, m); indices count from the
  /// node's first key row. N = n_q when not causal.
  struct Samples {
    int64_t nodes = 1;
    int64_t count = 0;  ///< m
    std::vector<int32_t> rows;
  };
  std::map<int64_t, Samples> samples;
};

struct Call {
  Parameters parameters;  ///< resolved against the specs of the method and of the engine
  uint64_t seed = 0;
  uint32_t trial = 0;
  const HeavyMask* mask = nullptr;  ///< the caller's own mask, else null
  const Replay* replay = nullptr;
};

}  // namespace hyperattn
