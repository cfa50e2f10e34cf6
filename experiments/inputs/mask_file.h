// A heavy mask of the user's own, from HDF5.
#pragma once

#include <string>

#include "algorithms/masks/heavy_mask.h"

namespace hyperattn {

/// Reads either `/mask/blocks`, shape (count, 4): query_begin, query_end, key_begin, key_end, half-open; or
/// `/mask/indptr` (n_q + 1) and `/mask/indices` (entries): compressed sparse rows. With the problem's
/// leading (batch, heads) there is one pattern a head (with (1, 1) one for all); shorter ones are then filled
/// up, blocks with rows of four −1 and indices with anything after their last offset. The result is validated
/// against the problem's sizes. Throws Error(input) for a file that is missing or unreadable and for an
/// invalid mask.
[[nodiscard]] HeavyMask read_mask_file(const std::string& path, int64_t batch, int64_t heads,
                                       int64_t query_count, int64_t key_count);

}  // namespace hyperattn
