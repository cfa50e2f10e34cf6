#include "algorithms/engines/cuda/flat_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>
#include <utility>

#include "algorithms/plan_walk.h"

namespace hyperattn::cuda {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

float base2(double natural) {
  return static_cast<float>(std::numbers::log2e * natural);
}

class Flattening {
 public:
  Flattening(const AttentionProblem& problem, const Plan& plan) : problem_(problem), plan_(plan) {}

  FlatPlan run() {
    flat_.has_signed_weights = hyperattn::has_signed_weights(plan_);
    for (const Phase& phase : plan_.phases) {
      FlatPhase range{size(flat_.tiles),   0,    size(flat_.passes), size(flat_.lists), size(flat_.visits),
                      size(flat_.entries), false};
      for (const Pass& pass : phase.passes) add_pass(pass, range);
      range.last_tile = size(flat_.tiles);
      flat_.phases.push_back(range);
    }
    return std::move(flat_);
  }

 private:
  template <class T>
  static int64_t size(const std::vector<T>& values) {
    return static_cast<int64_t>(values.size());
  }

  template <class T>
  static int64_t append(const std::vector<T>& values, std::vector<T>& target) {
    const int64_t offset = size(target);
    target.insert(target.end(), values.begin(), values.end());
    return offset;
  }

  /// Orders that several lists share are stored once.
  FlatOrder order_of(const RowOrder& order) {
    if (!order.rows) return {kNone, order.first};
    const auto [place, is_new] = orders_.try_emplace(order.rows.get(), 0);
    if (is_new) place->second = append(*order.rows, flat_.integers);
    return {place->second, 0};
  }

  int64_t numbers_of(const std::vector<float>* values) {
    if (values == nullptr) return kNone;
    const auto [place, is_new] = numbers_.try_emplace(values, 0);
    if (is_new) place->second = append(*values, flat_.numbers);
    return place->second;
  }

  int64_t synthetic_row(const SyntheticKeys* keys) {
    const auto [place, is_new] = synthetic_.try_emplace(keys, flat_.synthetic_rows);
    if (is_new) {
      flat_.synthetic.push_back(keys);
      flat_.synthetic_rows += keys->key.shape().rows;
    }
    return place->second;
  }

  void add_weights(const KeyList& list, FlatList& target) {
    target.uniform = base2(static_cast<double>(list.uniform_log_weight));
    if (list.signed_weights) return add_signed_weights(list, target);
    target.factor_row = numbers_of(list.factor.row.get());
    target.factor_rank = numbers_of(list.factor.rank.get());
    if (!list.log_weight) return;
    const auto [place, is_new] = logs_.try_emplace(list.log_weight.get(), size(flat_.numbers));
    target.log_weight = place->second;
    if (!is_new) return;
    for (const float weight : *list.log_weight) flat_.numbers.push_back(base2(static_cast<double>(weight)));
  }

  /// N and D over the larger of their sizes, which the log-weight takes up.
  void add_signed_weights(const KeyList& list, FlatList& target) {
    const SignedWeights& weights = *list.signed_weights;
    const auto count = static_cast<size_t>(list.order.count);
    std::vector<float> logs(count);
    std::vector<float> numerator(count, 0.0F);
    std::vector<float> denominator(count, 0.0F);
    for (size_t rank = 0; rank < count; ++rank) {
      const float most = std::max(std::abs(weights.numerator[rank]), std::abs(weights.denominator[rank]));
      const auto given = static_cast<double>(list.log_weight_of(static_cast<int64_t>(rank)));
      logs[rank] = most > 0 ? base2(given + std::log(static_cast<double>(most))) : kMinusInfinity;
      if (!(most > 0)) continue;
      numerator[rank] = weights.numerator[rank] / most;
      denominator[rank] = weights.denominator[rank] / most;
    }
    target.log_weight = append(logs, flat_.numbers);
    target.numerator = append(numerator, flat_.numbers);
    target.denominator = append(denominator, flat_.numbers);
  }

