// The primitive sort_by_bucket on the card. The sorted order stays there; only the ranks that are asked for
// come back.
#include <algorithm>
#include <bit>
#include <map>
#include <mutex>
#include <vector>

#include "algorithms/engines/cuda/device_problem.h"
#include "algorithms/engines/cuda/sort.h"
#include "algorithms/primitives/sort_lsh.h"
#include "core/timing.h"

namespace hyperattn::cuda {
namespace {

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
      if (request.asked_rows != nullptr && !request.want_ranks)
        for (const int32_t row : *request.asked_rows)
          asked.push_back({static_cast<int32_t>(parts.size()), row});
      parts.push_back({rows, request.rows.rows, query_row >= 0 ? query_row : key_row, place->second,
                       request.first_row, static_cast<int32_t>(blocks), query_row >= 0 ? 0 : 1});
      rows += request.rows.rows;
      blocks += (request.rows.rows + kHashRows - 1) / kHashRows;
    }
  }

  /// Whether any part is of keys (1) or of queries (0).
  [[nodiscard]] bool reads(int32_t of_keys) const {
    return std::any_of(parts.begin(), parts.end(),
                       [&](const SortPart& part) { return part.of_keys == of_keys; });
  }

  bool possible = false;
  int64_t rows = 0;
  int64_t blocks = 0;
  std::vector<SortPart> parts;
  std::vector<float> directions;
  std::vector<AskedRow> asked;
};

/// But for what lies on the card.
HashArguments hash_arguments(const AttentionProblem& shapes, const SortLayout& layout, int bits,
                             BucketOrder order) {
  HashArguments arguments;
  arguments.part_count = static_cast<int32_t>(layout.parts.size());
  arguments.block_count = static_cast<int32_t>(layout.blocks);
  arguments.width = static_cast<int32_t>(shapes.head_dim());
  arguments.stride = static_cast<int32_t>(padded_width(shapes.head_dim()));
  arguments.bits = bits;
  arguments.gray = order == BucketOrder::gray ? 1 : 0;
  return arguments;
}

/// The orders of all requests, one after the other.
class SortedOrders {
 public:
  SortedOrders(void* stream, int64_t rows) : stream_(stream), rows_(rows, "sorted rows") {}

  [[nodiscard]] const DeviceArray<int32_t>& rows() const { return rows_; }
  [[nodiscard]] const std::vector<int32_t>& on_host() const {
    std::call_once(copied_, [&] {
      const StreamScope scope(stream_);
      host_.resize(static_cast<size_t>(rows_.size()));
      rows_.download(host_.data());
    });
    return host_;
  }

 private:
  void* stream_;
  DeviceArray<int32_t> rows_;
  mutable std::once_flag copied_;
  mutable std::vector<int32_t> host_;
};

/// One request's part of them.
class SortedOrder final : public RemoteRows {
 public:
  SortedOrder(std::shared_ptr<const SortedOrders> all, int64_t begin, int64_t count)
      : all_(std::move(all)), begin_(begin), count_(count) {}

  [[nodiscard]] int64_t count() const override { return count_; }
  [[nodiscard]] const int32_t* on_device() const override { return all_->rows().data() + begin_; }
  [[nodiscard]] const std::vector<int32_t>& on_host() const override {
    std::call_once(copied_, [&] {
      const auto first = all_->on_host().begin() + begin_;
      host_.assign(first, first + count_);
    });
    return host_;
  }

 private:
  std::shared_ptr<const SortedOrders> all_;
  int64_t begin_;
  int64_t count_;
  mutable std::once_flag copied_;
  mutable std::vector<int32_t> host_;
};

std::vector<int32_t> ranks_of(const SortRequest& request, const std::vector<int32_t>& order) {
  std::vector<int32_t> ranks(order.size());
  for (size_t rank = 0; rank < order.size(); ++rank)
    ranks[static_cast<size_t>(order[rank] - request.first_row)] = static_cast<int32_t>(rank);
  return ranks;
}

}  // namespace

