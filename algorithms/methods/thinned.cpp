// Thinning (Thinformer, arXiv 2502.12063): kernel halving leaves a few keys with weights 2^halvings, for all
// rows of a head or of a node of the causal recursion; or, streaming (Express, arXiv 2606.10944), a cache of
// the keys before each block of rows, beside the block itself.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "algorithms/method.h"
#include "algorithms/methods/sparse.h"
#include "algorithms/nodes/node_work.h"
#include "algorithms/primitives/thinning.h"
#include "core/parallel.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

constexpr double kMaxRows = std::numeric_limits<int32_t>::max();

std::vector<ParameterSpec> declared_parameters() {
  return {
      integer_parameter("compress_g", "2^g·sqrt(n) keys are kept of n: oversampling of compress")
          .between(0, 16)
          .by_default(int64_t{2})
          .not_with("streaming", {true}),
      thinning_delta_parameter(),
      boolean_parameter("streaming",
                        "a cache of weighted keys that goes through the sequence, in place of compress and "
                        "of the recursion: causal rows see the cache of their own time"),
      integer_parameter("stream_block",
                        "keys that join the cache at once; causal rows see those of their own block exactly")
          .between(1, kMaxRows)
          .by_default(int64_t{256})
          .only_with("streaming", {true}),
      integer_parameter("cache_size", "most keys of the cache; it holds all keys up to there")
          .between(1, kMaxRows)
          .by_default(int64_t{512})
          .only_with("streaming", {true}),
      min_seq_len_parameter().not_with("streaming", {true}),
      sink_parameter()};
}

int64_t kept_keys(int64_t keys, int64_t g) {
  const double wanted = std::exp2(g) * std::sqrt(static_cast<double>(keys));
  return std::min(keys, static_cast<int64_t>(wanted));
}

bool is_streaming(const Parameters& parameters) {
  return parameters.boolean("streaming");
}

/// Blocks of key positions.
std::vector<CausalLeaf> stream_blocks(const AttentionProblem& problem, int64_t block) {
  std::vector<CausalLeaf> blocks;
  for (int64_t begin = 0; begin < problem.key_count(); begin += block)
    blocks.push_back({begin, std::min(begin + block, problem.key_count())});
  return blocks;
}

/// The first `sinks` keys, then others.
std::vector<ThinnedKey> behind_sinks(int64_t sinks, const std::vector<ThinnedKey>& keys) {
  std::vector<ThinnedKey> all;
  for (int64_t row = 0; row < sinks; ++row) all.push_back({static_cast<int32_t>(row), 0});
  all.insert(all.end(), keys.begin(), keys.end());
  return all;
}

KeyList list_of(const std::vector<ThinnedKey>& keys) {
  ColumnSample sample = as_sample(keys, 0);
  KeyList list;
  list.order = RowOrder::list(std::move(sample.rows));
  list.log_weight = std::make_shared<const std::vector<float>>(std::move(sample.log_weights));
  list.stage = Stage::sample;
  return list;
}

ThinningKernel kernel_of(const AttentionProblem& problem, int64_t head) {
  return {problem.keys_of(head), problem.values_of(head), problem.scale};
}

class ThinnedMethod final : public DescribedMethod {
 public:
  ThinnedMethod()
      : DescribedMethod({"thinned",
                         "thinned keys (Thinformer, Express): kernel halving in place of sampling",
                         {.approximate = true},
                         declared_parameters()}) {}

  [[nodiscard]] std::string check(const AttentionProblem& shapes,
                                  const Parameters& parameters) const override {
    if (shapes.window > 0) return "cannot honour a window of keys; only exact attention can";
    return check_sinks(shapes, parameters);
  }

  [[nodiscard]] double estimated_entries(const AttentionProblem& shapes,
                                         const Parameters& parameters) const override {
    if (is_streaming(parameters)) return streaming_entries(shapes, parameters);
    return estimate_node_entries(shapes, node_tree(shapes, parameters), [&](const AttentionNode& node) {
      return static_cast<double>(kept_keys(node.key_count(), parameters.integer("compress_g")));
    });
  }
  [[nodiscard]] double estimated_bytes(const AttentionProblem& shapes,
                                       const Parameters& parameters) const override {
    if (!is_streaming(parameters)) return 0;
    const auto keys = static_cast<double>(shapes.key_count());
    const double blocks = std::ceil(keys / static_cast<double>(parameters.integer("stream_block")));
    const double cache = std::min(keys, static_cast<double>(parameters.integer("cache_size")));
    return static_cast<double>(shapes.heads()) * blocks * cache * 3 * sizeof(float);
  }

