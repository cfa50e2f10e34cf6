// Nyström coresets (WildCat, arXiv 2602.10056): pivot keys with signed weights stand for all keys of a head,
// or of a node of the causal recursion. Leaves, small nodes and nodes of at most coreset_size keys are exact.
#include <algorithm>
#include <limits>
#include <utility>

#include "algorithms/method.h"
#include "algorithms/methods/sparse.h"
#include "algorithms/nodes/node_work.h"
#include "algorithms/primitives/nystrom.h"
#include "core/parallel.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

constexpr double kMaxRows = std::numeric_limits<int32_t>::max();

std::vector<ParameterSpec> declared_parameters() {
  std::vector<ParameterSpec> specs = {
      integer_parameter("coreset_size", "pivot keys (r) that stand for all keys of a head or causal node")
          .between(1, kMaxRows)
          .by_default(int64_t{256})};
  for (ParameterSpec& spec : nystrom_parameters()) specs.push_back(std::move(spec));
  specs.push_back(min_seq_len_parameter());
  specs.push_back(sink_parameter());
  return specs;
}

class CoresetMethod final : public DescribedMethod {
 public:
  CoresetMethod()
      : DescribedMethod({"coreset",
                         "a Nystroem coreset (WildCat): pivot keys with signed weights in place of all keys",
                         {.approximate = true},
                         declared_parameters()}) {}

  [[nodiscard]] std::string check(const AttentionProblem& shapes,
                                  const Parameters& parameters) const override {
    const int64_t size = parameters.integer("coreset_size");
    if (shapes.window > 0) return "cannot honour a window of keys; only exact attention can";
    if (size > shapes.key_count())
      return "coreset_size must be at most the number of keys, " + std::to_string(shapes.key_count()) +
             ", but is " + std::to_string(size);
    if (std::string wrong = check_sinks(shapes, parameters); !wrong.empty()) return wrong;
    return check_bins(parameters, "coreset_size", size);
  }
  [[nodiscard]] std::string no_gradient(const Parameters&) const override {
    return "has no gradient, because its weights depend on all keys and values; use another method, such as "
           "thinned";
  }

  [[nodiscard]] double estimated_entries(const AttentionProblem& shapes,
                                         const Parameters& parameters) const override {
    const auto size = static_cast<double>(parameters.integer("coreset_size"));
    return estimate_node_entries(shapes, node_tree(shapes, parameters), [size](const AttentionNode& node) {
      return std::min(size, static_cast<double>(node.key_count()));
    });
  }
  [[nodiscard]] double estimated_bytes(const AttentionProblem& shapes,
                                       const Parameters& parameters) const override {
    const NystromOptions options = nystrom_options(parameters);
    const auto size = static_cast<double>(parameters.integer("coreset_size"));
    const double columns =
        size / static_cast<double>(options.pivots == PivotRule::per_bin ? 1 : options.bins);
    const auto at_once = static_cast<double>(std::min<int64_t>(shapes.heads(), thread_count()));
    return at_once * static_cast<double>(shapes.key_count()) *
           (static_cast<double>(shapes.head_dim()) + columns) * sizeof(double);
  }

  [[nodiscard]] PlannedCall plan(const BoundProblem& bound, const Call& call) const override {
    const Stopwatch watch;
    const AttentionProblem& problem = bound.problem();
    const NodeTree tree = node_tree(problem, call.parameters);
    const std::vector<HeadNode> nodes = approximated_nodes(tree, problem.heads());
    std::vector<std::vector<Pass>> passes(nodes.size());
    for_each_node(nodes, [&](size_t i) { passes[i].push_back(pass_of(problem, nodes[i], call)); });
    Plan plan = assemble_plan(problem, tree, nodes, std::move(passes));
    plan.clip_to_values = true;
    PlannedCall planned;
    planned.plan = std::make_shared<const Plan>(std::move(plan));
    planned.notes.stage_seconds[stage_name(Stage::draw)] = watch.seconds();
    return planned;
  }

 private:
  static Pass pass_of(const AttentionProblem& problem, const HeadNode& place, const Call& call) {
    const AttentionNode& node = place.node;
    const int64_t size = call.parameters.integer("coreset_size");
    if (node.key_count() <= size) return exact_node_pass(problem, place.head, node);
    const NystromKeys keys =
        nystrom_keys(problem, place, RowOrder::run(node.key_begin, node.key_count()), node.level > 0);
    PivotList pivots(keys, size);
    for (const NystromBin& bin : nystrom_bins(keys, nystrom_options(call.parameters), size, {},
                                              node_stream(call, Purpose::pivot, place)))
      pivots.add(bin, bin.total());
    PassBuilder pass(problem, place.head, node.number, RowOrder::run(node.query_begin, node.query_count()));
    return pass.everything_sees_all(pass.add_list(pivots.take())).take();
  }
};

}  // namespace

const Method& method_coreset() {
  static const CoresetMethod method;
  return method;
}

}  // namespace hyperattn
