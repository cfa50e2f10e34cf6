// What `lsh` and `hyper` can be told about their mask and their residual, and where planning notes its time.
#pragma once

#include <cstdint>

#include "algorithms/primitives/column_sample.h"
#include "algorithms/primitives/sort_lsh.h"

namespace hyperattn {

enum class MaskKind { sort_lsh, none, band, file };

/// How the keys outside the mask are estimated.
enum class Residual {
  sample,                ///< a weighted sample (the paper)
  centroids,             ///< plain ones (residuals/centroids.h)
  calibrated_centroids,  ///< calibrated ones
  linear_centroids,      ///< calibrated ones with values linear in the query
  moments,               ///< all as one Gaussian (residuals/moments.h)
  columns_centroids,     ///< keys of largest estimated mass exactly, plain centroids of the others
};

struct SparseOptions {
  MaskKind mask = MaskKind::sort_lsh;
  int64_t bucket_count = 128;
  int64_t block_size = 256;
  BucketOrder bucket_order = BucketOrder::gray;
  bool random_buckets = false;
  bool kmeans_buckets = false;  ///< at most bucket_count centres of the keys in place of a hash
  bool centre_keys = false;     ///< the hash sees keys minus their mean (attention itself does not change)
  bool query_blocks_by_bucket = false;  ///< a query's block is that of its own bucket's keys
  bool banded_blocks = false;
  int64_t band_width = 128;
  int64_t min_seq_len = 2048;
  Residual residual = Residual::sample;
  int64_t sample_size = 0;    ///< m; clamped to the keys of a causal node; 0: the residual is left out
  double column_share = 0.5;  ///< columns_centroids: share of m that goes to columns
  Sampling sampling = Sampling::uniform;
  bool count_collisions = false;  ///< sampled keys in the row's mask stay, and so count twice
};

/// Wall time of planning, by stage.
struct PlanningSeconds {
  double hash = 0;
  double sort = 0;
  double draw = 0;
};

}  // namespace hyperattn
