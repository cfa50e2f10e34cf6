// The primitive sort_by_bucket on the card. The sorted order stays there, and the ranks that are asked for,
// until the host wants to read them.
#include <algorithm>
#include <bit>
#include <deque>
#include <mutex>
#include <vector>

#include "algorithms/engines/cuda/device_problem.h"
#include "algorithms/engines/cuda/sort.h"
#include "algorithms/primitives/sort_lsh.h"
#include "core/parallel.h"
#include "core/timing.h"

namespace hyperattn::cuda {
namespace {

/// A hash function, and where its directions begin among all: requests of one function stand side by side.
struct HashFunction {
  const HashDirections* hash;
  int64_t first;
};

/// What is sorted, laid out for the card; `possible` is false where the host has to do it.
struct SortLayout {
  SortLayout(const AttentionProblem& problem, const std::vector<SortRequest>& requests, int bits) {
    possible = bits > 0 && static_cast<uint64_t>(requests.size()) <= uint64_t{1} << (32 - bits);
    std::vector<HashFunction> functions;
    int64_t direction_count = 0;
    int64_t asked_count = 0;
    parts.reserve(requests.size());
    first_asked.reserve(requests.size());
    for (const SortRequest& request : requests) {
      const int64_t query_row = row_in(problem.query, request.rows);
      const int64_t key_row = row_in(problem.key, request.rows);
      const HashDirections* hash = request.directions;
      possible = possible && hash != nullptr && !hash->packed().empty() && hash->bits() == bits &&
                 (query_row >= 0 || key_row >= 0);
      if (!possible) return;
      if (functions.empty() || functions.back().hash != hash) {
        functions.push_back({hash, direction_count});
        direction_count += hash->packed().size();
      }
      first_asked.push_back(asked_count);
      if (const int64_t own = size_of_asked(request); own > 0) {
        asked_parts.push_back({asked_count, own, request.first_row});
        most_asked = std::max(most_asked, own);
        asked_count += own;
      }
      parts.push_back({rows, request.rows.rows, query_row >= 0 ? query_row : key_row, functions.back().first,
                       request.first_row, static_cast<int32_t>(blocks), query_row >= 0 ? 0 : 1});
      rows += request.rows.rows;
      blocks += (request.rows.rows + kHashRows - 1) / kHashRows;
    }
    directions = Buffer<float>(direction_count);
    parallel_for(static_cast<int64_t>(functions.size()), [&](int64_t f, int) {
      const auto& [hash, first] = functions[static_cast<size_t>(f)];
      std::copy(hash->packed().begin(), hash->packed().end(), directions.data() + first);
    });
    asked = Buffer<AskedRow>(asked_count);
    parallel_for(static_cast<int64_t>(requests.size()), [&](int64_t r, int) {
      const SortRequest& request = requests[static_cast<size_t>(r)];
      AskedRow* next = asked.data() + first_asked[static_cast<size_t>(r)];
      for (int64_t i = 0; i < size_of_asked(request); ++i)
        next[i] = {static_cast<int32_t>(r), (*request.asked_rows)[static_cast<size_t>(i)]};
    });
  }

  /// Whether any part is of keys (1) or of queries (0).
  [[nodiscard]] bool reads(int32_t of_keys) const {
    return std::any_of(parts.begin(), parts.end(),
                       [&](const SortPart& part) { return part.of_keys == of_keys; });
  }

  static int64_t size_of_asked(const SortRequest& request) {
    if (request.asked_rows == nullptr || request.want_ranks) return 0;
    return static_cast<int64_t>(request.asked_rows->size());
  }

  bool possible = false;
  int64_t rows = 0;
  int64_t blocks = 0;
  std::vector<SortPart> parts;
  Buffer<float> directions;
  Buffer<AskedRow> asked;
  std::vector<int64_t> first_asked;  // of every request
  std::vector<AskedPart> asked_parts;
  int64_t most_asked = 0;
};

/// Its parts and directions on the card.
class UploadedLayout {
 public:
  explicit UploadedLayout(const SortLayout& layout)
      : parts_(bundle_.add(layout.parts)), directions_(bundle_.add(layout.directions)) {
    bundle_.upload("rows to hash");
  }
  [[nodiscard]] const SortPart* parts() const { return bundle_.at<SortPart>(parts_); }
  [[nodiscard]] const float* directions() const { return bundle_.at<float>(directions_); }