  void add_list(const Pass& pass, const KeyList& list) {
    FlatList target;
    target.order = order_of(list.order);
    target.count = list.order.count;
    target.synthetic = list.synthetic ? 1 : 0;
    target.source_row =
        list.synthetic ? synthetic_row(list.synthetic.get()) : pass.key_head * problem_.key_count();
    target.linear = list.linear_value ? 1 : 0;
    add_weights(list, target);
    flat_.lists.push_back(target);
  }

  int64_t terms_of(const KeyMoments& moments) {
    const auto [place, is_new] = terms_.try_emplace(&moments, size(flat_.numbers));
    if (is_new)
      for (const auto* values :
           {&moments.mean_key, &moments.mean_value, &moments.covariance, &moments.cross_covariance})
        append(*values, flat_.numbers);
    return place->second;
  }

  int64_t terms_of(const LinearValues& linear) {
    const auto [place, is_new] = terms_.try_emplace(&linear, size(flat_.numbers));
    if (is_new)
      for (const auto* values : {&linear.variance, &linear.cross_covariance}) append(*values, flat_.numbers);
    return place->second;
  }

  void add_pass(const Pass& pass, FlatPhase& range) {
    const auto number = static_cast<int32_t>(flat_.passes.size());
    const auto first_list = static_cast<int32_t>(flat_.lists.size());
    const int64_t first_excluded = append(pass.excluded, flat_.integers);
    FlatPass target;
    target.queries = order_of(pass.queries);
    target.row_base = pass.head * problem_.query_count();
    target.triangular = pass.triangular ? 1 : 0;
    target.diagonal = pass.diagonal;
    target.window = pass.window;
    if (pass.moments) target.moments = terms_of(*pass.moments);
    if (pass.linear_values) target.linear = terms_of(*pass.linear_values);
    range.has_query_terms = range.has_query_terms || pass.moments || pass.linear_values;
    flat_.passes.push_back(target);
    for (const KeyList& list : pass.lists) add_list(pass, list);
    const int64_t first_entry = size(flat_.entries);
    for (const RowEntry& entry : pass.row_entries) flat_.entries.push_back({entry.position, entry.skip});
    for (const QueryGroup& group : pass.groups)
      add_group(pass, group, number, first_list, first_excluded, first_entry);
  }

  void add_group(const Pass& pass, const QueryGroup& group, int32_t pass_number, int32_t first_list,
                 int64_t first_excluded, int64_t first_entry) {
    const int64_t first_visit = size(flat_.visits);
    for_each_visit(pass, group, [&](const Visit& visit) {
      flat_.visits.push_back({first_list + visit.list, static_cast<int32_t>(visit.begin),
                              static_cast<int32_t>(visit.end), first_excluded + visit.excluded_begin,
                              first_excluded + visit.excluded_end});
    });
    const int64_t tiles = (group.end - group.begin + kTileRows - 1) / kTileRows;
    const std::vector<std::vector<FlatPack>> packs = packs_of(pass, group, tiles, first_list, first_entry);
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t begin = group.begin + t * kTileRows;
      const int64_t first_pack = append(packs[static_cast<size_t>(t)], flat_.packs);
      flat_.tiles.push_back({pass_number, static_cast<int32_t>(begin),
                             static_cast<int32_t>(std::min<int64_t>(kTileRows, group.end - begin)),
                             first_visit, size(flat_.visits), first_pack, size(flat_.packs),
                             group.moment_keys});
    }
  }

