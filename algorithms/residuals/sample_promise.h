// What a method's parameters say of its random sample, as far as the lemmas of the paper depend on it: their
// bounds hold for independent draws alone.
#pragma once

#include <cstdint>

#include "core/parameters.h"

namespace hyperattn {

struct SamplePromise {
  int64_t sample_size = 0;            ///< m; 0: no random sample, so nothing is promised
  bool approximate_division = false;  ///< the product is divided by a D̃ that does not depend on its sample
  double variance_factor = 1;         ///< 2: half of the probability is uniform
};

/// Of the resolved parameters of any method: those without a sample promise nothing.
[[nodiscard]] SamplePromise sample_promise(const Parameters& parameters);

}  // namespace hyperattn
