// A generator of valid plans that together use every feature of plan.h, for tests of check_plan and of every
// engine.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "algorithms/plan_builder.h"
#include "core/random.h"

namespace hyperattn::testing {

/// Random decisions, one after the other.
class Dice {
 public:
  explicit Dice(uint64_t seed) : stream_(seed, Purpose::other) {}

  int64_t below(int64_t bound) {
    return static_cast<int64_t>(stream_.below(next_++, static_cast<uint64_t>(bound)));
  }
  int64_t between(int64_t least, int64_t most) { return least + below(most - least + 1); }
  bool chance(double probability) { return stream_.uniform(next_++) < probability; }
  float uniform(double low, double high) {
    return static_cast<float>(low + (high - low) * stream_.uniform(next_++));
  }
  std::vector<int32_t> shuffled(std::vector<int32_t> values) {
    for (size_t i = values.size(); i > 1; --i)
      std::swap(values[i - 1], values[static_cast<size_t>(below(static_cast<int64_t>(i)))]);
    return values;
  }

 private:
  RandomStream stream_;
  uint64_t next_ = 0;
};

/// What the plans of one family may hold.
struct PlanFamily {
  std::string name;
  bool signs = false;        ///< signed weights, and a clip
  bool query_terms = false;  ///< moments and linear values, which have no gradient
  bool triangles = false;
};

inline std::vector<PlanFamily> plan_families() {
  return {{"weights, factors and segments", false, false, true},
          {"moments and linear values", false, true, false},
          {"signed weights and clip", true, false, true}};
}

class RandomPlan {
 public:
  RandomPlan(const AttentionProblem& problem, const PlanFamily& family, uint64_t seed)
      : problem_(problem), family_(family), dice_(seed) {}

  Plan make() {
    PlanBuilder plan;
    plan.clip_to_values(family_.signs && dice_.chance(0.5));
    const int64_t phases = dice_.between(1, 3);
    for (int64_t phase = 0; phase < phases; ++phase) {
      plan.phase(static_cast<int>(phase));
      for (int64_t head = 0; head < problem_.heads(); ++head) add_passes(head, plan);
    }
    Plan made = plan.take();
    if (!made.phases.empty())
      for (Pass& pass : made.phases.back().passes)
        for (QueryGroup& group : pass.groups) group.is_last = dice_.chance(0.5);
    return made;
  }

 private:
  /// One or two passes of a head with different rows and keys.
  void add_passes(int64_t head, PlanBuilder& plan) {
    const int64_t parts = dice_.between(1, 2);
    const auto rows = parts_of(problem_.query_count(), parts);
    const auto keys = parts_of(problem_.key_count(), parts);
    for (size_t part = 0; part < rows.size() && part < keys.size(); ++part) {
      if (rows[part].empty() || keys[part].empty()) continue;
      plan.add(family_.triangles && dice_.chance(0.2) ? triangular_pass(head, rows[part], keys[part])
                                                      : general_pass(head, rows[part], keys[part]));
    }
  }

  std::vector<std::vector<int32_t>> parts_of(int64_t count, int64_t parts) {
    std::vector<int32_t> all(static_cast<size_t>(count));
    std::iota(all.begin(), all.end(), 0);
    all = dice_.shuffled(std::move(all));
    if (dice_.chance(0.3)) all.resize(static_cast<size_t>(dice_.between(1, count)));
    std::vector<std::vector<int32_t>> result(static_cast<size_t>(parts));
    for (size_t i = 0; i < all.size(); ++i)
      result[i * static_cast<size_t>(parts) / all.size()].push_back(all[i]);
    return result;
  }

  Pass triangular_pass(int64_t head, const std::vector<int32_t>& rows, const std::vector<int32_t>& keys) {
    PassBuilder pass(problem_, head, 0, RowOrder::list(rows));
    pass.triangular(dice_.between(-3, 6), dice_.chance(0.5) ? dice_.between(1, 20) : 0);
    KeyList list;
    list.order = RowOrder::list(keys);
    add_weights(list, static_cast<int64_t>(rows.size()));
    const int32_t number = pass.add_list(std::move(list));
    return pass.everything_sees_all(number).take();
  }

