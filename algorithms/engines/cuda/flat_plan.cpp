#include "algorithms/engines/cuda/flat_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <numbers>
#include <numeric>
#include <utility>

#include "algorithms/plan_walk.h"
#include "core/parallel.h"

namespace hyperattn::cuda {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

float base2(double natural) {
  return static_cast<float>(std::numbers::log2e * natural);
}

/// What a pass has, and beside its FlatStart where its own begin among those of all passes.
struct PassPlace {
  const Pass* pass = nullptr;
  int64_t visits = 0;
  int64_t tiles = 0;
  int64_t rows = 0;
  /// The row visits by tile, those that follow each other in one list side by side.
  std::vector<FlatPack> packs;
  std::vector<int64_t> pack_end;  ///< of each tile's; empty: no row visits
  int64_t first_excluded = 0;
  int64_t first_tile = 0;
  int64_t first_pack = 0;
};

template <class T>
int64_t size_of(const std::vector<T>& values) {
  return static_cast<int64_t>(values.size());
}

template <class T>
int64_t append(const std::vector<T>& values, std::vector<T>& target) {
  const int64_t offset = size_of(target);
  target.insert(target.end(), values.begin(), values.end());
  return offset;
}

int64_t divided(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/// Query rows of a sampled block, at most.
int64_t rows_of_block(const Pass& pass) {
  const int64_t keys = pass.lists[0].order.count;
  return divided(std::min(pass.blocks->block_size, keys) * pass.queries.count, keys);
}

/// What passes share is collected in their order; then sizes are known, and each pass is written to its
/// place.
class Flattening {
 public:
  Flattening(const AttentionProblem& problem, const Plan& plan, int64_t tile_rows, size_t first_phase)
      : problem_(problem), plan_(plan), tile_rows_(tile_rows), first_phase_(first_phase) {}

  FlatPlan run() {
    flat_.has_signed_weights = hyperattn::has_signed_weights(plan_);
    size_t passes = 0;
    for (size_t p = first_phase_; p < plan_.phases.size(); ++p) passes += plan_.phases[p].passes.size();
    places_.reserve(passes);
    flat_.passes.reserve(passes);
    flat_.lists.reserve(2 * passes);
    for (size_t p = first_phase_; p < plan_.phases.size(); ++p)
      for (const Pass& pass : plan_.phases[p].passes) add_pass(pass);
    for_each_listed([&](int64_t p) { count(p); });
    flat_.identity = integers_of(identity_);
    place();
    for_each_listed([&](int64_t p) { write(static_cast<int32_t>(p)); });
    parallel_for(size_of(chunks_), [&](int64_t c, int) {
      const Chunk& chunk = chunks_[static_cast<size_t>(c)];
      std::copy(chunk.values->begin(), chunk.values->end(), flat_.integers.data() + chunk.offset);
    });
    return std::move(flat_);
  }

 private:
  /// body(p) for the passes that have groups.
  template <class Body>
  void for_each_listed(const Body& body) const {
    parallel_for(
        size_of(listed_), [&](int64_t i, int) { body(listed_[static_cast<size_t>(i)]); },
        small_pieces(size_of(listed_)));
  }

  /// Integers of the plan, and their place among all.
  struct Chunk {
    const std::vector<int32_t>* values;
    int64_t offset;
  };

  int64_t integers_of(const std::vector<int32_t>& values) {
    const int64_t offset = integer_count_;
    if (!values.empty()) chunks_.push_back({&values, offset});
    integer_count_ += size_of(values);
    return offset;
  }

  /// Orders that several lists share are stored once.
  FlatOrder order_of(const RowOrder& order) {
    if (order.remote) return {kNone, 0, order.remote->on_device()};
    if (!order.rows) return {kNone, order.first, nullptr};
    const auto [place, is_new] = orders_.try_emplace(order.rows.get(), 0);
    if (is_new) place->second = integers_of(*order.rows);
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
    const auto [place, is_new] = logs_.try_emplace(list.log_weight.get(), size_of(flat_.numbers));
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
    const auto [place, is_new] = terms_.try_emplace(&moments, size_of(flat_.numbers));
    if (is_new)
      for (const auto* values :
           {&moments.mean_key, &moments.mean_value, &moments.covariance, &moments.cross_covariance})
        append(*values, flat_.numbers);
    return place->second;
  }

  int64_t terms_of(const LinearValues& linear) {
    const auto [place, is_new] = terms_.try_emplace(&linear, size_of(flat_.numbers));
    if (is_new)
      for (const auto* values : {&linear.variance, &linear.cross_covariance}) append(*values, flat_.numbers);
    return place->second;
  }

  void add_pass(const Pass& pass) {
    PassPlace place;
    place.pass = &pass;
    place.first_excluded = integers_of(pass.excluded);
    flat_.starts.push_back({static_cast<int32_t>(flat_.lists.size()), 0, entry_count_});
    entry_count_ += size_of(pass.row_entries);
    FlatPass target;
    target.queries = order_of(pass.queries);
    target.row_base = pass.head * problem_.query_count();
    target.triangular = pass.triangular ? 1 : 0;
    target.diagonal = pass.diagonal;
    target.window = pass.window;
    if (pass.moments) target.moments = terms_of(*pass.moments);
    if (pass.linear_values) target.linear = terms_of(*pass.linear_values);
    flat_.passes.push_back(target);
    for (const KeyList& list : pass.lists) add_list(pass, list);
    if (pass.blocks) add_blocks(pass);
    count_rows(pass, place);
    flat_.rows += place.rows;
    if (!pass.groups.empty()) listed_.push_back(size_of(places_));
    places_.push_back(std::move(place));
  }

  void count_rows(const Pass& pass, PassPlace& place) {
    if (pass.blocks) {
      place.rows = pass.queries.count;
      if (pass.blocks->are_last) flat_.last_rows += place.rows;
    }
    for (const QueryGroup& group : pass.groups) {
      place.rows += group.end - group.begin;
      if (group.is_last) flat_.last_rows += group.end - group.begin;
    }
  }

  /// But for where its tiles and visits begin.
  void add_blocks(const Pass& pass) {
    FlatBlocks target;
    target.pass = static_cast<int32_t>(flat_.passes.size()) - 1;
    target.list = flat_.starts.back().list;
    target.queries = pass.queries.count;
    target.keys = pass.lists[0].order.count;
    target.block_size = std::min(pass.blocks->block_size, target.keys);
    target.block_count = divided(target.keys, target.block_size);
    target.block_tiles = divided(rows_of_block(pass), tile_rows_);
    if (pass.blocks->sample_ranks) {
      target.sample_ranks = pass.blocks->sample_ranks->on_device();
      target.sample_count = pass.lists[1].order.count;
    }
    target.counts_twice = pass.blocks->counts_twice ? 1 : 0;
    target.are_last = pass.blocks->are_last ? 1 : 0;
    while (size_of(identity_) < target.sample_count)
      identity_.push_back(static_cast<int32_t>(identity_.size()));
    flat_.blocks.push_back(target);
  }

  [[nodiscard]] int64_t tiles_of(const QueryGroup& group) const {
    return divided(group.end - group.begin, tile_rows_);
  }

  void count(int64_t number) {
    PassPlace& place = places_[static_cast<size_t>(number)];
    for (const QueryGroup& group : place.pass->groups) {
      place.visits += group.last_visit - group.first_visit;
      place.tiles += tiles_of(group);
      if (!place.pass->row_visits.empty()) add_packs(place, flat_.starts[static_cast<size_t>(number)], group);
    }
  }

  void place() {
    int64_t visits = 0;
    int64_t tiles = 0;
    int64_t packs = 0;
    size_t next = 0;
    for (size_t p = first_phase_; p < plan_.phases.size(); ++p) {
      FlatPhase range;
      range.first_tile = tiles;
      range.first_pass = static_cast<int64_t>(next);
      for (const Pass& pass : plan_.phases[p].passes) {
        range.has_query_terms = range.has_query_terms || pass.moments || pass.linear_values;
        PassPlace& place = places_[next];
        flat_.starts[next].visit = std::exchange(visits, visits + place.visits);
        place.first_tile = std::exchange(tiles, tiles + place.tiles);
        place.first_pack = std::exchange(packs, packs + size_of(place.packs));
        ++next;
      }
      range.last_tile = tiles;
      flat_.phases.push_back(range);
    }
    flat_.visits = Buffer<FlatVisit>(visits);
    flat_.tiles = Buffer<FlatTile>(tiles);
    flat_.packs = Buffer<FlatPack>(packs);
    flat_.entries = Buffer<FlatEntry>(entry_count_);
    flat_.integers = Buffer<int32_t>(integer_count_);
    place_blocks();
  }

  /// After all that is listed, and each phase's after its listed groups.
  void place_blocks() {
    if (flat_.blocks.empty()) return;
    std::vector<FlatPhase> phases;
    auto next = flat_.blocks.begin();
    for (size_t p = 0; p < flat_.phases.size(); ++p) {
      const int64_t last_pass =
          p + 1 < flat_.phases.size() ? flat_.phases[p + 1].first_pass : size_of(flat_.passes);
      FlatPhase own;
      own.first_pass = flat_.phases[p].first_pass;
      own.first_tile = flat_.tiles.size() + flat_.block_tiles;
      for (; next != flat_.blocks.end() && next->pass < last_pass; ++next) {
        next->first_tile = flat_.tiles.size() + flat_.block_tiles;
        next->first_visit = flat_.visits.size() + flat_.block_visits;
        flat_.block_tiles += next->block_count * next->block_tiles;
        flat_.block_visits += 2 * next->block_count;
      }
      own.last_tile = flat_.tiles.size() + flat_.block_tiles;
      if (flat_.phases[p].first_tile < flat_.phases[p].last_tile) phases.push_back(flat_.phases[p]);
      if (own.first_tile < own.last_tile) phases.push_back(own);
    }
    flat_.phases = std::move(phases);
  }

  void write(int32_t number) {
    const PassPlace& place = places_[static_cast<size_t>(number)];
    const FlatStart& start = flat_.starts[static_cast<size_t>(number)];
    const Pass& pass = *place.pass;
    int64_t entry = start.entry;
    for (const RowEntry& own : pass.row_entries) flat_.entries[entry++] = {own.position, own.skip};
    std::copy(place.packs.begin(), place.packs.end(), flat_.packs.data() + place.first_pack);
    int64_t visit = start.visit;
    int64_t tile = place.first_tile;
    for (const QueryGroup& group : pass.groups) {
      const int64_t first_visit = visit;
      for_each_visit(pass, group, [&](const Visit& own) {
        flat_.visits[visit++] = {start.list + own.list, static_cast<int32_t>(own.begin),
                                 static_cast<int32_t>(own.end), place.first_excluded + own.excluded_begin,
                                 place.first_excluded + own.excluded_end};
      });
      for (int64_t begin = group.begin; begin < group.end; begin += tile_rows_, ++tile)
        flat_.tiles[tile] = {number,
                             static_cast<int32_t>(begin),
                             static_cast<int32_t>(std::min(tile_rows_, group.end - begin)),
                             group.is_last ? 1 : 0,
                             first_visit,
                             visit,
                             first_pack(place, tile),
                             first_pack(place, tile + 1),
                             group.moment_keys};
    }
  }

  /// Where a tile's packs begin.
  static int64_t first_pack(const PassPlace& place, int64_t tile) {
    const int64_t own = tile - place.first_tile;
    return place.first_pack +
           (own == 0 || place.pack_end.empty() ? 0 : place.pack_end[static_cast<size_t>(own - 1)]);
  }

  void add_packs(PassPlace& place, const FlatStart& start, const QueryGroup& group) const {
    for (const std::vector<FlatPack>& own : packs_of(*place.pass, start, group)) {
      append(own, place.packs);
      place.pack_end.push_back(size_of(place.packs));
    }
  }

  [[nodiscard]] std::vector<std::vector<FlatPack>> packs_of(const Pass& pass, const FlatStart& start,
                                                            const QueryGroup& group) const {
    const auto tiles = static_cast<size_t>(tiles_of(group));
    std::vector<std::vector<FlatPack>> packs(tiles);
    std::vector<int> filled(tiles, 0);
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
        if (own.empty() || used == kPackSegments || own.back().list != start.list + visit.list) {
          own.emplace_back();
          own.back().list = start.list + visit.list;
          used = 0;
        }
        own.back().begin[used] = static_cast<int32_t>(ranks.begin);
        own.back().end[used] = static_cast<int32_t>(ranks.end);
        own.back().first_entry[used] = start.entry + e;
        own.back().last_entry[used] = start.entry + last;
        ++used;
        e = last;
      }
    });
    return packs;
  }

  const AttentionProblem& problem_;
  const Plan& plan_;
  int64_t tile_rows_;
  size_t first_phase_;
  FlatPlan flat_;
  std::vector<PassPlace> places_;
  std::vector<int64_t> listed_;  // places whose passes have groups
  std::vector<Chunk> chunks_;
  std::vector<int32_t> identity_;
  int64_t integer_count_ = 0;
  int64_t entry_count_ = 0;
  std::map<const void*, int64_t> orders_;
  std::map<const void*, int64_t> numbers_;
  std::map<const void*, int64_t> logs_;
  std::map<const void*, int64_t> terms_;
  std::map<const void*, int64_t> synthetic_;
};

