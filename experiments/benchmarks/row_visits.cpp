// Plans in which every query row picks its own runs of keys, as the routing tree makes them, beside the
// tree's planning: what the engine alone takes for them.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "algorithms/plan_builder.h"
#include "algorithms/registry.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/timing.h"
#include "experiments/benchmarks/one_head.h"

namespace hyperattn {
namespace {

constexpr int64_t kRuns = 16;        // of exact keys that a row picks
constexpr int64_t kChildren = 8;     // of a node of the tree
constexpr int64_t kNeighbours = 64;  // rows of one neighbourhood pick among few runs

struct Level {
  int64_t keys;    // that a mean stands for
  int64_t picked;  // segments of means that a row visits
};
constexpr Level kLevels[] = {{1024, 0}, {128, 8}, {16, 16}};  // 0: all

KeyList run_list(int64_t rows) {
  KeyList list;
  std::vector<int32_t> order(static_cast<size_t>(rows));
  std::iota(order.begin(), order.end(), 0);
  const RandomStream stream(5, Purpose::other);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[stream.below(i, i)]);
  list.order = RowOrder::list(std::move(order));
  list.stage = Stage::block;
  return list;
}

/// Means of runs of `size` keys in the order of `keys`.
KeyList mean_list(const AttentionProblem& problem, const KeyList& keys, int64_t size) {
  auto means = std::make_shared<SyntheticKeys>();
  const int64_t count = (keys.order.count + size - 1) / size;
  means->key = Tensor<float>({1, 1, count, problem.head_dim()}, 0.0F);
  means->value = Tensor<float>({1, 1, count, problem.value_dim()}, 0.0F);
  means->member_order = keys.order;
  for (int64_t m = 0; m <= count; ++m) means->member_begin.push_back(std::min(m * size, keys.order.count));
  for (int64_t m = 0; m < count; ++m)
    for (int64_t rank = means->member_begin[static_cast<size_t>(m)];
         rank < means->member_begin[static_cast<size_t>(m) + 1]; ++rank) {
      const float share = means->share(m, rank);
      for (int64_t c = 0; c < problem.head_dim(); ++c)
        means->key.matrix(0).row(m)[c] += share * problem.keys_of(0).row(keys.order[rank])[c];
      for (int64_t c = 0; c < problem.value_dim(); ++c)
        means->value.matrix(0).row(m)[c] += share * problem.values_of(0).row(keys.order[rank])[c];
    }
  KeyList list;
  list.order = RowOrder::run(0, count);
  list.uniform_log_weight = std::log(static_cast<float>(size));
  list.synthetic = std::move(means);
  list.stage = Stage::sample;
  return list;
}

void cut(KeyList& list, int64_t width) {
  std::vector<int32_t> offsets;
  for (int64_t rank = 0; rank < list.order.count; rank += width)
    offsets.push_back(static_cast<int32_t>(rank));
  offsets.push_back(static_cast<int32_t>(list.order.count));
  list.segments = std::make_shared<const std::vector<int32_t>>(std::move(offsets));
}

/// Each row picks `picked` of a list's segments, all if 0: any, or those near its neighbourhood's place.
class Picker {
 public:
  Picker(int64_t rows, bool clustered) : rows_(rows), clustered_(clustered) {}

  void visit(const KeyList& list, int32_t number, int64_t picked, bool skips, PassBuilder& pass) {
    const auto segments = static_cast<int64_t>(list.segments->size()) - 1;
    if (picked == 0) picked = segments;
    std::vector<std::vector<RowEntry>> entries(static_cast<size_t>(segments));
    for (int64_t row = 0; row < rows_; ++row) {
      const int64_t span = clustered_ ? std::min(segments, 4 * picked) : segments;
      const int64_t first = clustered_ ? row / kNeighbours * 37 % segments : 0;
      int64_t left = picked;
      for (int64_t s = 0; s < span; ++s) {
        if (below(span - s) >= left) continue;
        --left;
        const auto skip = static_cast<uint16_t>(skips ? below(256) : 0);
        entries[static_cast<size_t>((first + s) % segments)].push_back({static_cast<int32_t>(row), skip});
      }
    }
    for (int64_t s = 0; s < segments; ++s)
      pass.visit_segment(number, static_cast<int32_t>(s), entries[static_cast<size_t>(s)]);
  }

