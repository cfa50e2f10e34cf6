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
  Flattening(const AttentionProblem& problem, const Plan& plan, int64_t tile_rows)
      : problem_(problem), plan_(plan), tile_rows_(tile_rows) {}

  FlatPlan run() {
    flat_.has_signed_weights = hyperattn::has_signed_weights(plan_);
    reserve();
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

  /// Growing would copy megabytes.
  void reserve() {
    size_t tiles = 0;
    size_t visits = 0;
    for_each_group(plan_, [&](const Pass&, const QueryGroup& group) {
      tiles += static_cast<size_t>((group.end - group.begin + tile_rows_ - 1) / tile_rows_);
      visits += static_cast<size_t>(group.last_visit - group.first_visit);
    });
    flat_.tiles.reserve(tiles);
    flat_.visits.reserve(visits);
  }

  /// Orders that several lists share are stored once.
  FlatOrder order_of(const RowOrder& order) {
    if (order.remote) return {kNone, 0, order.remote->on_device()};
    if (!order.rows) return {kNone, order.first, nullptr};
    const auto [place, is_new] = orders_.try_emplace(order.rows.get(), 0);
    if (is_new) place->second = append(*order.rows, flat_.integers);
    return {place->second, 0, nullptr};
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
    const int64_t tiles = (group.end - group.begin + tile_rows_ - 1) / tile_rows_;
    const bool has_packs = group.first_row_visit < group.last_row_visit;
    std::vector<std::vector<FlatPack>> packs;
    if (has_packs) packs = packs_of(pass, group, tiles, first_list, first_entry);
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t begin = group.begin + t * tile_rows_;
      const int64_t first_pack = has_packs ? append(packs[static_cast<size_t>(t)], flat_.packs) : 0;
      flat_.tiles.push_back({pass_number, static_cast<int32_t>(begin),
                             static_cast<int32_t>(std::min<int64_t>(tile_rows_, group.end - begin)),
                             first_visit, size(flat_.visits), first_pack, has_packs ? size(flat_.packs) : 0,
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
  int64_t tile_rows_;
  FlatPlan flat_;
  std::map<const void*, int64_t> orders_;
  std::map<const void*, int64_t> numbers_;
  std::map<const void*, int64_t> logs_;
  std::map<const void*, int64_t> terms_;
  std::map<const void*, int64_t> synthetic_;
};

/// Blocks of ranks of the lists of one phase, with what visits them.
class Inversion {
 public:
  Inversion(const AttentionProblem& problem, const Plan& plan, const FlatPlan& flat, int64_t phase,
            int64_t job_ranks)
      : problem_(problem),
        job_ranks_(job_ranks),
        phase_(plan.phases[static_cast<size_t>(phase)]),
        flat_(flat),
        begin_(flat.phases[static_cast<size_t>(phase)]) {}

  KeyWork run() {
    collect_blocks();
    for_each_item([&](size_t block, const KeyItem& item) {
      ++blocks_[block].items;
      blocks_[block].rows += item.end - item.begin;
    });
    place_items();
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
    int64_t round;  ///< kNone: keys of other jobs may be among its own
    int64_t items = 0;
    int64_t rows = 0;
    int64_t first_item = 0;
  };

  void collect_blocks() {
    int64_t most_lists = 0;
    for (const Pass& pass : phase_.passes)
      most_lists = std::max(most_lists, static_cast<int64_t>(pass.lists.size()));
    const int64_t heads_per_key_head = problem_.heads() / problem_.key_heads();
    auto pass_number = static_cast<int32_t>(begin_.first_pass);
    auto flat_list = static_cast<int32_t>(begin_.first_list);
    for (const Pass& pass : phase_.passes) {
      int64_t round = pass.head % heads_per_key_head * most_lists;
      for (const KeyList& list : pass.lists) {
        const bool distinct = !list.synthetic && !list.order.rows;
        first_block_.push_back(blocks_.size());
        for (int64_t rank = 0; rank < list.order.count; rank += job_ranks_)
          blocks_.push_back({&list, pass.key_head, pass_number, flat_list, static_cast<int32_t>(rank),
                             static_cast<int32_t>(std::min<int64_t>(job_ranks_, list.order.count - rank)),
                             distinct ? round : kNone});
        ++round;
        ++flat_list;
      }
      ++pass_number;
    }
  }

  /// body(block, item) for every block that an item visits.
  template <class Body>
  void for_each_item(const Body& body) const {
    int64_t next_visit = begin_.first_visit;
    int64_t first_entry = begin_.first_entry;
    size_t first_list = 0;
    for (const Pass& pass : phase_.passes) {
      const auto add = [&](int32_t list, const KeyItem& item) {
        const size_t first = first_block_[first_list + static_cast<size_t>(list)];
        for (int64_t b = item.first_rank / job_ranks_; b * job_ranks_ < item.last_rank; ++b)
          body(first + static_cast<size_t>(b), item);
      };
      for (const QueryGroup& group : pass.groups) {
        for_each_visit(pass, group, [&](const Visit& visit) {
          const FlatVisit& flat = flat_.visits[static_cast<size_t>(next_visit++)];
          if (group.begin < group.end)
            add(visit.list,
                {group.begin, group.end, flat.begin, flat.end, flat.excluded_begin, flat.excluded_end, 0});
        });
        for_each_row_visit(pass, group, [&](const RowVisit& visit) {
          const SegmentRange ranks = segment_of(pass.lists[static_cast<size_t>(visit.list)], visit.segment);
          if (visit.first_entry < visit.last_entry)
            add(visit.list, {first_entry + visit.first_entry, first_entry + visit.last_entry,
                             static_cast<int32_t>(ranks.begin), static_cast<int32_t>(ranks.end), 0, 0, 1});
        });
      }
      first_entry += static_cast<int64_t>(pass.row_entries.size());
      first_list += pass.lists.size();
    }
  }

  /// The items of each block side by side, in the order of the walk.
  void place_items() {
    int64_t total = 0;
    for (Block& block : blocks_) {
      block.first_item = total;
      total += block.items;
      block.items = 0;
    }
    work_.items.resize(static_cast<size_t>(total));
    for_each_item([&](size_t b, const KeyItem& item) {
      Block& block = blocks_[b];
      work_.items[static_cast<size_t>(block.first_item + block.items++)] = item;
    });
  }

  /// Most rows of a job: enough jobs for a whole card, none shorter than is worth its scratch rows.
  [[nodiscard]] int64_t longest_job() const {
    constexpr int64_t kJobs = 4096;
    constexpr int64_t kLeastRows = 2048;
    int64_t rows = 0;
    for (const Block& block : blocks_) rows += block.rows;
    return std::max(kLeastRows, rows / kJobs);
  }

  void collect_jobs() {
    const int64_t most = longest_job();
    std::map<int64_t, std::vector<KeyJob>> rounds;
    std::vector<KeyJob> others;
    for (const Block& block : blocks_) {
      if (block.items == 0) continue;
      const int64_t last = block.first_item + block.items;
      if (block.rows > most) {
        cut(block, most, others);
      } else if (block.round != kNone) {
        rounds[block.round].push_back(job_of(block, block.first_item, last, kNone));
      } else {
        others.push_back(job_of(block, block.first_item, last, take_slots(block)));
      }
    }
    for (const auto& [round, jobs] : rounds) {
      append_to(work_.jobs, jobs);
      work_.round_end.push_back(static_cast<int64_t>(work_.jobs.size()));
    }
    append_to(work_.jobs, others);
  }

  static void append_to(std::vector<KeyJob>& all, const std::vector<KeyJob>& some) {
    all.insert(all.end(), some.begin(), some.end());
  }

  static KeyJob job_of(const Block& block, int64_t first_item, int64_t last_item, int64_t slot) {
    return {block.pass, block.flat_list, block.rank, block.count, first_item, last_item, slot};
  }

  /// Slots for one more job of the block; its jobs come one after the other.
  int64_t take_slots(const Block& block) {
    if (slot_blocks_.empty() || slot_blocks_.back().block != &block)
      slot_blocks_.push_back({&block, work_.slots, 0});
    ++slot_blocks_.back().jobs;
    return std::exchange(work_.slots, work_.slots + block.count);
  }

  /// Several jobs of at most `most` rows, with items of their own.
  void cut(const Block& block, int64_t most, std::vector<KeyJob>& jobs) {
    int64_t taken = 0;
    for (int64_t i = block.first_item; i < block.first_item + block.items; ++i) {
      const KeyItem item = work_.items[static_cast<size_t>(i)];
      for (int64_t begin = item.begin; begin < item.end;) {
        const auto place = static_cast<int64_t>(work_.items.size());
        if (taken == 0) jobs.push_back(job_of(block, place, place, take_slots(block)));
        KeyItem part = item;
        part.begin = begin;
        part.end = std::min(item.end, begin + most - taken);
        work_.items.push_back(part);
        jobs.back().last_item = place + 1;
        taken += part.end - part.begin;
        begin = part.end;
        if (taken >= most) taken = 0;
      }
    }
  }

  struct SlotBlock {
    const Block* block;
    int64_t first_slot;
    int64_t jobs;
  };
  /// What the jobs of a block give to a key row: slots `step` apart.
  struct RowParts {
    int64_t row;
    int64_t first_slot;
    int64_t step;
    int64_t jobs;
    float share;
  };

  [[nodiscard]] std::vector<RowParts> parts_of_slots() const {
    std::vector<RowParts> parts;
    for (const SlotBlock& own : slot_blocks_) {
      const Block& block = *own.block;
      const int64_t base = block.key_head * problem_.key_count();
      const SyntheticKeys* synthetic = block.list->synthetic.get();
      for (int64_t i = 0; i < block.count; ++i) {
        const int64_t row = block.list->order[block.rank + i];
        const auto add = [&](int64_t key, float share) {
          parts.push_back({base + key, own.first_slot + i, block.count, own.jobs, share});
        };
        if (synthetic == nullptr) {
          add(row, 1);
          continue;
        }
        const auto s = static_cast<size_t>(row);
        for (int64_t m = synthetic->member_begin[s]; m < synthetic->member_begin[s + 1]; ++m)
          add(synthetic->member_order[m], synthetic->share(row, m));
      }
    }
    return parts;
  }

  /// Each row adds its parts in the order of slots.
  void collect_parts() {
    std::vector<RowParts> all = parts_of_slots();
    std::stable_sort(all.begin(), all.end(),
                     [](const RowParts& a, const RowParts& b) { return a.row < b.row; });
    for (const RowParts& parts : all) {
      if (work_.rows.empty() || work_.rows.back() != parts.row) {
        work_.rows.push_back(parts.row);
        work_.part_begin.push_back(static_cast<int64_t>(work_.parts.size()));
      }
      for (int64_t job = 0; job < parts.jobs; ++job)
        work_.parts.push_back({parts.first_slot + job * parts.step, parts.share});
    }
    work_.part_begin.push_back(static_cast<int64_t>(work_.parts.size()));
  }

  const AttentionProblem& problem_;
  int64_t job_ranks_;
  const Phase& phase_;
  const FlatPlan& flat_;
  const FlatPhase& begin_;
  std::vector<Block> blocks_;
  std::vector<size_t> first_block_;     // of every list
  std::vector<SlotBlock> slot_blocks_;  // in the order of slots
  KeyWork work_;
};

}  // namespace

FlatPlan flatten(const AttentionProblem& problem, const Plan& plan, int64_t tile_rows) {
  return Flattening(problem, plan, tile_rows).run();
}

bool is_plain(const Plan& plan) {
  const auto is_plain_list = [](const KeyList& list) {
    return !list.linear_value && !list.signed_weights && !list.has_factor();
  };
  for (const Phase& phase : plan.phases)
    for (const Pass& pass : phase.passes)
      if (!pass.row_visits.empty() || pass.moments || pass.linear_values ||
          !std::all_of(pass.lists.begin(), pass.lists.end(), is_plain_list))
        return false;
  return true;
}

KeyWork invert(const AttentionProblem& problem, const Plan& plan, const FlatPlan& flat, int64_t phase,
               int64_t job_ranks) {
  return Inversion(problem, plan, flat, phase, job_ranks).run();
}

}  // namespace hyperattn::cuda
