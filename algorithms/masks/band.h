// Keys near a row's own position: the mask `band`, and the parameter that adds them to any mask.
#pragma once

#include "core/parameters.h"

namespace hyperattn {

/// The keys at most this far from the row's own position (under a causal mask: before it) are exact beside
/// the mask's, each once; 0: none.
[[nodiscard]] ParameterSpec window_parameter();

/// Keys of a row's band in a node, for estimates.
[[nodiscard]] double band_keys(double node_keys, int level, double width);

}  // namespace hyperattn