 private:
  int64_t below(int64_t bound) {
    return static_cast<int64_t>(stream_.below(next_++, static_cast<uint64_t>(bound)));
  }

  int64_t rows_;
  bool clustered_;
  RandomStream stream_{6, Purpose::other};
  uint64_t next_ = 0;
};

Plan plan_of_row_visits(const AttentionProblem& problem, bool clustered, bool factors) {
  const int64_t rows = problem.query_count();
  std::vector<KeyList> lists = {run_list(problem.key_count())};
  for (const Level& level : kLevels) lists.push_back(mean_list(problem, lists[0], level.keys));
  cut(lists[0], kSegmentKeys);
  cut(lists[1], kSegmentKeys);
  cut(lists[2], kChildren);
  cut(lists[3], kChildren);
  PassBuilder pass(problem, 0, 0, RowOrder::run(0, rows));
  for (size_t l = 1; l < lists.size() && factors; ++l) {
    lists[l].linear_value = true;
    lists[l].factor.row = std::make_shared<const std::vector<float>>(rows, 0.5F);
    lists[l].factor.rank = std::make_shared<const std::vector<float>>(lists[l].order.count, 1.0F);
  }
  if (factors) {
    auto linear = std::make_shared<LinearValues>();
    linear->variance.assign(static_cast<size_t>(problem.head_dim()), 0.0F);
    linear->cross_covariance.assign(static_cast<size_t>(problem.head_dim() * problem.value_dim()), 0.01F);
    pass.with_linear_values(linear);
  }
  for (const KeyList& list : lists) pass.add_list(list);
  pass.group(0, rows);
  Picker picker(rows, clustered);
  picker.visit(lists[0], 0, kRuns, false, pass);
  for (size_t l = 1; l < lists.size(); ++l)
    picker.visit(lists[l], static_cast<int32_t>(l), kLevels[l - 1].picked, true, pass);
  PlanBuilder plan;
  plan.phase().add(pass.take());
  return plan.take();
}

void row_visits(benchmark::State& state, bool clustered, bool factors, bool backward) {
  set_thread_count(static_cast<int>(state.range(2)));
  const OneHead head(state.range(0), state.range(1), false);
  const Plan plan = plan_of_row_visits(head.problem, clustered, factors);
  const Engine& engine = default_engine();
  const auto bound = engine.bind(head.problem, default_parameters(engine.parameters()));
  for (auto _ : state) {
    const Stopwatch watch;
    const AttentionResult result = engine.forward(*bound, plan, {});
    if (backward) {
      const AttentionGradients gradients = engine.backward(*bound, plan, result, head.output_gradient.view());
      benchmark::DoNotOptimize(gradients.dquery.data());
    }
    state.SetIterationTime(watch.seconds());
  }
  state.SetItemsProcessed(state.iterations() * head.problem.query_count());
}

void add(const std::string& name, bool clustered, bool factors, bool backward) {
  benchmark::RegisterBenchmark(("row_visits/" + name).c_str(), row_visits, clustered, factors, backward)
      ->ArgNames({"n", "d", "threads"})
      ->ArgsProduct({{16384}, {64}, {1, 2}})
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

void register_row_visit_benchmarks() {
  for (const bool clustered : {false, true}) {
    const std::string kind = clustered ? "clustered" : "random";
    add(kind + "/plain/forward", clustered, false, false);
    add(kind + "/corrected/forward", clustered, true, false);
    add(kind + "/plain/forward_backward", clustered, false, true);
  }
}

}  // namespace hyperattn
