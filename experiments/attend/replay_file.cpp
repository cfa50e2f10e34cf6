#include "experiments/attend/replay_file.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "core/error.h"

namespace hyperattn {
namespace {

constexpr int64_t kMaxProjections = 30;
const std::string kSamplesPrefix = "samples_rows_";

[[noreturn]] void misfit(const Hdf5File& file, const std::string& dataset, const std::string& problem) {
  fail_input(fmt::format("{} of '{}' {}", dataset, file.path(), problem));
}

DenseMatrix<double> read_projections(const Hdf5File& file, int64_t head_dim, int64_t bucket_count) {
  const std::string dataset = "/replay/projections";
  const DoubleArray array = file.read_doubles(dataset);
  const int64_t bits = array.shape.size() == 2 ? array.shape[1] : -1;
  if (bits < 0 || bits > kMaxProjections || array.shape[0] != head_dim ||
      (int64_t{1} << bits) != bucket_count)
    misfit(file, dataset,
           fmt::format("must have shape (head_dim, log2 of bucket_count) with head_dim {} and bucket_count "
                       "{}, but has shape {}",
                       head_dim, bucket_count, shape_text(array.shape)));
  if (!std::all_of(array.values.begin(), array.values.end(), [](double x) { return std::isfinite(x); }))
    misfit(file, dataset, "holds a non-finite value");
  DenseMatrix<double> projections(head_dim, bits);
  std::copy(array.values.begin(), array.values.end(), projections.values.begin());
  return projections;
}

/// `row_limit`: sampled rows must be below it.
Replay::Samples read_samples(const Hdf5File& file, const std::string& dataset, const TensorShape& query,
                             int64_t sample_size, bool causal, int64_t row_limit) {
  const IntegerArray array = file.read_integers(dataset);
  const std::vector<int64_t>& shape = array.shape;
  if (shape.size() != 4 || shape[0] != query.batch || shape[1] != query.heads || shape[3] != sample_size ||
      shape[2] < 1 || (!causal && shape[2] != 1))
    misfit(file, dataset,
           fmt::format("must have shape ({}, {}, {}, sample_size {}), but has shape {}", query.batch,
                       query.heads, causal ? "nodes" : "1", sample_size, shape_text(shape)));
  Replay::Samples samples;
  samples.nodes = shape[2];
  samples.count = shape[3];
  samples.rows.reserve(array.values.size());
  for (int64_t row : array.values) {
    if (row < 0 || row >= row_limit)
      misfit(file, dataset,
             fmt::format("holds row {}, but the node's key rows are 0 to {}", row, row_limit - 1));
    samples.rows.push_back(static_cast<int32_t>(row));
  }
  return samples;
}

/// N of "samples_rows_N", or −1.
int64_t node_rows(const std::string& name) {
  if (name.compare(0, kSamplesPrefix.size(), kSamplesPrefix) != 0) return -1;
  int64_t rows = -1;
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + kSamplesPrefix.size(), end, rows);
  return parsed.ec == std::errc() && parsed.ptr == end && rows > 0 ? rows : -1;
}

// The parameters of methods that the file speaks of. Its layout is fixed, since other programs write it
// (docs/attend.md), so these names are part of a format and stay when a method changes.
constexpr const char* kBucketCount = "bucket_count";
constexpr const char* kSampleSize = "sample_size";
constexpr const char* kBucketOrder = "bucket_order";
constexpr std::array<const char*, 3> kIntegers = {"block_size", kSampleSize, "min_seq_len"};

int64_t bucket_count(const Hdf5File& file, const std::string& what, int64_t projections) {
  if (projections < 0 || projections > kMaxProjections)
    fail_input(fmt::format("{} of '{}' must be between 0 and {}, but is {}", what, file.path(),
                           kMaxProjections, projections));
  return int64_t{1} << projections;
}

/// What the shapes of /replay say: the number of buckets, and of samples (0 where there are none).
std::map<std::string, ParameterValue> sizes_of_datasets(const Hdf5File& file) {
  std::map<std::string, ParameterValue> values;
  if (!file.exists("/replay")) return values;
  values[kSampleSize] = int64_t{0};
  for (const std::string& name : file.children("/replay")) {
    const std::vector<int64_t> shape = file.info("/replay/" + name).shape;
    if (node_rows(name) > 0 && !shape.empty()) values[kSampleSize] = shape.back();
    if (name == "projections" && shape.size() == 2)
      values[kBucketCount] =
          bucket_count(file, "the number of directions in /replay/projections", shape.back());
  }
  return values;
}

}  // namespace

std::map<std::string, ParameterValue> replay_parameters(const Hdf5File& file) {
  std::map<std::string, ParameterValue> values = sizes_of_datasets(file);
  for (const char* name : kIntegers)
    if (file.has_attribute("/", name)) values[name] = file.integer_attribute("/", name);
  if (file.has_attribute("/", "num_projections"))
    values[kBucketCount] =
        bucket_count(file, "attribute num_projections", file.integer_attribute("/", "num_projections"));
  if (file.has_attribute("/", "causal")) values["causal"] = file.boolean_attribute("/", "causal");
  if (file.has_attribute("/", "scale")) values["scale"] = file.number_attribute("/", "scale");
  if (file.has_attribute("/", kBucketOrder)) values[kBucketOrder] = file.text_attribute("/", kBucketOrder);
  return values;
}

Replay read_replay(const Hdf5File& file, const TensorShape& query, const TensorShape& key, bool causal,
                   const Parameters& parameters) {
  if (!file.exists("/replay")) fail_input(fmt::format("'{}' has no /replay", file.path()));
  Replay replay;
  if (parameters.has(kBucketCount))
    replay.projections = read_projections(file, query.dim, parameters.integer(kBucketCount));
  const int64_t sample_size = parameters.has(kSampleSize) ? parameters.integer(kSampleSize) : 0;
  if (sample_size == 0) return replay;
  for (const std::string& name : file.children("/replay")) {
    const int64_t rows = node_rows(name);
    if (rows < 0) continue;
    // A causal node has at most as many keys as positions in its second half, of which fewer queries leave
    // some.
    const int64_t row_limit = causal && query.rows >= key.rows ? std::min(rows, key.rows) : key.rows;
    replay.samples[rows] = read_samples(file, "/replay/" + name, query, sample_size, causal, row_limit);
  }
  if (!causal && replay.samples.count(query.rows) == 0)
    fail_input(fmt::format("'{}' has no /replay/{}{}, which sample_size {} needs", file.path(),
                           kSamplesPrefix, query.rows, sample_size));
  return replay;
}

}  // namespace hyperattn
