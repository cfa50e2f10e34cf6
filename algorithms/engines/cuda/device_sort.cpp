// The primitives hash_rows and sort_by_bucket on the card. The sorted order stays there, and the ranks that
// are asked for, until the host wants to read them.
#include <algorithm>
#include <bit>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "algorithms/engines/cuda/device_problem.h"
#include "algorithms/engines/cuda/hash_stretches.h"
#include "algorithms/engines/cuda/sort.h"
#include "algorithms/primitives/sort_lsh.h"
#include "core/parallel.h"
#include "core/timing.h"

namespace hyperattn::cuda {
namespace {

/// The buckets of the rows of many requests, on the card.
class DeviceBuckets final : public HashedRows {
 public:
  /// `begins`: where the numbers of each request's rows begin, and in the end how many there are.
  DeviceBuckets(int bits, std::vector<int64_t> begins)
      : bits_(bits),
        begins_(std::move(begins)),
        narrow_(bits <= kNarrowBits ? begins_.back() : 0, kWhat),
        wide_(bits <= kNarrowBits ? 0 : begins_.back(), kWhat) {}

  [[nodiscard]] int bits() const { return bits_; }
  [[nodiscard]] bool are_narrow() const { return bits_ <= kNarrowBits; }
  [[nodiscard]] int64_t begin(int64_t request) const { return begins_[static_cast<size_t>(request)]; }
  [[nodiscard]] BucketNumbers numbers() const { return {narrow_.data(), wide_.data()}; }
  /// All of the first request.
  [[nodiscard]] std::vector<uint32_t> downloaded(int64_t count) const {
    std::vector<uint32_t> all(static_cast<size_t>(count));
    if (!are_narrow()) {
      wide_.download_part(all.data(), 0, count);
      return all;
    }
    std::vector<uint8_t> bytes(all.size());
    narrow_.download_part(bytes.data(), 0, count);
    std::copy(bytes.begin(), bytes.end(), all.begin());
    return all;
  }

 private:
  static constexpr const char* kWhat = "buckets of rows";
  int bits_;
  std::vector<int64_t> begins_;
  DeviceArray<uint8_t> narrow_;
  DeviceArray<uint32_t> wide_;
};

/// What is hashed, laid out for the card. `possible` is false where the host has to do it.
struct HashLayout {
  HashLayout(const AttentionProblem& problem, const std::vector<SortRequest>& requests, int bits) {
    std::vector<HashedInterval> intervals[2];  // of queries, and of keys
    begins = {0};
    begins.reserve(requests.size() + 1);
    const HashDirections* last = nullptr;
    for (const SortRequest& request : requests) {
      const int64_t query_row = row_in(problem.query, request.rows);
      const int64_t first_row = query_row >= 0 ? query_row : row_in(problem.key, request.rows);
      const HashDirections* hash = request.directions;
      possible = bits > 0 && hash != nullptr && hash->source() && hash->bits() == bits && first_row >= 0;
      if (!possible) return;
      if (std::exchange(last, hash) != hash) {  // requests of one function stand side by side
        functions.push_back(*hash->source());
        direction_count += hash->packed_size();
      }
      intervals[query_row >= 0 ? 0 : 1].push_back(
          {first_row, first_row + request.rows.rows, {direction_count - hash->packed_size(), begins.back()}});
      begins.push_back(begins.back() + (request.rows.rows + kAlignment - 1) / kAlignment * kAlignment);
    }
    Stretches of[2];
    const double microseconds = 0.05 * static_cast<double>(requests.size());
    parallel_for(
        2,
        [&](int64_t tensor, int) { of[tensor] = Stretches(intervals[tensor], static_cast<int32_t>(tensor)); },
        pieces_worth_a_team(2, microseconds));
    reads_queries = !of[0].all.empty();
    reads_keys = !of[1].all.empty();
    stretches = std::move(of[0]);
    stretches.append(of[1]);
  }

  bool possible = false;
  std::vector<int64_t> begins;         ///< of each request's numbers, and in the end how many there are
  std::vector<StreamPlace> functions;  ///< what they are drawn from
  int64_t direction_count = 0;
  Stretches stretches;
  bool reads_queries = false;
  bool reads_keys = false;