  /// The row visits of a group by tile, those that follow each other in one list side by side.
  static std::vector<std::vector<FlatPack>> packs_of(const Pass& pass, const QueryGroup& group, int64_t tiles,
                                                     int32_t first_list, int64_t first_entry) {
    std::vector<std::vector<FlatPack>> packs(static_cast<size_t>(tiles));
    std::vector<int> filled(static_cast<size_t>(tiles), 0);
    for_each_row_visit(pass, group, [&](const RowVisit& visit) {
      const SegmentRange ranks = segment_of(pass.lists[static_cast<size_t>(visit.list)], visit.segment);
      for (int64_t e = visit.first_entry; e < visit.last_entry && ranks.begin < ranks.end;) {
        const int64_t tile = (pass.row_entries[static_cast<size_t>(e)].position - group.begin) / kTileRows;
        const int64_t tile_end = group.begin + (tile + 1) * kTileRows;
        int64_t last = e;
        while (last < visit.last_entry && pass.row_entries[static_cast<size_t>(last)].position < tile_end)
          ++last;
        auto& own = packs[static_cast<size_t>(tile)];
        int& used = filled[static_cast<size_t>(tile)];
        if (own.empty() || used == kPackSegments || own.back().list != first_list + visit.list) {
          own.emplace_back();
          own.back().list = first_list + visit.list;
          used = 0;
        }
        own.back().begin[used] = static_cast<int32_t>(ranks.begin);
        own.back().end[used] = static_cast<int32_t>(ranks.end);
        own.back().first_entry[used] = first_entry + e;
        own.back().last_entry[used] = first_entry + last;
        ++used;
        e = last;
      }
    });
    return packs;
  }

  const AttentionProblem& problem_;
  const Plan& plan_;
  FlatPlan flat_;
  std::map<const void*, int64_t> orders_;
  std::map<const void*, int64_t> numbers_;
  std::map<const void*, int64_t> logs_;
  std::map<const void*, int64_t> terms_;
  std::map<const void*, int64_t> synthetic_;
};

/// Blocks of ranks of the lists of one pass, with what visits them.
class Inversion {
 public:
  Inversion(const AttentionProblem& problem, const Plan& plan, const FlatPlan& flat, int64_t phase)
      : problem_(problem), phase_(plan.phases[static_cast<size_t>(phase)]), flat_(flat) {
    const FlatPhase& begin = flat.phases[static_cast<size_t>(phase)];
    next_pass_ = begin.first_pass;
    next_list_ = begin.first_list;
    next_visit_ = begin.first_visit;
    next_entry_ = begin.first_entry;
  }

  KeyWork run() {
    for (const Pass& pass : phase_.passes) add_pass(pass);
    collect_jobs();
    collect_parts();
    return std::move(work_);
  }

 private:
  struct Block {
    const KeyList* list;
    int64_t key_head;
    int32_t pass;
    int32_t flat_list;
    int32_t rank;
    int32_t count;
    std::vector<KeyItem> items;
    [[nodiscard]] int64_t rows() const {
      int64_t sum = 0;
      for (const KeyItem& item : items) sum += item.end - item.begin;
      return sum;
    }
  };

  void add_pass(const Pass& pass) {
    std::vector<size_t> first_block;
    const auto pass_number = static_cast<int32_t>(next_pass_++);
    for (const KeyList& list : pass.lists) {
      first_block.push_back(blocks_.size());
      for (int64_t rank = 0; rank < list.order.count; rank += kTileRows)
        blocks_.push_back({&list,
                           pass.key_head,
                           pass_number,
                           static_cast<int32_t>(next_list_),
                           static_cast<int32_t>(rank),
                           static_cast<int32_t>(std::min<int64_t>(kTileRows, list.order.count - rank)),
                           {}});
      ++next_list_;
    }
    const auto add = [&](int32_t list, const KeyItem& item) {
      for (int64_t b = item.first_rank / kTileRows; b * kTileRows < item.last_rank; ++b)
        blocks_[first_block[static_cast<size_t>(list)] + static_cast<size_t>(b)].items.push_back(item);
    };
    for (const QueryGroup& group : pass.groups) {
      for_each_visit(pass, group, [&](const Visit& visit) {
        const FlatVisit& flat = flat_.visits[static_cast<size_t>(next_visit_++)];
        if (group.begin < group.end)
          add(visit.list,
              {group.begin, group.end, flat.begin, flat.end, flat.excluded_begin, flat.excluded_end, 0});
      });
      for_each_row_visit(pass, group, [&](const RowVisit& visit) {
        const SegmentRange ranks = segment_of(pass.lists[static_cast<size_t>(visit.list)], visit.segment);
        if (visit.first_entry < visit.last_entry)
          add(visit.list, {next_entry_ + visit.first_entry, next_entry_ + visit.last_entry,
                           static_cast<int32_t>(ranks.begin), static_cast<int32_t>(ranks.end), 0, 0, 1});
      });
    }
    next_entry_ += static_cast<int64_t>(pass.row_entries.size());
  }