std::vector<SortedRows> DeviceProblem::sort_by_bucket(const std::vector<SortRequest>& requests,
                                                      int64_t bucket_count, BucketOrder order,
                                                      SortSeconds* seconds) const {
  const int bits = hash_bits(bucket_count);
  const StreamScope scope(stream_);
  Stopwatch watch;
  const SortLayout layout(shapes(), requests, bits);
  if (!layout.possible) return BoundProblem::sort_by_bucket(requests, bucket_count, order, seconds);
  const double laying_out = watch.seconds();
  const std::lock_guard<std::mutex> lock(one_call());
  HashArguments arguments = hash_arguments(shapes(), layout, bits, order);
  arguments.query = layout.reads(0) ? query_.rounded() : nullptr;
  arguments.key = layout.reads(1) ? key_.rounded() : nullptr;
  watch.restart();
  Device& device = Device::current();
  const DeviceArray<SortPart> parts(layout.parts, "rows to sort");
  const DeviceArray<float> directions(layout.directions, "hash directions");
  const DeviceArray<uint32_t> keys(2 * layout.rows, "rows to sort");
  const DeviceArray<int32_t> values(layout.rows, "rows to sort");
  const auto sorted = std::make_shared<const SortedOrders>(stream_, layout.rows);
  arguments.parts = parts.data();
  arguments.directions = directions.data();
  arguments.keys = keys.data();
  arguments.values = values.data();
  const int key_bits = bits + std::bit_width(layout.parts.size());
  size_t scratch_bytes = 0;
  const auto sort = [&](void* scratch) {
    check(sort_pairs(scratch, scratch_bytes, keys.data(), keys.data() + layout.rows, values.data(),
                     sorted->rows().data(), layout.rows, key_bits < 32 ? key_bits : 32, device.stream()),
          "sorting");
  };
  sort(nullptr);
  const DeviceArray<unsigned char> scratch(static_cast<int64_t>(scratch_bytes), "room to sort in");
  const DeviceArray<AskedRow> asked(layout.asked, "asked ranks");
  const DeviceArray<int32_t> asked_ranks(asked.size(), "asked ranks");
  DeviceTimer hashing(device);
  hashing.start();
  check(launch_hash(precision_, arguments, device.stream()), "hashing");
  hashing.stop();
  sort(scratch.data());
  check(launch_ranks({parts.data(), asked.data(), asked.size(), keys.data(), keys.data() + layout.rows,
                      sorted->rows().data(), asked_ranks.data()},
                     device.stream()),
        "looking up ranks");
  std::vector<int32_t> ranks(layout.asked.size());
  asked_ranks.download(ranks.data());
  std::vector<SortedRows> results(requests.size());
  auto next = ranks.begin();
  for (size_t r = 0; r < requests.size(); ++r) {
    const SortPart& part = layout.parts[r];
    const auto own = std::make_shared<const SortedOrder>(sorted, part.begin, part.count);
    results[r].remote = own;
    if (requests[r].want_ranks) {
      results[r].ranks = ranks_of(requests[r], own->on_host());
    } else if (requests[r].asked_rows != nullptr) {
      const auto count = static_cast<int64_t>(requests[r].asked_rows->size());
      results[r].asked_ranks.assign(next, next + count);
      next += count;
    }
  }
  if (seconds != nullptr) {
    const double hashed = hashing.seconds();
    seconds->hash += hashed;
    seconds->sort += std::max(watch.seconds() + laying_out - hashed, 0.0);
  }
  return results;
}

std::vector<uint32_t> DeviceProblem::bucket_codes(MatrixView<const float> rows,
                                                  const HashDirections& directions, BucketOrder order,
                                                  bool centre) const {
  const SortLayout layout(shapes(), {{rows, 0, &directions, nullptr, 0, false, nullptr}}, directions.bits());
  if (centre || !layout.possible) return BoundProblem::bucket_codes(rows, directions, order, centre);
  const StreamScope scope(stream_);
  const std::lock_guard<std::mutex> lock(one_call());
  Device& device = Device::current();
  const DeviceArray<SortPart> parts(layout.parts, "rows to hash");
  const DeviceArray<float> packed(layout.directions, "hash directions");
  const DeviceArray<uint32_t> codes(layout.rows, "rows to hash");
  const DeviceArray<int32_t> values(layout.rows, "rows to hash");
  HashArguments arguments = hash_arguments(shapes(), layout, directions.bits(), order);
  arguments.query = layout.reads(0) ? query_.rounded() : nullptr;
  arguments.key = layout.reads(1) ? key_.rounded() : nullptr;
  arguments.parts = parts.data();
  arguments.directions = packed.data();
  arguments.keys = codes.data();
  arguments.values = values.data();
  check(launch_hash(precision_, arguments, device.stream()), "hashing");
  std::vector<uint32_t> host(static_cast<size_t>(layout.rows));
  codes.download(host.data());
  return host;
}

}  // namespace hyperattn::cuda