  Pass general_pass(int64_t head, const std::vector<int32_t>& rows, const std::vector<int32_t>& keys) {
    const auto positions = static_cast<int64_t>(rows.size());
    PassBuilder pass(problem_, head, 0, RowOrder::list(rows));
    std::vector<KeyList> lists;
    lists.push_back(own_keys(keys, positions));
    if (dice_.chance(0.6)) lists.push_back(means(head, keys, positions));
    if (dice_.chance(0.3)) lists.push_back(own_keys(keys, positions));
    const bool linear = family_.query_terms && dice_.chance(0.7);
    lists.back().linear_value = linear;
    if (linear) pass.with_linear_values(linear_values());
    const bool moments = family_.query_terms && dice_.chance(0.6);
    if (moments) pass.with_moments(key_moments());
    std::vector<int32_t> numbers;
    for (const KeyList& list : lists) numbers.push_back(pass.add_list(list));
    for (int64_t begin = 0; begin < positions;) {
      const int64_t end = std::min(positions, begin + dice_.between(1, std::max<int64_t>(positions, 2)));
      if (!dice_.chance(0.1)) {  // else rows in no group
        pass.group(begin, end);
        add_visits(lists, numbers, linear, pass);
        add_row_visits(lists, numbers, begin, end, pass);
        if (moments && dice_.chance(0.7)) pass.visit_moments(dice_.between(1, 50));
      }
      begin = end;
    }
    return pass.take();
  }

  /// Some of the keys in some order, some of them twice.
  KeyList own_keys(const std::vector<int32_t>& keys, int64_t positions) {
    std::vector<int32_t> order = dice_.shuffled(keys);
    if (dice_.chance(0.4))
      order.resize(static_cast<size_t>(dice_.between(1, static_cast<int64_t>(keys.size()))));
    if (dice_.chance(0.3))
      order.insert(order.end(), order.begin(), order.begin() + static_cast<int64_t>(order.size() / 2));
    KeyList list;
    const bool run = dice_.chance(0.2);
    list.order = run ? RowOrder::run(keys.front(), 1) : RowOrder::list(std::move(order));
    list.stage = Stage::block;
    add_weights(list, positions);
    add_segments(list);
    return list;
  }