 private:
  DeviceBundle bundle_;
  int64_t parts_;
  int64_t directions_;
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

/// Numbers of all requests, one after the other.
class AllNumbers {
 public:
  AllNumbers(void* stream, int64_t count, const char* what) : stream_(stream), numbers_(count, what) {}

  [[nodiscard]] const DeviceArray<int32_t>& numbers() const { return numbers_; }
  [[nodiscard]] const std::vector<int32_t>& on_host() const {
    std::call_once(copied_, [&] {
      const StreamScope scope(stream_);
      host_.resize(static_cast<size_t>(numbers_.size()));
      numbers_.download(host_.data());
    });
    return host_;
  }

 private:
  void* stream_;
  DeviceArray<int32_t> numbers_;
  mutable std::once_flag copied_;
  mutable std::vector<int32_t> host_;
};

/// One request's part of them.
class PartOfNumbers final : public RemoteNumbers {
 public:
  PartOfNumbers(const AllNumbers& all, int64_t begin, int64_t count)
      : all_(all), begin_(begin), count_(count) {}

  [[nodiscard]] int64_t count() const override { return count_; }
  [[nodiscard]] const int32_t* on_device() const override { return all_.numbers().data() + begin_; }
  [[nodiscard]] const std::vector<int32_t>& on_host() const override {
    std::call_once(copied_, [&] {
      const auto first = all_.on_host().begin() + begin_;
      host_.assign(first, first + count_);
    });
    return host_;
  }

 private:
  const AllNumbers& all_;
  int64_t begin_;
  int64_t count_;
  mutable std::once_flag copied_;
  mutable std::vector<int32_t> host_;
};

/// Numbers of all requests and each one's part, in one piece of memory that lives as long as any part does.
class NumbersByPart {
 public:
  NumbersByPart(void* stream, int64_t count, const char* what)
      : own_(std::make_shared<Own>(stream, count, what)) {}

  [[nodiscard]] int32_t* data() const { return own_->all.numbers().data(); }
  void add_part(int64_t begin, int64_t count) { own_->parts.emplace_back(own_->all, begin, count); }
  [[nodiscard]] std::shared_ptr<const RemoteNumbers> part(size_t number) const {
    return {own_, &own_->parts[number]};
  }

 private:
  struct Own {
    Own(void* stream, int64_t count, const char* what) : all(stream, count, what) {}
    AllNumbers all;
    std::deque<PartOfNumbers> parts;
  };
  std::shared_ptr<Own> own_;
};

/// The ranks of all rows that were asked for.
class AllAsked {
 public:
  AllAsked(void* stream, const SortLayout& layout)
      : ranks_(stream, layout.asked.size(), kWhat),
        sorted_ranks_(stream, layout.asked.size(), kWhat),
        sorted_rows_(stream, layout.asked.size(), kWhat) {
    for (const AskedPart& part : layout.asked_parts)
      for (NumbersByPart* numbers : {&ranks_, &sorted_ranks_, &sorted_rows_})
        numbers->add_part(part.begin, part.count);
  }

  /// From sorted pairs; the asked rows' parts are all those of the layout.
  void find(const SortLayout& layout, RankArguments arguments, void* stream) const {
    DeviceBundle bundle;
    const int64_t asked = bundle.add(layout.asked);
    const int64_t parts = bundle.add(layout.asked_parts);
    bundle.upload(kWhat);
    arguments.asked = bundle.at<AskedRow>(asked);
    arguments.count = layout.asked.size();
    arguments.ranks = ranks_.data();
    check(launch_ranks(arguments, stream), "looking up ranks");
    AskedOrderArguments order;
    order.parts = bundle.at<AskedPart>(parts);
    order.part_count = static_cast<int64_t>(layout.asked_parts.size());
    order.most = layout.most_asked;
    order.asked = arguments.asked;
    order.ranks = ranks_.data();
    order.sorted_ranks = sorted_ranks_.data();
    order.sorted_rows = sorted_rows_.data();
    check(launch_asked_order(order, stream), "sorting ranks");
  }

  [[nodiscard]] RemoteRanks part(size_t number) const {
    return {ranks_.part(number), sorted_ranks_.part(number), sorted_rows_.part(number)};
  }

