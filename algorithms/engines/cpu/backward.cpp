#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "algorithms/check_plan.h"
#include "algorithms/engines/cpu/backward_worker.h"
#include "algorithms/engines/cpu/run_plan.h"
#include "core/error.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

/// Adds the gathered gradient of one rank, replicas in order, to the row or the members that stand behind it.
class Scatter {
 public:
  Scatter(const BackwardRun& run, const ListPiece& piece, GatheredGradients& gathered)
      : run_(run), piece_(piece), gathered_(gathered) {}

  void rank(int64_t index) const {
    scatter(gathered_.values, run_.dvalue, index);
    if (!run_.only_values()) scatter(gathered_.keys, run_.dkey, index);
  }

 private:
  void scatter(Buffer<float>& buffer, TensorView<float> target, int64_t index) const {
    const int64_t width = target.shape.dim;
    float* sum = buffer.data() + index * width;
    for (int64_t r = 1; r < piece_.replicas; ++r)
      add_scaled(sum + r * piece_.count * width, 1.0F, width, sum);
    const KeyList& list = piece_.pass->lists[static_cast<size_t>(piece_.list)];
    const int64_t row = list.order[piece_.first + index];
    const MatrixView<float> rows = target.matrix(piece_.pass->key_head);
    if (!list.synthetic) return add_scaled(sum, 1.0F, width, rows.row(row));
    const SyntheticKeys& synthetic = *list.synthetic;
    const int64_t begin = synthetic.member_begin[static_cast<size_t>(row)];
    const int64_t end = synthetic.member_begin[static_cast<size_t>(row) + 1];
    for (int64_t member = begin; member < end; ++member)
      add_scaled(sum, synthetic.share(row, member), width, rows.row(synthetic.member_order[member]));
  }

  const BackwardRun& run_;
  const ListPiece& piece_;
  GatheredGradients& gathered_;
};

class BackwardPass {
 public:
  explicit BackwardPass(const BackwardRun& run) : run_(run), workers_(static_cast<size_t>(thread_count())) {}

  void run_plan(const Plan& plan) {
    for (const Phase& phase : plan.phases) {
      size_t lists = 0;
      for (const Pass& pass : phase.passes) lists = std::max(lists, pass.lists.size());
      for (size_t list = 0; list < lists; ++list)
        for (const std::vector<ListPiece>& pieces :
             make_pieces(run_.problem, phase, static_cast<int64_t>(list)))
          run_pieces(pieces);
    }
  }

  void book(std::map<std::string, double>& seconds) const {
    for (const auto& worker : workers_)
      for (int s = 0; worker && s < static_cast<int>(Stage::count); ++s)
        if (const double spent = worker->seconds(static_cast<Stage>(s)); spent > 0)
          seconds[stage_name(static_cast<Stage>(s))] += spent / static_cast<double>(workers_.size());
    seconds[stage_name(Stage::merge)] += merge_seconds_;
  }

 private:
  void run_pieces(const std::vector<ListPiece>& pieces) {
    std::vector<GatheredGradients> gathered(pieces.size());
    for (size_t p = 0; p < pieces.size(); ++p) make_room(pieces[p], gathered[p]);
    for (const std::vector<BackwardTask>& step : make_steps(pieces)) {
      parallel_for(static_cast<int64_t>(step.size()), [&](int64_t t, int worker) {
        auto& mine = workers_[static_cast<size_t>(worker)];
        if (!mine) mine = std::make_unique<BackwardWorker>(run_.layout);
        const BackwardTask& task = step[static_cast<size_t>(t)];
        mine->run(run_, task, &gathered[static_cast<size_t>(task.piece - pieces.data())]);
      });
    }
    const Stopwatch watch;
    parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t p, int) {
      const ListPiece& piece = pieces[static_cast<size_t>(p)];
      const Scatter scatter(run_, piece, gathered[static_cast<size_t>(p)]);
      for (int64_t i = 0; !piece.direct && i < piece.count; ++i) scatter.rank(i);
    });
    merge_seconds_ += watch.seconds();
  }

  void make_room(const ListPiece& piece, GatheredGradients& gathered) const {
    if (piece.direct) return;
    const int64_t slots = piece.replicas * piece.count;
    gathered.values = Buffer<float>(slots * run_.layout.value_dim);
    parallel_fill(gathered.values.data(), gathered.values.size(), 0.0F);
    if (run_.only_values()) return;
    gathered.keys = Buffer<float>(slots * run_.layout.head_dim);
    parallel_fill(gathered.keys.data(), gathered.keys.size(), 0.0F);
  }

  const BackwardRun& run_;
  std::vector<std::unique_ptr<BackwardWorker>> workers_;
  double merge_seconds_ = 0;
};

