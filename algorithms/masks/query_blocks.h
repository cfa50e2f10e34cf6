// The parameter that makes rows independent of each other: it places the queries of sorted blocks, and
// forbids residuals to look at a node's own queries.
#pragma once

#include "core/parameters.h"

namespace hyperattn {

[[nodiscard]] inline ParameterSpec query_blocks_parameter() {
  return choice_parameter(
             "query_blocks", {"by_rank", "by_bucket"},
             "queries cut by their own ranks, or each in the block of its bucket's keys: then no "
             "row depends on later ones")
      .only_with("mask", {"sort_lsh"})
      .or_with("residual", {"calibrated_centroids", "linear_centroids", "columns+centroids"});
}

[[nodiscard]] inline bool rows_keep_to_their_buckets(const Parameters& parameters) {
  return parameters.text("query_blocks") == "by_bucket";
}

}  // namespace hyperattn