 private:
  static constexpr const char* kWhat = "asked ranks";
  NumbersByPart ranks_;
  NumbersByPart sorted_ranks_;
  NumbersByPart sorted_rows_;
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
  const UploadedLayout uploaded(layout);
  const DeviceArray<uint32_t> keys(2 * layout.rows, "rows to sort");
  const DeviceArray<int32_t> values(layout.rows, "rows to sort");
  NumbersByPart sorted(stream_, layout.rows, "sorted rows");
  for (const SortPart& part : layout.parts) sorted.add_part(part.begin, part.count);
  arguments.parts = uploaded.parts();
  arguments.directions = uploaded.directions();
  arguments.keys = keys.data();
  arguments.values = values.data();
  const int key_bits = bits + std::bit_width(layout.parts.size());
  size_t scratch_bytes = 0;
  const auto sort = [&](void* scratch) {
    check(sort_pairs(scratch, scratch_bytes, keys.data(), keys.data() + layout.rows, values.data(),
                     sorted.data(), layout.rows, key_bits < 32 ? key_bits : 32, device.stream()),
          "sorting");
  };
  sort(nullptr);
  const DeviceArray<unsigned char> scratch(static_cast<int64_t>(scratch_bytes), "room to sort in");
  if (hashing_ == nullptr) hashing_ = std::make_unique<DeviceTimer>(device);
  hashing_->start();
  check(launch_hash(precision_, arguments, device.stream()), "hashing");
  hashing_->stop();
  sort(scratch.data());
  const AllAsked asked(stream_, layout);
  RankArguments ranks;
  ranks.parts = uploaded.parts();
  ranks.keys = keys.data();
  ranks.sorted_keys = keys.data() + layout.rows;
  ranks.sorted_values = sorted.data();
  asked.find(layout, ranks, device.stream());
  std::vector<SortedRows> results(requests.size());
  size_t next_asked = 0;
  for (size_t r = 0; r < requests.size(); ++r) {
    results[r].remote = sorted.part(r);
    if (SortLayout::size_of_asked(requests[r]) > 0) results[r].asked = asked.part(next_asked++);
  }
  parallel_for(static_cast<int64_t>(requests.size()), [&](int64_t i, int) {
    const auto r = static_cast<size_t>(i);
    if (requests[r].want_ranks) results[r].ranks = ranks_of(requests[r], results[r].remote->on_host());
  });
  if (seconds == nullptr) return results;
  const double hashed = expected_ ? 0 : take_hash_seconds();  // a forward call waits in any case
  seconds->hash += hashed;
  seconds->sort += std::max(watch.seconds() + laying_out - hashed, 0.0);
  return results;
}

double DeviceProblem::take_hash_seconds() const {
  const std::unique_ptr<DeviceTimer> hashing = std::move(hashing_);
  return hashing != nullptr ? hashing->seconds() : 0;
}

std::vector<uint32_t> DeviceProblem::bucket_codes(MatrixView<const float> rows,
                                                  const HashDirections& directions, BucketOrder order,
                                                  bool centre) const {
  const SortLayout layout(shapes(), {{rows, 0, &directions, nullptr, 0, false, nullptr}}, directions.bits());
  if (centre || !layout.possible) return BoundProblem::bucket_codes(rows, directions, order, centre);
  const StreamScope scope(stream_);
  const std::lock_guard<std::mutex> lock(one_call());
  Device& device = Device::current();
  const UploadedLayout uploaded(layout);
  const DeviceArray<uint32_t> codes(layout.rows, "rows to hash");
  const DeviceArray<int32_t> values(layout.rows, "rows to hash");
  HashArguments arguments = hash_arguments(shapes(), layout, directions.bits(), order);
  arguments.query = layout.reads(0) ? query_.rounded() : nullptr;
  arguments.key = layout.reads(1) ? key_.rounded() : nullptr;
  arguments.parts = uploaded.parts();
  arguments.directions = uploaded.directions();
  arguments.keys = codes.data();
  arguments.values = values.data();
  check(launch_hash(precision_, arguments, device.stream()), "hashing");
  std::vector<uint32_t> host(static_cast<size_t>(layout.rows));
  codes.download(host.data());
  return host;
}

}  // namespace hyperattn::cuda
