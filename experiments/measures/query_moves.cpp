// How often later queries decide which block of keys an earlier row meets. Sorted queries are cut into blocks
// by rank, and in a causal problem the rank of row i counts rows after it: what it attends to then depends on
// the future, although it never sees a later key or value. For sampled rows of every cross node, all later
// queries of the node are replaced by others of the node, and the row's keys in the mask are compared.
#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <utility>

#include "algorithms/plan_walk.h"
#include "experiments/measures/described_measure.h"
#include "experiments/measures/measures.h"

namespace hyperattn {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// A cross node of one head, and what is seen of it.
struct Probe {
  HeadNode place;
  RandomStream stream;
  std::vector<int32_t> rows;  ///< sampled query rows of the node, increasing, counted from its first
  int64_t moved = 0;

  [[nodiscard]] size_t count() const { return rows.size(); }
};

/// The probes of all cross nodes, by level.
std::map<int, std::vector<Probe>> draw_probes(const MeasureContext& context, int64_t rows_per_node) {
  std::map<int, std::vector<Probe>> levels;
  for (const HeadNode& place : context.approximated_nodes()) {
    const RandomStream stream(context.call.seed, Purpose::query_moves, context.call.trial,
                              static_cast<uint32_t>(place.head), place.node.stream);
    const int64_t queries = place.node.query_count();
    levels[place.node.level].push_back(
        {place, stream, sample_without_replacement(stream, queries, std::min(rows_per_node, queries))});
  }
  return levels;
}

/// The keys that the mask gives to one query of a node, in order.
std::vector<int32_t> masked_keys(const Plan& plan, const HeadNode& place, int64_t row) {
  std::vector<int32_t> keys;
  for (const Phase& phase : plan.phases)
    for (const Pass& pass : phase.passes) {
      if (phase.level != place.node.level || pass.head != place.head || pass.node != place.node.number)
        continue;
      for (const QueryGroup& group : pass.groups)
        for (int64_t position = group.begin; position < group.end; ++position)
          if (pass.queries[position] == place.node.query_begin + row)
            for_each_entry_of_row(pass, group, position, [&](const PlanEntry& entry) {
              keys.push_back(static_cast<int32_t>(entry.key_row()));
            });
    }
  std::sort(keys.begin(), keys.end());
  return keys;
}

/// The mask's entries as the backend plans them for other queries.
Plan planned_mask(const MeasureContext& context, const AttentionProblem& problem) {
  const auto bound = context.backend.bind(problem, context.call.parameters);
  return context.backend.method().plan_masks(*bound, context.call)->masked(problem);
}

/// Replaces the node's queries [begin, end) by randomly chosen ones of the same node.
void replace_queries(const AttentionProblem& problem, const Probe& probe, int64_t begin, int64_t end,
                     Tensor<float>& query) {
  const AttentionNode& node = probe.place.node;
  const auto count = static_cast<uint64_t>(node.query_count());
  for (int64_t row = begin; row < end; ++row) {
    // Numbers below `count` have chosen the sampled rows.
    const auto chosen = static_cast<int64_t>(probe.stream.below(count + static_cast<uint64_t>(row), count));
    std::copy_n(problem.query.matrix(probe.place.head).row(node.query_begin + chosen), problem.head_dim(),
                query.matrix(probe.place.head).row(node.query_begin + row));
  }
}

/// Counts the moved rows of one level, whose nodes have no query in common: each round goes on to the next
/// earlier sampled row of every node.
void count_moves(const MeasureContext& context, const Plan& before, std::vector<Probe>& probes) {
  AttentionProblem problem = context.problem();
  Tensor<float> query(problem.query.shape);
  std::copy_n(problem.query.data, problem.query.shape.size(), query.data());
  problem.query = query.view();
  size_t rounds = 0;
  for (const Probe& probe : probes) rounds = std::max(rounds, probe.count());
  for (size_t round = 1; round <= rounds; ++round) {
    for (const Probe& probe : probes) {
      if (round > probe.count()) continue;
      const int64_t end =
          round == 1 ? probe.place.node.query_count() : probe.rows[probe.count() - round + 1] + 1;
      replace_queries(context.problem(), probe, probe.rows[probe.count() - round] + 1, end, query);
    }
    const Plan after = planned_mask(context, problem);
    for (Probe& probe : probes) {
      if (round > probe.count()) continue;
      const int64_t row = probe.rows[probe.count() - round];
      const bool same = masked_keys(before, probe.place, row) == masked_keys(after, probe.place, row);
      probe.moved += same ? 0 : 1;
    }
  }
}

/// Moved rows over all rows, each node by its number of queries.
struct Share {
  double moved = 0;
  double rows = 0;

  void add(const Probe& probe) {
    const auto queries = static_cast<double>(probe.place.node.query_count());
    moved += queries * static_cast<double>(probe.moved) / static_cast<double>(probe.count());
    rows += queries;
  }
  [[nodiscard]] double value() const { return rows > 0 ? moved / rows : kNaN; }
};

std::vector<FigureRow> compute(MeasureContext& context, const Parameters& parameters) {
  std::vector<Share> of_heads(static_cast<size_t>(context.problem().heads()));
  LevelRows levels;
  if (context.problem().causal && context.forward.planned.masks) {
    const Plan before = context.forward.planned.masks->masked(context.problem());
    for (auto& [level, probes] : draw_probes(context, parameters.integer("rows"))) {
      count_moves(context, before, probes);
      std::map<int64_t, Share> of_level;
      for (const Probe& probe : probes) {
        of_heads[static_cast<size_t>(probe.place.head)].add(probe);
        of_level[probe.place.head].add(probe);
      }
      for (const auto& [head, share] : of_level) levels.note(level, "query_moves", share.value());
    }
  }
  std::vector<FigureRow> rows = rows_of_heads(context, [&](int64_t head, FigureRow& row) {
    row.figures["query_moves"] = of_heads[static_cast<size_t>(head)].value();
  });
  levels.append_to(rows);
  return rows;
}

}  // namespace

const Measure& query_moves_measure() {
  static const DescribedMeasure measure({
      "query_moves",
      "causal: how often later queries change the block of keys that a row meets",
      {integer_parameter(
           "rows", "sampled query rows of each cross node; each costs one plan of the mask for every level")
           .at_least(1)
           .by_default(32)
           .in_column("query_moves_rows")},
      {{"query_moves",
        "share of rows of cross nodes whose keys in the mask change when all later queries of the node are "
        "replaced; NaN where nothing is approximated or the problem is not causal"}},
      compute,
  });
  return measure;
}

}  // namespace hyperattn