/// Ranks of a list that make one job, or several where very many rows visit them.
struct KeyBlock {
  const KeyList* list = nullptr;
  int32_t flat_list = 0;
  int32_t rank = 0;
  int32_t count = 0;
  int64_t round = kNone;  ///< kNone: keys of other jobs may be among its own
  int64_t items = 0;
  int64_t rows = 0;
  int64_t first_item = 0;
};

/// The jobs of a block that have slots: `jobs` times as many slots as it has ranks.
struct SlotBlock {
  const KeyBlock* block = nullptr;
  int64_t first_slot = 0;
  int64_t jobs = 0;
};

/// What the jobs of a block give to a key row: slots `step` apart.
struct RowParts {
  int64_t row = 0;
  int64_t first_slot = 0;
  int64_t step = 0;
  int64_t jobs = 0;
  float share = 1;
};

/// Blocks of ranks of the lists of one pass, with what visits them. Items and slots are numbered from 0.
class PassInversion {
 public:
  /// Of the flat plan's pass `number`.
  PassInversion(const Pass& pass, int64_t number, const FlatPlan& flat, int64_t first_round,
                int64_t job_ranks)
      : pass_(pass),
        number_(static_cast<int32_t>(number)),
        start_(flat.starts[static_cast<size_t>(number)]),
        flat_(flat),
        job_ranks_(job_ranks) {
    collect_blocks(first_round);
    for_each_item([&](size_t block, const KeyItem& item) {
      ++blocks_[block].items;
      blocks_[block].rows += item.end - item.begin;
    });
    place_items();
  }