  [[nodiscard]] PlannedCall plan(const BoundProblem& bound, const Call& call) const override {
    const Stopwatch watch;
    PlannedCall planned;
    planned.plan =
        std::make_shared<const Plan>(is_streaming(call.parameters) ? streaming_plan(bound.problem(), call)
                                                                   : node_plan(bound.problem(), call));
    planned.notes.stage_seconds[stage_name(Stage::draw)] = watch.seconds();
    return planned;
  }

 private:
  static double streaming_entries(const AttentionProblem& shapes, const Parameters& parameters) {
    const auto capacity =
        static_cast<double>(parameters.integer("cache_size") + parameters.integer("sink_keys"));
    if (!shapes.causal)
      return std::min(capacity, static_cast<double>(shapes.key_count())) *
             static_cast<double>(shapes.heads() * shapes.query_count());
    double entries = 0;
    for (const CausalLeaf& block : stream_blocks(shapes, parameters.integer("stream_block"))) {
      const auto rows = static_cast<double>(block.end - std::max(block.begin, shapes.causal_offset()));
      if (rows > 0) entries += rows * ((rows + 1) / 2 + std::min(capacity, static_cast<double>(block.begin)));
    }
    return entries * static_cast<double>(shapes.heads());
  }

  static Plan node_plan(const AttentionProblem& problem, const Call& call) {
    const NodeTree tree = node_tree(problem, call.parameters);
    const std::vector<HeadNode> nodes = approximated_nodes(tree, problem.heads());
    std::vector<std::vector<Pass>> passes(nodes.size());
    for_each_node(nodes, [&](size_t i) { passes[i].push_back(node_pass(problem, nodes[i], call)); });
    return assemble_plan(problem, tree, nodes, std::move(passes));
  }

  static Pass node_pass(const AttentionProblem& problem, const HeadNode& place, const Call& call) {
    const AttentionNode& node = place.node;
    const int64_t keep = kept_keys(node.key_count(), call.parameters.integer("compress_g"));
    if (keep == node.key_count()) return exact_node_pass(problem, place.head, node);
    const FailureShare failure{call.parameters.number("thinning_delta"),
                               static_cast<double>(node.key_count() - keep)};
    PassBuilder pass(problem, place.head, node.number, RowOrder::run(node.query_begin, node.query_count()));
    const int32_t list =
        pass.add_list(list_of(thin_rows(kernel_of(problem, place.head), node.key_begin, node.key_end, keep,
                                        failure, node_stream(call, Purpose::thinning, place))));
    return pass.everything_sees_all(list).take();
  }

  static Plan streaming_plan(const AttentionProblem& problem, const Call& call) {
    const std::vector<CausalLeaf> blocks = stream_blocks(problem, call.parameters.integer("stream_block"));
    PlanBuilder plan;
    plan.phase(0);
    for (int64_t head = 0; problem.causal && head < problem.heads(); ++head)
      plan.add(leaves_pass(problem, head, blocks));
    std::vector<Pass> passes(static_cast<size_t>(problem.heads()));
    parallel_for(problem.heads(), [&](int64_t head, int) {
      passes[static_cast<size_t>(head)] = cache_pass(problem, head, blocks, call);
    });
    plan.phase(1);
    for (Pass& pass : passes) plan.add(std::move(pass));
    return plan.take();
  }

  /// Every block of rows against the cache of the keys before it; without a mask all rows against that of
  /// all.
  static Pass cache_pass(const AttentionProblem& problem, int64_t head, const std::vector<CausalLeaf>& blocks,
                         const Call& call) {
    const Parameters& parameters = call.parameters;
    const RandomStream stream(call.seed, Purpose::thinning, call.trial, static_cast<uint32_t>(head));
    const int64_t sinks = parameters.integer("sink_keys");
    const auto caches = streamed_caches(kernel_of(problem, head), sinks, problem.key_count(),
                                        parameters.integer("stream_block"), parameters.integer("cache_size"),
                                        parameters.number("thinning_delta"), stream);
    const int64_t offset = problem.causal_offset();
    PassBuilder pass(problem, head, 0, RowOrder::run(0, problem.query_count()));
    if (!problem.causal)
      return pass.everything_sees_all(pass.add_list(list_of(behind_sinks(sinks, caches.back())))).take();
    for (size_t t = 1; t < blocks.size(); ++t) {
      if (blocks[t].end <= offset) continue;
      const int32_t list = pass.add_list(list_of(behind_sinks(std::min(sinks, blocks[t].begin), caches[t])));
      pass.group(std::max<int64_t>(blocks[t].begin - offset, 0), blocks[t].end - offset).visit_all(list);
    }
    return pass.take();
  }
};

}  // namespace

const Method& method_thinned() {
  static const ThinnedMethod method;
  return method;
}

}  // namespace hyperattn