 private:
  static constexpr int64_t kAlignment = 16;  // of a request's numbers
};

/// What is sorted, laid out for the card.
struct SortLayout {
  SortLayout(const std::vector<SortRequest>& requests, const DeviceBuckets& buckets) {
    int64_t asked_count = 0;
    parts.reserve(requests.size());
    for (size_t r = 0; r < requests.size(); ++r) {
      const SortRequest& request = requests[r];
      if (const int64_t own = size_of_asked(request); own > 0) {
        asked_parts.push_back({asked_count, own, static_cast<int32_t>(r)});
        most_asked = std::max(most_asked, own);
        asked_count += own;
      }
      const int64_t number = request.hashed != nullptr ? request.hashed_number : static_cast<int64_t>(r);
      parts.push_back(
          {rows, request.rows.rows, buckets.begin(number), request.first_row, static_cast<int32_t>(blocks)});
      rows += request.rows.rows;
      blocks += (request.rows.rows + kSortRows - 1) / kSortRows;
    }
    asked = Buffer<int32_t>(asked_count);
    for_small_pieces(asked_parts.size(), [&](size_t p) {
      const AskedPart& own = asked_parts[p];
      const std::vector<int32_t>& source = *requests[static_cast<size_t>(own.part)].asked_rows;
      std::copy(source.begin(), source.end(), asked.data() + own.begin);
    });
  }

  static int64_t size_of_asked(const SortRequest& request) {
    if (request.asked_rows == nullptr || request.want_ranks) return 0;
    return static_cast<int64_t>(request.asked_rows->size());
  }

  int64_t rows = 0;
  int64_t blocks = 0;
  std::vector<SortPart> parts;
  Buffer<int32_t> asked;
  std::vector<AskedPart> asked_parts;
  int64_t most_asked = 0;
};

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
      : all_(std::make_shared<const AllNumbers>(stream, count, what)) {}

  [[nodiscard]] int32_t* data() const { return all_->numbers().data(); }
  /// The parts of all that have a begin and a count.
  template <class Part>
  void set_parts(const std::vector<Part>& parts) {
    groups_.resize((parts.size() + kTogether - 1) / kTogether);
    for_small_pieces(groups_.size(), [&](size_t g) {
      groups_[g] = std::make_shared<Group>(Group{all_, {}});
      for (size_t i = g * kTogether; i < std::min(parts.size(), (g + 1) * kTogether); ++i)
        groups_[g]->parts.emplace_back(*all_, parts[i].begin, parts[i].count);
    });
  }
  [[nodiscard]] std::shared_ptr<const RemoteNumbers> part(size_t number) const {
    const std::shared_ptr<Group>& group = groups_[number / kTogether];
    return {group, &group->parts[number % kTogether]};
  }

 private:
  /// Parts that count together who has them: threads that take neighbours do not wait for each other then.
  static constexpr size_t kTogether = 16;
  struct Group {
    std::shared_ptr<const AllNumbers> all;
    std::deque<PartOfNumbers> parts;
  };
  std::shared_ptr<const AllNumbers> all_;
  std::vector<std::shared_ptr<Group>> groups_;
};

/// The ranks of all rows that were asked for.
class AllAsked {
 public:
  AllAsked(void* stream, const SortLayout& layout)
      : ranks_(stream, layout.asked.size(), kWhat),
        sorted_ranks_(stream, layout.asked.size(), kWhat),
        sorted_rows_(stream, layout.asked.size(), kWhat) {
    for (NumbersByPart* numbers : {&ranks_, &sorted_ranks_, &sorted_rows_})
      numbers->set_parts(layout.asked_parts);
  }

