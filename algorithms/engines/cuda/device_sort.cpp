// The primitive sort_by_bucket on the card.
#include <bit>
#include <map>
#include <vector>

#include "algorithms/engines/cuda/device_problem.h"
#include "algorithms/engines/cuda/sort.h"
#include "algorithms/primitives/sort_lsh.h"

namespace hyperattn::cuda {
namespace {

/// Row number of a view's first row in a tensor, −1 if the view is of something else.
int64_t row_in(TensorView<const float> tensor, MatrixView<const float> rows) {
  const int64_t width = tensor.shape.dim;
  if (rows.cols != width || rows.stride != width || rows.data < tensor.data) return -1;
  const int64_t offset = rows.data - tensor.data;
  if (offset % width != 0 || offset + rows.rows * width > tensor.shape.size()) return -1;
  return offset / width;
}

/// What is sorted, laid out for the card; `possible` is false where the host has to do it.
struct SortLayout {
  SortLayout(const AttentionProblem& problem, const std::vector<SortRequest>& requests, int bits) {
    possible = bits > 0 && static_cast<uint64_t>(requests.size()) <= uint64_t{1} << (32 - bits);
    std::map<const HashDirections*, int64_t> known;
    for (const SortRequest& request : requests) {
      const int64_t query_row = row_in(problem.query, request.rows);
      const int64_t key_row = row_in(problem.key, request.rows);
      const HashDirections* hash = request.directions;
      possible = possible && hash != nullptr && !hash->packed().empty() && hash->bits() == bits &&
                 (query_row >= 0 || key_row >= 0);
      if (!possible) return;
      const auto [place, is_new] = known.try_emplace(hash, static_cast<int64_t>(directions.size()));
      if (is_new) directions.insert(directions.end(), hash->packed().begin(), hash->packed().end());
      parts.push_back({rows, request.rows.rows, query_row >= 0 ? query_row : key_row, place->second,
                       query_row >= 0 ? 0 : 1});
      rows += request.rows.rows;
    }
  }

  bool possible = false;
  int64_t rows = 0;
  std::vector<SortPart> parts;
  std::vector<float> directions;
};

SortedRows sorted_rows(const SortRequest& request, const int32_t* order) {
  SortedRows result;
  const auto count = static_cast<size_t>(request.rows.rows);
  result.order.resize(count);
  if (request.want_ranks) result.ranks.resize(count);
  for (size_t rank = 0; rank < count; ++rank) {
    result.order[rank] = request.first_row + order[rank];
    if (request.want_ranks) result.ranks[static_cast<size_t>(order[rank])] = static_cast<int32_t>(rank);
  }
  return result;
}

}  // namespace

std::vector<SortedRows> DeviceProblem::sort_by_bucket(const std::vector<SortRequest>& requests,
                                                      int64_t bucket_count, BucketOrder order,
                                                      SortSeconds* seconds) const {
  const int bits = hash_bits(bucket_count);
  const SortLayout layout(problem(), requests, bits);
  if (!layout.possible) return BoundProblem::sort_by_bucket(requests, bucket_count, order, seconds);
  const std::lock_guard<std::mutex> lock(one_call());
  Device& device = Device::current();
  const DeviceArray<SortPart> parts(layout.parts, "rows to sort");
  const DeviceArray<float> directions(layout.directions, "hash directions");
  const DeviceArray<uint32_t> keys(2 * layout.rows, "rows to sort");
  const DeviceArray<int32_t> values(2 * layout.rows, "rows to sort");
  HashArguments arguments;
  arguments.parts = parts.data();
  arguments.part_count = static_cast<int32_t>(layout.parts.size());
  arguments.rows = layout.rows;
  arguments.query = query_.wide();
  arguments.key = key_.wide();
  arguments.directions = directions.data();
  arguments.width = static_cast<int32_t>(problem().head_dim());
  arguments.stride = static_cast<int32_t>(padded_width(problem().head_dim()));
  arguments.bits = bits;
  arguments.gray = order == BucketOrder::gray ? 1 : 0;
  arguments.keys = keys.data();
  arguments.values = values.data();
  const int key_bits = bits + std::bit_width(layout.parts.size());
  size_t scratch_bytes = 0;
  const auto sort = [&](void* scratch) {
    check(
        sort_pairs(scratch, scratch_bytes, keys.data(), keys.data() + layout.rows, values.data(),
                   values.data() + layout.rows, layout.rows, key_bits < 32 ? key_bits : 32, device.stream()),
        "sorting");
  };
  sort(nullptr);
  const DeviceArray<unsigned char> scratch(static_cast<int64_t>(scratch_bytes), "room to sort in");
  DeviceTimer hashing(device);
  DeviceTimer sorting(device);
  hashing.start();
  check(launch_hash(arguments, device.stream()), "hashing");
  hashing.stop();
  sorting.start();
  sort(scratch.data());
  sorting.stop();
  std::vector<int32_t> sorted(static_cast<size_t>(layout.rows));
  values.download_part(sorted.data(), layout.rows, layout.rows);
  std::vector<SortedRows> results;
  for (size_t r = 0; r < requests.size(); ++r)
    results.push_back(sorted_rows(requests[r], sorted.data() + layout.parts[r].begin));
  if (seconds != nullptr) {
    seconds->hash += hashing.seconds();
    seconds->sort += sorting.seconds();
  }
  return results;
}

}  // namespace hyperattn::cuda
