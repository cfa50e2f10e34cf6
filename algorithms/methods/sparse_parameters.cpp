#include "algorithms/methods/sparse_parameters.h"

#include <limits>
#include <utility>

namespace hyperattn {
namespace {

constexpr double kMaxRows = std::numeric_limits<int32_t>::max();

MaskKind mask_kind(const std::string& name) {
  if (name == "none") return MaskKind::none;
  if (name == "band") return MaskKind::band;
  return name == "file" ? MaskKind::file : MaskKind::sort_lsh;
}

Sampling sampling_kind(const std::string& name) {
  if (name == "uniform_iid") return Sampling::uniform_iid;
  if (name == "value_norm") return Sampling::value_norm;
  return name == "prefix" ? Sampling::prefix : Sampling::uniform;
}

bool has_whole_blocks(const SparseOptions& options) {
  return options.mask == MaskKind::none || (options.mask == MaskKind::sort_lsh && !options.banded_blocks);
}

Residual residual_kind(const std::string& name) {
  if (name == "centroids") return Residual::centroids;
  if (name == "linear_centroids") return Residual::linear_centroids;
  if (name == "moments") return Residual::moments;
  if (name == "calibrated_centroids") return Residual::calibrated_centroids;
  return name == "columns+centroids" ? Residual::columns_centroids : Residual::sample;
}

}  // namespace

std::vector<ParameterSpec> mask_parameters(bool allow_no_mask) {
  std::vector<std::string> masks = {"sort_lsh", "band", "file"};
  if (allow_no_mask) masks.insert(masks.begin() + 1, "none");
  ParameterSpec buckets =
      integer_parameter("bucket_count", "buckets of the hash, 2^r from r hyperplanes: more make blocks purer")
          .between(1, 1 << kMaxHashBits)
          .by_default(128)
          .only_with("mask", {"sort_lsh"});
  buckets.power_of_two = true;
  return {
      choice_parameter("mask", std::move(masks), "which entries are computed exactly"),
      std::move(buckets),
      integer_parameter("block_size", "keys in a block (b): cost and exact mass grow with it")
          .between(1, kMaxRows)
          .by_default(256)
          .only_with("mask", {"sort_lsh"}),
      choice_parameter("bucket_order", {"gray", "reference"},
                       "order of buckets: neighbours differ in one bit, or as in the authors' code")
          .only_with("buckets", {"lsh"}),
      choice_parameter(
          "buckets", {"lsh", "random", "kmeans"},
          "hashed buckets, random ones as a control, or at most bucket_count k-means centres of the keys")
          .only_with("mask", {"sort_lsh"}),
      boolean_parameter("centre_keys", "the hash (nothing else) sees keys minus their mean")
          .only_with("buckets", {"lsh"}),
      choice_parameter("query_blocks", {"by_rank", "by_bucket"},
                       "queries cut by their own ranks, or each in the block of its bucket's keys: then no "
                       "row depends on later ones")
          .only_with("mask", {"sort_lsh"})
          .or_with("residual", {"calibrated_centroids", "linear_centroids", "columns+centroids"}),
      choice_parameter("blocks", {"aligned", "banded"},
                       "blocks of equal ranks, or windows centred on tiles of 128 queries")
          .only_with("mask", {"sort_lsh"}),
      text_parameter("mask_path", "HDF5 file that holds /mask/blocks or /mask/{indptr,indices}")
          .or_absent()
          .only_with("mask", {"file"}),
      integer_parameter("band_width", "the mask holds the keys at most this far from the row's own")
          .between(0, kMaxRows)
          .by_default(128)
          .only_with("mask", {"band"}),
      integer_parameter("min_seq_len", "segments of at most this many rows are exact leaves of the recursion")
          .between(1, kMaxRows)
          .by_default(2048)
          .only_with("causal", {true}),
  };
}

std::vector<ParameterSpec> sample_parameters() {
  return {
      integer_parameter(
          "sample_size",
          "sampled keys, centroids and columns (m), shared by all rows of a head or causal node; 0: none "
          "(moments: only whether it is 0)")
          .between(0, kMaxRows)
          .by_default(256)
          .not_with("residual", {"none"})
          .or_with("estimator", {"theory"}),
      choice_parameter("residual",
                       {"sample", "centroids", "calibrated_centroids", "linear_centroids", "moments",
                        "columns+centroids", "none"},
                       "keys outside the mask: sampled, as means of runs of sorted keys, as means by softmax "
                       "mass, as these "
                       "with values linear in the query, as one Gaussian, the heaviest exactly and means of "
                       "the others, or "
                       "left out")
          .only_with("estimator", {"residual"}),
      number_parameter("column_share", "share of sample_size that goes to exact columns")
          .between(0, 1)
          .by_default(0.5)
          .only_with("residual", {"columns+centroids"})
          .not_with("sample_size", {0}),
      choice_parameter(
          "sampling", {"uniform", "uniform_iid", "value_norm", "prefix"},
          "how keys are drawn: without or with replacement, by value norms, or the first m with weight 1")
          .only_with("residual", {"sample"})
          .not_with("sample_size", {0}),
      choice_parameter("collisions", {"mask", "count"},
                       "sampled keys that the row's mask already holds are left out, or count twice")
          .only_with("residual", {"sample"})
          .not_with("sample_size", {0})
          .not_with("mask", {"none"}),
  };
}

SparseOptions sparse_options(const Parameters& parameters) {
  SparseOptions options;
  options.mask = mask_kind(parameters.text("mask"));
  options.bucket_count = parameters.integer("bucket_count");
  options.block_size = parameters.integer("block_size");
  options.bucket_order =
      parameters.text("bucket_order") == "reference" ? BucketOrder::reference : BucketOrder::gray;
  options.random_buckets = parameters.text("buckets") == "random";
  options.kmeans_buckets = parameters.text("buckets") == "kmeans";
  options.centre_keys = parameters.boolean("centre_keys");
  options.query_blocks_by_bucket = parameters.text("query_blocks") == "by_bucket";
  options.banded_blocks = parameters.text("blocks") == "banded";
  options.band_width = parameters.integer("band_width");
  options.min_seq_len = parameters.integer("min_seq_len");
  if (!parameters.has("sample_size")) return options;
  const std::string& residual = parameters.text("residual");
  options.residual = residual_kind(residual);
  options.column_share = parameters.number("column_share");
  options.sample_size = residual == "none" ? 0 : parameters.integer("sample_size");
  options.sampling = sampling_kind(parameters.text("sampling"));
  options.count_collisions = parameters.text("collisions") == "count";
  return options;
}

std::string check_sparse_options(const SparseOptions& options, const Parameters& parameters,
                                 int64_t key_count) {
  if (options.mask == MaskKind::file && !parameters.has("mask_path"))
    return "mask: file needs mask_path, the HDF5 file that holds the mask";
  if (options.banded_blocks &&
      (options.kmeans_buckets || options.centre_keys || options.query_blocks_by_bucket))
    return "blocks: banded goes with buckets: lsh or random, centre_keys: false and query_blocks: by_rank "
           "only; choose blocks: aligned";
  if (options.sample_size > key_count && options.residual != Residual::moments)
    return "sample_size must be at most the number of keys, " + std::to_string(key_count) + ", but is " +
           std::to_string(options.sample_size);
  if (parameters.has("residual") && parameters.text("residual") == "none" && options.mask == MaskKind::none)
    return "residual: none with mask: none computes nothing; choose another residual or mask";
  if (parameters.has("sample_size") && options.mask == MaskKind::none && options.sample_size == 0)
    return "sample_size must be at least 1 with mask: none, because else nothing is computed, but is 0";
  const bool has_runs = options.residual != Residual::sample && options.residual != Residual::moments;
  if (has_runs && !has_whole_blocks(options))
    return "residual: " + parameters.text("residual") +
           " needs mask: sort_lsh with blocks: aligned, or mask: none, because its runs of keys must lie in "
           "or "
           "out of a row's mask; but mask is " +
           parameters.text("mask") + " and blocks is " + parameters.text("blocks");
  return {};
}

void complete_diagnostics(const Plan& plan, const PlanningSeconds& seconds, Diagnostics& diagnostics) {
  const auto add = [&](Stage stage, double spent) {
    if (spent > 0) diagnostics.stage_seconds[stage_name(stage)] += spent;
  };
  add(Stage::hash, seconds.hash);
  add(Stage::sort, seconds.sort);
  add(Stage::draw, seconds.draw);
  diagnostics.collisions = count_excluded(plan);
  diagnostics.clipped_share = diagnostics.floored_share = std::numeric_limits<double>::quiet_NaN();
}

}  // namespace hyperattn