  /// `arguments` say what was sorted, and which rows are asked for.
  void find(AskedArguments arguments, void* stream) const {
    arguments.ranks = ranks_.data();
    arguments.sorted_ranks = sorted_ranks_.data();
    arguments.sorted_rows = sorted_rows_.data();
    check(launch_ranks(arguments, stream), "looking up ranks");
    check(launch_asked_order(arguments, stream), "sorting ranks");
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

/// By counting, where numbers are few beside rows.
bool sorts_by_counting(const SortLayout& layout, const DeviceBuckets& buckets) {
  return buckets.are_narrow() && layout.blocks << buckets.bits() <= 4 * layout.rows;
}

void sort_by_counting(const SortArguments& arguments, int32_t* sorted, void* stream) {
  const DeviceArray<int32_t> places(static_cast<int64_t>(arguments.block_count) << arguments.bits,
                                    "places of buckets");
  check(launch_counting_sort(arguments, places.data(), sorted, stream), "sorting");
}

void sort_as_pairs(const SortArguments& arguments, int64_t rows, int32_t* sorted, void* stream) {
  const DeviceArray<uint32_t> keys(2 * rows, "rows to sort");
  const DeviceArray<int32_t> values(rows, "rows to sort");
  check(launch_pairs(arguments, keys.data(), values.data(), stream), "rows to sort");
  const auto part_bits = static_cast<int>(std::bit_width(static_cast<uint32_t>(arguments.part_count)));
  const int key_bits = std::min(arguments.bits + part_bits, 32);
  size_t scratch_bytes = 0;
  const auto sort = [&](void* scratch) {
    check(sort_pairs(scratch, scratch_bytes, keys.data(), keys.data() + rows, values.data(), sorted, rows,
                     key_bits, stream),
          "sorting");
  };
  sort(nullptr);
  const DeviceArray<unsigned char> scratch(static_cast<int64_t>(scratch_bytes), "room to sort in");
  sort(scratch.data());
}

}  // namespace

std::shared_ptr<const HashedRows> DeviceProblem::hash_rows(const std::vector<SortRequest>& requests,
                                                           int64_t bucket_count, BucketOrder order) const {
  const int bits = hash_bits(bucket_count);
  const HashLayout layout(shapes(), requests, bits);
  if (!layout.possible) return nullptr;
  const StreamScope scope(stream_);
  const std::lock_guard<std::mutex> lock(one_call());
  Device& device = Device::current();
  DeviceBundle bundle;
  const int64_t stretches = bundle.add(layout.stretches.all);
  const int64_t tasks = bundle.add(layout.stretches.tasks);
  const int64_t functions = bundle.add(layout.functions);
  bundle.upload("rows to hash");
  auto buckets = std::make_shared<DeviceBuckets>(bits, layout.begins);
  const int64_t groups = layout.direction_count / (shapes().head_dim() * kDirections);
  const DeviceArray<SplitDirections> split(
      hashes_by_matrix_units(precision_, shapes().head_dim()) ? groups : 0, "hash functions");
  const DeviceArray<float> directions(layout.direction_count, "hash functions");
  DrawArguments draw;
  draw.functions = bundle.at<StreamPlace>(functions);
  draw.function_count = std::ssize(layout.functions);
  draw.bits = bits;
  draw.width = static_cast<int32_t>(shapes().head_dim());
  draw.directions = directions.data();
  HashArguments arguments;
  arguments.stretches = bundle.at<HashStretch>(stretches);
  arguments.stretch_count = static_cast<int32_t>(layout.stretches.all.size());
  arguments.block_count = static_cast<int32_t>(layout.stretches.blocks);
  arguments.tasks = bundle.at<HashTask>(tasks);
  arguments.query = layout.reads_queries ? query_.rounded() : nullptr;
  arguments.key = layout.reads_keys ? key_.rounded() : nullptr;
  arguments.directions = directions.data();
  arguments.direction_groups = groups;
  arguments.split = split.data();
  arguments.width = static_cast<int32_t>(shapes().head_dim());
  arguments.stride = static_cast<int32_t>(padded_width(shapes().head_dim()));
  arguments.bits = bits;
  arguments.gray = order == BucketOrder::gray ? 1 : 0;
  arguments.numbers = buckets->numbers();
  if (hashing_ == nullptr) hashing_ = std::make_unique<DeviceTimer>(device);
  hashing_->start();
  check(launch_draw(draw, device.stream()), "drawing hash functions");
  check(launch_hash(precision_, arguments, device.stream()), "hashing");
  hashing_->stop();
  return buckets;
}

std::vector<SortedRows> DeviceProblem::sort_by_bucket(const std::vector<SortRequest>& requests,
                                                      int64_t bucket_count, BucketOrder order,
                                                      SortSeconds* seconds) const {
  if (requests.empty()) return {};  // a level whose nodes are all exact: nothing is to be read on the host
  const Stopwatch watch;
  const bool are_hashed = requests.front().hashed != nullptr;
  const auto own = are_hashed ? nullptr : hash_rows(requests, bucket_count, order);
  const auto* buckets = dynamic_cast<const DeviceBuckets*>(are_hashed ? requests.front().hashed : own.get());
  if (buckets == nullptr) return BoundProblem::sort_by_bucket(requests, bucket_count, order, seconds);
  const SortLayout layout(requests, *buckets);
  const bool by_counting = sorts_by_counting(layout, *buckets);
  if (!by_counting && requests.size() > size_t{1} << (32 - buckets->bits()))
    return BoundProblem::sort_by_bucket(requests, bucket_count, order, seconds);
  const StreamScope scope(stream_);
  const std::lock_guard<std::mutex> lock(one_call());
  void* stream = Device::current().stream();
  DeviceBundle bundle;
  const int64_t parts = bundle.add(layout.parts);
  const int64_t asked_rows = bundle.add(layout.asked);
  const int64_t asked_parts = bundle.add(layout.asked_parts);
  bundle.upload("rows to sort");
  NumbersByPart sorted(stream_, layout.rows, "sorted rows");
  sorted.set_parts(layout.parts);
  const SortArguments arguments{bundle.at<SortPart>(parts), static_cast<int32_t>(layout.parts.size()),
                                static_cast<int32_t>(layout.blocks), buckets->numbers(), buckets->bits()};
  if (by_counting)
    sort_by_counting(arguments, sorted.data(), stream);
  else
    sort_as_pairs(arguments, layout.rows, sorted.data(), stream);
  const AllAsked asked(stream_, layout);
  AskedArguments ask;
  ask.asked_parts = bundle.at<AskedPart>(asked_parts);
  ask.asked_part_count = std::ssize(layout.asked_parts);
  ask.most = layout.most_asked;
  ask.asked = bundle.at<int32_t>(asked_rows);
  ask.parts = arguments.parts;
  ask.numbers = arguments.numbers;
  ask.sorted = sorted.data();
  asked.find(ask, stream);
  std::vector<SortedRows> results(requests.size());
  for_small_pieces(results.size(), [&](size_t r) { results[r].remote = sorted.part(r); });
  for_small_pieces(layout.asked_parts.size(), [&](size_t p) {
    results[static_cast<size_t>(layout.asked_parts[p].part)].asked = asked.part(p);
  });
  if (std::any_of(requests.begin(), requests.end(), [](const SortRequest& one) { return one.want_ranks; }))
    parallel_for(std::ssize(results), [&](int64_t i, int) {
      const auto r = static_cast<size_t>(i);
      if (requests[r].want_ranks) results[r].ranks = ranks_of(requests[r], results[r].remote->on_host());
    });
  if (seconds == nullptr) return results;
  const double hashed = expected_ ? 0 : take_hash_seconds();  // nobody waits before a forward call's end
  seconds->hash += hashed;
  seconds->sort += std::max(watch.seconds() - hashed, 0.0);
  return results;
}

double DeviceProblem::take_hash_seconds() const {
  const std::unique_ptr<DeviceTimer> hashing = std::move(hashing_);
  return hashing != nullptr ? hashing->seconds() : 0;
}

std::vector<uint32_t> DeviceProblem::bucket_codes(MatrixView<const float> rows,
                                                  const HashDirections& directions, BucketOrder order,
                                                  bool centre) const {
  const SortRequest request{rows, 0, &directions, nullptr, 0, false, nullptr};
  const auto hashed = centre ? nullptr : hash_rows({request}, int64_t{1} << directions.bits(), order);
  if (hashed == nullptr) return BoundProblem::bucket_codes(rows, directions, order, centre);
  const StreamScope scope(stream_);
  const std::lock_guard<std::mutex> lock(one_call());
  std::vector<uint32_t> codes = dynamic_cast<const DeviceBuckets&>(*hashed).downloaded(rows.rows);
  hashing_ = nullptr;  // the caller, which has waited, books this time
  return codes;
}

}  // namespace hyperattn::cuda
