// What a case will cost, before it runs: for --dry-run, for the refusal of what cannot fit into memory, and
// for the time left.
#pragma once

#include <map>
#include <string>

#include "experiments/config/grid.h"

namespace hyperattn {

/// FLOPs that one call counts as: 2·(d + d_v) for each score entry computed, and 14/4 of that for forward and
/// backward together (the backward pass recomputes the scores and makes four more products of the same size).
[[nodiscard]] double counted_flops(double entries, const InputShapes& shapes, PassKind pass);

struct CaseEstimate {
  double flops = 0;  ///< of one call
  double bytes = 0;  ///< inputs, outputs and the backend's own; with measures their copies of the output
};

/// `point` has shapes.
[[nodiscard]] CaseEstimate estimate_case(const InputPoint& point, const Case& grid_case, bool measures);

/// Bytes of q, k and v.
[[nodiscard]] double input_bytes(const InputShapes& shapes);

/// FLOP/s of backends on this machine, each found by a call on a small Gaussian problem (some milliseconds)
/// when first asked for.
class BackendSpeeds {
 public:
  /// Half the measured peak where the small call is not possible.
  [[nodiscard]] double flops_per_second(const InputPoint& point, const Case& grid_case);

 private:
  std::map<std::string, double> by_backend_;
};

}  // namespace hyperattn