  [[nodiscard]] int64_t rows() const {
    int64_t rows = 0;
    for (const KeyBlock& block : blocks_) rows += block.rows;
    return rows;
  }

  /// Jobs of at most `most` rows, but for those of rounds.
  void collect_jobs(int64_t most) {
    for (const KeyBlock& block : blocks_) {
      if (block.items == 0) continue;
      const int64_t last = block.first_item + block.items;
      if (block.rows > most) {
        cut(block, most);
      } else if (block.round != kNone) {
        rounds[block.round].push_back(job_of(block, block.first_item, last, kNone));
      } else {
        with_slots.push_back(job_of(block, block.first_item, last, take_slots(block)));
      }
    }
  }

  [[nodiscard]] int64_t key_head() const { return pass_.key_head; }

  /// What key rows get from the slots, which begin at `first_slot` among all.
  void append_parts(int64_t key_count, int64_t first_slot, std::vector<RowParts>& parts) const {
    const int64_t base = pass_.key_head * key_count;
    for (const SlotBlock& own : slot_blocks_) {
      const KeyBlock& block = *own.block;
      const SyntheticKeys* synthetic = block.list->synthetic.get();
      for (int64_t i = 0; i < block.count; ++i) {
        const int64_t row = block.list->order[block.rank + i];
        const auto add = [&](int64_t key, float share) {
          parts.push_back({base + key, first_slot + own.first_slot + i, block.count, own.jobs, share});
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
  }

  std::vector<KeyItem> items;
  std::map<int64_t, std::vector<KeyJob>> rounds;  ///< jobs without slots
  std::vector<KeyJob> with_slots;
  int64_t slots = 0;

 private:
  void collect_blocks(int64_t round) {
    int32_t flat_list = start_.list;
    for (const KeyList& list : pass_.lists) {
      const bool distinct = !list.synthetic && !list.order.rows;
      first_block_.push_back(blocks_.size());
      for (int64_t rank = 0; rank < list.order.count; rank += job_ranks_)
        blocks_.push_back({&list, flat_list, static_cast<int32_t>(rank),
                           static_cast<int32_t>(std::min<int64_t>(job_ranks_, list.order.count - rank)),
                           distinct ? round : kNone});
      ++round;
      ++flat_list;
    }
  }

  /// body(block, item) for every block that an item visits.
  template <class Body>
  void for_each_item(const Body& body) const {
    int64_t next_visit = start_.visit;
    const auto add = [&](int32_t list, const KeyItem& item) {
      const size_t first = first_block_[static_cast<size_t>(list)];
      for (int64_t b = item.first_rank / job_ranks_; b * job_ranks_ < item.last_rank; ++b)
        body(first + static_cast<size_t>(b), item);
    };
    for (const QueryGroup& group : pass_.groups) {
      for_each_visit(pass_, group, [&](const Visit& visit) {
        const FlatVisit& flat = flat_.visits[next_visit++];
        if (group.begin < group.end)
          add(visit.list,
              {group.begin, group.end, flat.begin, flat.end, flat.excluded_begin, flat.excluded_end, 0});
      });
      for_each_row_visit(pass_, group, [&](const RowVisit& visit) {
        const SegmentRange ranks = segment_of(pass_.lists[static_cast<size_t>(visit.list)], visit.segment);
        if (visit.first_entry < visit.last_entry)
          add(visit.list, {start_.entry + visit.first_entry, start_.entry + visit.last_entry,
                           static_cast<int32_t>(ranks.begin), static_cast<int32_t>(ranks.end), 0, 0, 1});
      });
    }
  }

  /// The items of each block side by side, in the order of the walk.
  void place_items() {
    int64_t total = 0;
    for (KeyBlock& block : blocks_) {
      block.first_item = total;
      total += std::exchange(block.items, 0);
    }
    items.resize(static_cast<size_t>(total));
    for_each_item([&](size_t b, const KeyItem& item) {
      KeyBlock& block = blocks_[b];
      items[static_cast<size_t>(block.first_item + block.items++)] = item;
    });
  }

  [[nodiscard]] KeyJob job_of(const KeyBlock& block, int64_t first_item, int64_t last_item,
                              int64_t slot) const {
    return {number_, block.flat_list, block.rank, block.count, first_item, last_item, slot};
  }

  /// Slots for one more job of the block; its jobs come one after the other.
  int64_t take_slots(const KeyBlock& block) {
    if (slot_blocks_.empty() || slot_blocks_.back().block != &block)
      slot_blocks_.push_back({&block, slots, 0});
    ++slot_blocks_.back().jobs;
    return std::exchange(slots, slots + block.count);
  }

  /// Several jobs of at most `most` rows, with items of their own.
  void cut(const KeyBlock& block, int64_t most) {
    int64_t taken = 0;
    for (int64_t i = block.first_item; i < block.first_item + block.items; ++i) {
      const KeyItem item = items[static_cast<size_t>(i)];
      for (int64_t begin = item.begin; begin < item.end;) {
        const int64_t place = size_of(items);
        if (taken == 0) with_slots.push_back(job_of(block, place, place, take_slots(block)));
        KeyItem part = item;
        part.begin = begin;
        part.end = std::min(item.end, begin + most - taken);
        items.push_back(part);
        with_slots.back().last_item = place + 1;
        taken += part.end - part.begin;
        begin = part.end;
        if (taken >= most) taken = 0;
      }
    }
  }

  const Pass& pass_;
  int32_t number_;
  FlatStart start_;
  const FlatPlan& flat_;
  int64_t job_ranks_;
  std::vector<KeyBlock> blocks_;
  std::vector<size_t> first_block_;  // of every list
  std::vector<SlotBlock> slot_blocks_;
};

/// What the rows of a key head get from slots, rows in increasing order.
struct HeadParts {
  std::vector<int64_t> rows;
  std::vector<int64_t> part_end;
  std::vector<KeyPart> parts;
};

/// Each row adds its parts in the order of slots.
HeadParts head_parts(std::vector<RowParts> all) {
  std::stable_sort(all.begin(), all.end(),
                   [](const RowParts& a, const RowParts& b) { return a.row < b.row; });
  HeadParts own;
  for (const RowParts& parts : all) {
    if (own.rows.empty() || own.rows.back() != parts.row) {
      own.rows.push_back(parts.row);
      own.part_end.push_back(size_of(own.parts));
    }
    for (int64_t job = 0; job < parts.jobs; ++job)
      own.parts.push_back({parts.first_slot + job * parts.step, parts.share});
    own.part_end.back() = size_of(own.parts);
  }
  return own;
}

/// The blocks of all passes of a phase.
class Inversion {
 public:
  Inversion(const AttentionProblem& problem, const Plan& plan, const FlatPlan& flat, int64_t phase,
            int64_t job_ranks)
      : problem_(problem),
        phase_(plan.phases[static_cast<size_t>(phase)]),
        first_pass_(flat.phases[static_cast<size_t>(phase)].first_pass),
        flat_(flat),
        job_ranks_(job_ranks),
        passes_(phase_.passes.size()) {}

  KeyWork run() {
    int64_t most_lists = 0;
    for (const Pass& pass : phase_.passes) most_lists = std::max(most_lists, size_of(pass.lists));
    const int64_t heads_per_key_head = problem_.heads() / problem_.key_heads();
    for_each_pass_of_phase([&](size_t p) {
      const Pass& pass = phase_.passes[p];
      passes_[p] = std::make_unique<PassInversion>(pass, first_pass_ + static_cast<int64_t>(p), flat_,
                                                   pass.head % heads_per_key_head * most_lists, job_ranks_);
    });
    const int64_t most = longest_job();
    for_each_pass_of_phase([&](size_t p) { passes_[p]->collect_jobs(most); });
    place();
    collect_parts();
    return std::move(work_);
  }

 private:
  template <class Body>
  void for_each_pass_of_phase(const Body& body) const {
    parallel_for(size_of(passes_), [&](int64_t p, int) { body(static_cast<size_t>(p)); });
  }

  /// Most rows of a job: enough jobs for a whole card, none shorter than is worth its scratch rows.
  [[nodiscard]] int64_t longest_job() const {
    constexpr int64_t kJobs = 4096;
    constexpr int64_t kLeastRows = 2048;
    int64_t rows = 0;
    for (const auto& pass : passes_) rows += pass->rows();
    return std::max(kLeastRows, rows / kJobs);
  }

  /// Jobs by rounds, then those with slots, each in the order of passes.
  void place() {
    int64_t items = 0;
    int64_t jobs = 0;
    std::map<int64_t, int64_t> job_of_round;
    for (const auto& pass : passes_) {
      first_item_.push_back(items);
      first_slot_.push_back(work_.slots);
      items += size_of(pass->items);
      work_.slots += pass->slots;
      for (const auto& [round, own] : pass->rounds) job_of_round[round] += size_of(own);
    }
    for (auto& [round, count] : job_of_round) {
      jobs += std::exchange(count, jobs);
      work_.round_end.push_back(jobs);
    }
    struct Copy {
      const std::vector<KeyJob>* jobs;
      int64_t target;
      size_t pass;
    };
    std::vector<Copy> copies;
    for (size_t p = 0; p < passes_.size(); ++p)
      for (const auto& [round, own] : passes_[p]->rounds) {
        copies.push_back({&own, job_of_round[round], p});
        job_of_round[round] += size_of(own);
      }
    for (size_t p = 0; p < passes_.size(); ++p) {
      copies.push_back({&passes_[p]->with_slots, jobs, p});
      jobs += size_of(passes_[p]->with_slots);
    }
    work_.jobs = Buffer<KeyJob>(jobs);
    work_.items = Buffer<KeyItem>(items);
    parallel_for(size_of(copies), [&](int64_t c, int) {
      const Copy& copy = copies[static_cast<size_t>(c)];
      int64_t target = copy.target;
      for (KeyJob job : *copy.jobs) {
        job.first_item += first_item_[copy.pass];
        job.last_item += first_item_[copy.pass];
        if (job.slot != kNone) job.slot += first_slot_[copy.pass];
        work_.jobs[target++] = job;
      }
    });
    for_each_pass_of_phase([&](size_t p) {
      std::copy(passes_[p]->items.begin(), passes_[p]->items.end(), work_.items.data() + first_item_[p]);
    });
    if (!work_.round_end.empty())
      work_.covers_keys = std::accumulate(work_.jobs.begin(), work_.jobs.begin() + work_.round_end[0],
                                          int64_t{0}, [](int64_t rows, const KeyJob& job) {
                                            return rows + job.count;
                                          }) == problem_.key_heads() * problem_.key_count();
  }

  void collect_parts() {
    std::vector<HeadParts> heads(static_cast<size_t>(problem_.key_heads()));
    parallel_for(problem_.key_heads(), [&](int64_t head, int) {
      std::vector<RowParts> all;
      for (size_t p = 0; p < passes_.size(); ++p)
        if (passes_[p]->key_head() == head)
          passes_[p]->append_parts(problem_.key_count(), first_slot_[p], all);
      heads[static_cast<size_t>(head)] = head_parts(std::move(all));
    });
    std::vector<int64_t> first_row = {0};
    std::vector<int64_t> first_part = {0};
    for (const HeadParts& own : heads) {
      first_row.push_back(first_row.back() + size_of(own.rows));
      first_part.push_back(first_part.back() + size_of(own.parts));
    }
    work_.rows = Buffer<int64_t>(first_row.back());
    work_.part_begin = Buffer<int64_t>(first_row.back() + 1);
    work_.parts = Buffer<KeyPart>(first_part.back());
    work_.part_begin[0] = 0;
    parallel_for(problem_.key_heads(), [&](int64_t head, int) {
      const auto h = static_cast<size_t>(head);
      std::copy(heads[h].rows.begin(), heads[h].rows.end(), work_.rows.data() + first_row[h]);
      std::copy(heads[h].parts.begin(), heads[h].parts.end(), work_.parts.data() + first_part[h]);
      std::transform(heads[h].part_end.begin(), heads[h].part_end.end(),
                     work_.part_begin.data() + first_row[h] + 1,
                     [&](int64_t end) { return first_part[h] + end; });
    });
  }

  const AttentionProblem& problem_;
  const Phase& phase_;
  int64_t first_pass_;
  const FlatPlan& flat_;
  int64_t job_ranks_;
  std::vector<std::unique_ptr<PassInversion>> passes_;
  std::vector<int64_t> first_item_;  // of every pass
  std::vector<int64_t> first_slot_;
  KeyWork work_;
};

}  // namespace

FlatPlan flatten(const AttentionProblem& problem, const Plan& plan, int64_t tile_rows, size_t first_phase) {
  return Flattening(problem, plan, tile_rows, first_phase).run();
}

bool is_plain(const Plan& plan, size_t first_phase) {
  const auto is_plain_list = [](const KeyList& list) {
    return !list.linear_value && !list.signed_weights && !list.has_factor();
  };
  for (size_t p = first_phase; p < plan.phases.size(); ++p)
    for (const Pass& pass : plan.phases[p].passes)
      if (!pass.row_visits.empty() || pass.moments || pass.linear_values ||
          !std::all_of(pass.lists.begin(), pass.lists.end(), is_plain_list))
        return false;
  return true;
}

int64_t most_rows_of_group(const Plan& plan, size_t first_phase) {
  int64_t most = 0;
  for (size_t p = first_phase; p < plan.phases.size(); ++p)
    for (const Pass& pass : plan.phases[p].passes) {
      if (pass.blocks) most = std::max(most, rows_of_block(pass));
      for (const QueryGroup& group : pass.groups) most = std::max(most, group.end - group.begin);
    }
  return most;
}

KeyWork invert(const AttentionProblem& problem, const Plan& plan, const FlatPlan& flat, int64_t phase,
               int64_t job_ranks) {
  return Inversion(problem, plan, flat, phase, job_ranks).run();
}

}  // namespace hyperattn::cuda