  /// Most rows of a job: enough jobs for a whole card, none shorter than is worth its scratch rows.
  [[nodiscard]] int64_t longest_job() const {
    constexpr int64_t kJobs = 1024;
    constexpr int64_t kLeastRows = 2048;
    int64_t rows = 0;
    for (const Block& block : blocks_) rows += block.rows();
    return std::max(kLeastRows, rows / kJobs);
  }

  void collect_jobs() {
    const int64_t most = longest_job();
    for (const Block& block : blocks_) {
      int64_t taken = 0;
      for (const KeyItem& item : block.items)
        for (int64_t begin = item.begin; begin < item.end;) {
          if (taken == 0) start_job(block);
          KeyItem part = item;
          part.begin = begin;
          part.end = std::min(item.end, begin + most - taken);
          work_.items.push_back(part);
          work_.jobs.back().last_item = static_cast<int64_t>(work_.items.size());
          taken += part.end - part.begin;
          begin = part.end;
          if (taken >= most) taken = 0;
        }
    }
  }

  void start_job(const Block& block) {
    const auto item = static_cast<int64_t>(work_.items.size());
    work_.jobs.push_back({block.pass, block.flat_list, block.rank, block.count, item, item, work_.slots});
    job_blocks_.push_back(&block);
    work_.slots += block.count;
  }

  /// body(key row, slot, share) for all that the jobs give.
  template <class Body>
  void for_each_part(const Body& body) const {
    for (size_t j = 0; j < work_.jobs.size(); ++j) {
      const KeyJob& job = work_.jobs[j];
      const Block& block = *job_blocks_[j];
      const int64_t base = block.key_head * problem_.key_count();
      const SyntheticKeys* synthetic = block.list->synthetic.get();
      for (int64_t i = 0; i < job.count; ++i) {
        const int64_t row = block.list->order[job.rank + i];
        if (synthetic == nullptr) {
          body(base + row, job.slot + i, 1.0F);
          continue;
        }
        const auto s = static_cast<size_t>(row);
        for (int64_t m = synthetic->member_begin[s]; m < synthetic->member_begin[s + 1]; ++m)
          body(base + synthetic->member_order[m], job.slot + i, synthetic->share(row, m));
      }
    }
  }

  /// Counting sort of the parts by key row; stable, so that each row adds its parts in the order of jobs.
  void collect_parts() {
    std::vector<int64_t> next(static_cast<size_t>(problem_.key_heads() * problem_.key_count()), 0);
    for_each_part([&](int64_t row, int64_t, float) { ++next[static_cast<size_t>(row)]; });
    int64_t total = 0;
    for (size_t row = 0; row < next.size(); ++row) {
      if (next[row] == 0) continue;
      work_.rows.push_back(static_cast<int64_t>(row));
      work_.part_begin.push_back(total);
      total += std::exchange(next[row], total);
    }
    work_.part_begin.push_back(total);
    work_.parts.resize(static_cast<size_t>(total));
    for_each_part([&](int64_t row, int64_t slot, float share) {
      work_.parts[static_cast<size_t>(next[static_cast<size_t>(row)]++)] = {slot, share};
    });
  }

  const AttentionProblem& problem_;
  const Phase& phase_;
  const FlatPlan& flat_;
  int64_t next_pass_ = 0;
  int64_t next_list_ = 0;
  int64_t next_visit_ = 0;
  int64_t next_entry_ = 0;
  std::vector<Block> blocks_;
  std::vector<const Block*> job_blocks_;
  KeyWork work_;
};

}  // namespace

FlatPlan flatten(const AttentionProblem& problem, const Plan& plan) {
  return Flattening(problem, plan).run();
}

KeyWork invert(const AttentionProblem& problem, const Plan& plan, const FlatPlan& flat, int64_t phase) {
  return Inversion(problem, plan, flat, phase).run();
}

}  // namespace hyperattn::cuda