  /// Weighted means of runs of the keys.
  KeyList means(int64_t head, const std::vector<int32_t>& keys, int64_t positions) {
    auto synthetic = std::make_shared<SyntheticKeys>();
    synthetic->member_order = RowOrder::list(keys);
    synthetic->member_begin.push_back(0);
    const auto members = static_cast<int64_t>(keys.size());
    while (synthetic->member_begin.back() < members)
      synthetic->member_begin.push_back(
          std::min(members, synthetic->member_begin.back() + dice_.between(1, 7)));
    const auto count = static_cast<int64_t>(synthetic->member_begin.size()) - 1;
    synthetic->key = Tensor<float>({1, 1, count, problem_.head_dim()}, 0.0F);
    synthetic->value = Tensor<float>({1, 1, count, problem_.value_dim()}, 0.0F);
    if (dice_.chance(0.5))
      for (int64_t m = 0; m < members; ++m) synthetic->member_share.push_back(dice_.uniform(0, 0.5));
    for (int64_t s = 0; s < count; ++s)
      for (int64_t m = synthetic->member_begin[static_cast<size_t>(s)];
           m < synthetic->member_begin[static_cast<size_t>(s) + 1]; ++m) {
        const int32_t row = keys[static_cast<size_t>(m)];
        add_scaled(problem_.keys_of(head).row(row), synthetic->share(s, m), synthetic->key.matrix(0), s);
        add_scaled(problem_.values_of(head).row(row), synthetic->share(s, m), synthetic->value.matrix(0), s);
      }
    KeyList list;
    std::vector<int32_t> order(static_cast<size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    list.order =
        dice_.chance(0.5) ? RowOrder::run(0, count) : RowOrder::list(dice_.shuffled(std::move(order)));
    list.synthetic = std::move(synthetic);
    list.stage = Stage::sample;
    add_weights(list, positions);
    add_segments(list);
    return list;
  }

  static void add_scaled(const float* row, float share, MatrixView<float> target, int64_t index) {
    for (int64_t c = 0; c < target.cols; ++c) target.row(index)[c] += share * row[c];
  }

  std::vector<float> numbers(int64_t count, double low, double high) {
    std::vector<float> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(dice_.uniform(low, high));
    return values;
  }

  void add_weights(KeyList& list, int64_t positions) {
    const int64_t count = list.order.count;
    if (dice_.chance(0.5)) {
      std::vector<float> weights = numbers(count, -2, 2);
      for (float& weight : weights)
        if (dice_.chance(0.1)) weight = -std::numeric_limits<float>::infinity();
      list.log_weight = std::make_shared<const std::vector<float>>(std::move(weights));
    } else {
      list.uniform_log_weight = dice_.chance(0.5) ? 0.0F : dice_.uniform(-1, 3);
    }
    if (family_.signs && dice_.chance(0.7)) {
      auto weights = std::make_shared<SignedWeights>();
      weights->numerator = numbers(count, -0.5, 1);
      weights->denominator = numbers(count, -0.3, 1);
      list.signed_weights = std::move(weights);
    } else if (!family_.signs && dice_.chance(0.4)) {
      list.factor.row = std::make_shared<const std::vector<float>>(numbers(positions, 0, 2));
      list.factor.rank = std::make_shared<const std::vector<float>>(numbers(count, 0, 1.5));
    }
  }

  void add_segments(KeyList& list) {
    if (!dice_.chance(0.6)) return;
    std::vector<int32_t> offsets = {
        static_cast<int32_t>(dice_.below(std::min<int64_t>(list.order.count, 3)))};
    while (offsets.back() < list.order.count)
      offsets.push_back(static_cast<int32_t>(std::min(
          list.order.count, offsets.back() + dice_.between(dice_.chance(0.1) ? 0 : 1, kSegmentKeys))));
    list.segments = std::make_shared<const std::vector<int32_t>>(std::move(offsets));
  }

  /// A linear list may be followed by nothing but linear ones; it is the last one here.
  void add_visits(const std::vector<KeyList>& lists, const std::vector<int32_t>& numbers, bool linear,
                  PassBuilder& pass) {
    for (size_t l = 0; l < lists.size(); ++l) {
      const bool has_later_segments = linear && l + 1 == lists.size() &&
                                      std::any_of(lists.begin(), lists.end() - 1, [](const KeyList& list) {
                                        return list.segments != nullptr;
                                      });
      if (has_later_segments || !dice_.chance(0.7)) continue;
      const int64_t count = lists[l].order.count;
      if (dice_.chance(0.5)) {
        const int64_t begin = dice_.below(count);
        pass.visit(numbers[l], begin, dice_.between(begin, count));
        continue;
      }
      std::vector<int32_t> excluded;
      for (int32_t rank = 0; rank < count; ++rank)
        if (dice_.chance(0.2)) excluded.push_back(rank);
      pass.visit_all_except(numbers[l], excluded);
    }
  }

  void add_row_visits(const std::vector<KeyList>& lists, const std::vector<int32_t>& numbers, int64_t begin,
                      int64_t end, PassBuilder& pass) {
    for (size_t l = 0; l < lists.size(); ++l) {
      if (!lists[l].segments) continue;
      const std::vector<int32_t>& offsets = *lists[l].segments;
      for (size_t t = 0; t + 1 < offsets.size(); ++t) {
        std::vector<RowEntry> entries;
        const int64_t width = offsets[t + 1] - offsets[t];
        for (int64_t position = begin; position < end; ++position) {
          if (!dice_.chance(0.3)) continue;
          const int64_t skip = dice_.chance(0.5) ? 0 : dice_.below(int64_t{1} << width);
          entries.push_back({static_cast<int32_t>(position), static_cast<uint16_t>(skip)});
        }
        pass.visit_segment(numbers[l], static_cast<int32_t>(t), entries);
      }
    }
  }

  std::shared_ptr<const LinearValues> linear_values() {
    auto values = std::make_shared<LinearValues>();
    values->variance = numbers(problem_.head_dim(), 0, dice_.chance(0.5) ? 0 : 0.5);
    values->cross_covariance = numbers(problem_.head_dim() * problem_.value_dim(), -0.3, 0.3);
    return values;
  }

  std::shared_ptr<const KeyMoments> key_moments() {
    auto moments = std::make_shared<KeyMoments>();
    const int64_t d = problem_.head_dim();
    moments->mean_key = numbers(d, -0.5, 0.5);
    moments->mean_value = numbers(problem_.value_dim(), -1, 1);
    moments->cross_covariance = numbers(d * problem_.value_dim(), -0.3, 0.3);
    const std::vector<float> diagonal = numbers(d, 0, 0.5);
    moments->covariance.assign(static_cast<size_t>(d * d), 0.0F);
    for (int64_t c = 0; c < d; ++c)
      moments->covariance[static_cast<size_t>(c * d + c)] = diagonal[static_cast<size_t>(c)];
    return moments;
  }

  const AttentionProblem& problem_;
  PlanFamily family_;
  Dice dice_;
};

}  // namespace hyperattn::testing