/// References and inverse sums of rows in the form that workers read: weights of a row without keys are 0.
struct RowWeights {
  Buffer<float> maximum;
  Buffer<float> inverse;

  explicit RowWeights(const RowSums& sums) : maximum(sums.sum.shape().size()), inverse(maximum.size()) {
    for_each_row(maximum.size(), [&](int64_t i) {
      const double sum = sums.sum.data()[i];
      maximum[i] = sum > 0 ? sums.maximum.data()[i] : std::numeric_limits<float>::infinity();
      inverse[i] = sum > 0 ? static_cast<float>(1 / sum) : 0.0F;
    });
  }

  template <class Body>
  static void for_each_row(int64_t rows, const Body& body) {
    constexpr int64_t kChunk = 1024;
    parallel_for((rows + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
      for (int64_t i = chunk * kChunk; i < std::min(rows, (chunk + 1) * kChunk); ++i) body(i);
    });
  }
};

/// δ_i = ⟨dout_i, out_i⟩.
Buffer<float> deltas(const AttentionResult& forward, TensorView<const float> dout) {
  const int64_t dim = dout.shape.dim;
  Buffer<float> delta(forward.lse.shape().size());
  RowWeights::for_each_row(delta.size(), [&](int64_t i) {
    double sum = 0;
    for (int64_t c = 0; c < dim; ++c)
      sum +=
          static_cast<double>(dout.data[i * dim + c]) * static_cast<double>(forward.out.data()[i * dim + c]);
    delta[i] = static_cast<float>(sum);
  });
  return delta;
}

/// dout without what was clipped.
Tensor<float> unclipped(const Tensor<uint8_t>& clipped, TensorView<const float> dout) {
  Tensor<float> masked(dout.shape);
  for (int64_t i = 0; i < dout.shape.size(); ++i)
    masked.data()[i] = clipped.data()[i] != 0 ? 0.0F : dout.data[i];
  return masked;
}

Tensor<float> zeros(const TensorShape& shape) {
  Tensor<float> tensor(shape);
  parallel_fill(tensor.data(), shape.size(), 0.0F);
  return tensor;
}

}  // namespace

AttentionGradients run_backward(const AttentionProblem& problem, const Plan& plan,
                                const AttentionResult& forward, TensorView<const float> dout) {
  if (!(dout.shape == forward.out.shape()))
    fail_input("dout must have the shape of out, " + to_string(forward.out.shape()) + ", but is " +
               to_string(dout.shape));
  if (has_query_terms(plan)) fail_usage("a plan with moments or linear values has no gradient");
  require_valid_plan(problem, plan);
  const Stopwatch total;
  AttentionGradients gradients{
      zeros(problem.query.shape), zeros(problem.key.shape), zeros(problem.value.shape), {}};
  const TileLayout layout(problem, true);
  Tensor<float> masked;
  if (forward.clipped.shape().size() > 0) {
    masked = unclipped(forward.clipped, dout);
    dout = masked.view();
  }
  const RowWeights weights(forward.sums);
  const Buffer<float> delta = deltas(forward, dout);
  const double prepared = total.seconds();
  const BackwardRun run{problem,
                        layout,
                        dout,
                        weights.maximum.data(),
                        weights.inverse.data(),
                        delta.data(),
                        gradients.dquery.view(),
                        gradients.dkey.view(),
                        gradients.dvalue.view()};
  BackwardPass pass(run);
  pass.run_plan(plan);
  std::map<std::string, double>& seconds = gradients.diagnostics.stage_seconds;
  pass.book(seconds);
  seconds[stage_name(Stage::gather)] += prepared;
  gradients.diagnostics.entries = count_entries(plan);
  return gradients;
}

Tensor<float> run_transposed(const AttentionProblem& problem, const Plan& plan, const RowSums& denominators,
                             TensorView<const float> rows) {
  require_valid_plan(problem, plan);
  AttentionProblem with_rows = problem;  // whose values are never read: only their width counts
  with_rows.value.shape.dim = rows.shape.dim;
  const TileLayout layout(with_rows, true);
  Tensor<float> result =
      zeros({problem.key.shape.batch, problem.key.shape.heads, problem.key_count(), rows.shape.dim});
  const RowWeights weights(denominators);
  const BackwardRun run{with_rows, layout, rows, weights.maximum.data(), weights.inverse.data(),
                        nullptr,   {},     {},   result.view()};
  BackwardPass pass(run);
  pass.run_plan(plan);
  return result;
}

}  // namespace hyperattn
