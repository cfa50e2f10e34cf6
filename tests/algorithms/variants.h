// Methods with settings that tests go through: one for each method, mask, residual, estimator and option that
// plans otherwise.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {

struct Variant {
  std::string backend;
  Settings settings;
};

inline std::string to_string(const Variant& variant) {
  std::string text = variant.backend;
  for (const auto& [name, value] : variant.settings) text += " " + name + "=" + hyperattn::to_string(value);
  return text;
}

/// Sizes at which all parts of a method have something to do.
struct VariantSizes {
  int64_t block_size = 8;
  int64_t min_seq_len = 16;
  int64_t sample_size = 6;
  int64_t cache_size = 10;
  IntegerList levels = {16, 4};
  IntegerList beams = {2, 3};
};

inline std::vector<Variant> variants(const VariantSizes& sizes = {}) {
  using Text = std::string;
  std::vector<Variant> all = {{"exact", {}}, {"dense", {}}, {"reference", {}}};
  const std::pair<std::string, ParameterValue> leaves = {"min_seq_len", sizes.min_seq_len};
  const std::pair<std::string, ParameterValue> sinks = {"sink_keys", int64_t{5}};
  const std::pair<std::string, ParameterValue> window = {"window", int64_t{6}};
  const auto add = [&](const std::string& backend, const Settings& own, const Settings& more) {
    Settings settings = own;
    settings.insert(settings.end(), more.begin(), more.end());
    all.push_back({backend, std::move(settings)});
  };
  const Settings blocks = {{"block_size", sizes.block_size}, {"bucket_count", int64_t{8}}, leaves};
  const auto lsh = [&](const Settings& more) { add("lsh", blocks, more); };
  const auto hyper = [&](const Settings& more) {
    add("hyper", blocks, more);
    all.back().settings.emplace_back("sample_size", sizes.sample_size);
  };
  const auto tree = [&](const Settings& more) {
    add("tree", {{"levels", sizes.levels}, {"beams", sizes.beams}, leaves}, more);
  };
  const auto coreset = [&](const Settings& more) {
    add("coreset", {leaves, {"coreset_size", sizes.sample_size}}, more);
  };
  const auto compress = [&](const Settings& more) {
    add("thinned", {leaves, {"compress_g", int64_t{0}}}, more);
  };
  const auto stream = [&](const Settings& more) {
    add("thinned",
        {{"streaming", true}, {"stream_block", sizes.block_size}, {"cache_size", sizes.cache_size}}, more);
  };

  lsh({});
  lsh({{"blocks", Text("banded")}});
  lsh({{"mask", Text("band")}, {"band_width", int64_t{5}}});
  for (const Residual* residual : all_residuals()) hyper({{"residual", residual->name()}});
  hyper({{"mask", Text("none")}, {"sampling", Text("value_norm")}});
  hyper({{"buckets", Text("kmeans")},
         {"query_blocks", Text("by_bucket")},
         {"residual", Text("calibrated_centroids")}});
  hyper({{"estimator", Text("theory")}});
  for (const char* tail : {"none", "plain", "corrected"}) tree({{"tail", Text(tail)}});
  lsh({sinks});
  lsh({window, {"sink_keys", int64_t{3}}});
  lsh({{"hash_rounds", int64_t{3}}});
  hyper({window, {"hash_rounds", int64_t{2}}});
  hyper({window, {"residual", Text("clt_sample")}});
  hyper({window, {"hash_rounds", int64_t{2}}, {"residual", Text("thinned")}});
  for (const char* kind : {"leverage", "kmeans_distance", "kmeans_centre"})
    hyper({{"prescore", Text(kind)},
           {"prescore_keys", 2 * sizes.sample_size},
           {"residual", Text(kind == Text("leverage") ? "centroids" : "sample")}});
  tree({sinks});
  hyper({sinks});
  hyper({{"sink_keys", int64_t{20}}, {"residual", Text("centroids")}});
  for (const char* pivots : {"rpcholesky", "uniform", "per_bin"})
    coreset({{"bins", int64_t{2}}, {"pivots", Text(pivots)}});
  coreset({sinks});
  compress({});
  compress({sinks});
  stream({sinks});
  stream({});
  return all;
}

}  // namespace hyperattn::testing
