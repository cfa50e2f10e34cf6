#include "algorithms/engines/cuda/run.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <numbers>
#include <vector>

#include "algorithms/check_plan.h"
#include "algorithms/engines/cuda/device.h"
#include "algorithms/engines/cuda/device_problem.h"
#include "algorithms/engines/cuda/flat_plan.h"
#include "algorithms/engines/cuda/kernels.h"
#include "core/error.h"
#include "core/timing.h"

namespace hyperattn::cuda {
namespace {

const DeviceProblem& on_device(const BoundProblem& bound) {
  return dynamic_cast<const DeviceProblem&>(bound);
}

/// A plan and its synthetic keys on the card.
class DevicePlan {
 public:
  DevicePlan(const AttentionProblem& problem, const FlatPlan& flat, Precision precision)
      : tiles_(flat.tiles, "tiles of the plan"),
        passes_(flat.passes, "passes of the plan"),
        lists_(flat.lists, "lists of the plan"),
        visits_(flat.visits, "visits of the plan"),
        packs_(flat.packs, "row visits of the plan"),
        entries_(flat.entries, "row visits of the plan"),
        integers_(flat.integers, "orders of the plan"),
        numbers_(flat.numbers, "weights of the plan"),
        synthetic_key_(stacked(flat, problem.head_dim(), precision, &SyntheticKeys::key)),
        synthetic_value_(stacked(flat, problem.value_dim(), precision, &SyntheticKeys::value)) {}

  [[nodiscard]] PlanArrays arrays() const {
    return {tiles_.data(), passes_.data(),  lists_.data(),    visits_.data(),
            packs_.data(), entries_.data(), integers_.data(), numbers_.data()};
  }
  [[nodiscard]] const void* synthetic_key() const { return synthetic_key_.data(); }
  [[nodiscard]] const void* synthetic_value() const { return synthetic_value_.data(); }

 private:
  static DeviceRows stacked(const FlatPlan& flat, int64_t width, Precision precision,
                            Tensor<float> SyntheticKeys::*rows) {
    std::vector<float> all;
    all.reserve(static_cast<size_t>(flat.synthetic_rows * width));
    for (const SyntheticKeys* keys : flat.synthetic) {
      const Tensor<float>& own = keys->*rows;
      all.insert(all.end(), own.data(), own.data() + own.shape().size());
    }
    return DeviceRows::rounded(precision, all.data(), flat.synthetic_rows, width, "synthetic keys");
  }

  DeviceArray<FlatTile> tiles_;
  DeviceArray<FlatPass> passes_;
  DeviceArray<FlatList> lists_;
  DeviceArray<FlatVisit> visits_;
  DeviceArray<FlatPack> packs_;
  DeviceArray<FlatEntry> entries_;
  DeviceArray<int32_t> integers_;
  DeviceArray<float> numbers_;
  DeviceRows synthetic_key_;
  DeviceRows synthetic_value_;
};

float scale_in_base2(const AttentionProblem& problem) {
  return static_cast<float>(std::numbers::log2e * static_cast<double>(problem.scale));
}

InputArrays inputs_of(const DeviceProblem& bound, const DevicePlan& plan, Precision precision, bool values) {
  const AttentionProblem& problem = bound.problem();
  return {bound.query().in(precision),
          bound.key().in(precision),
          values ? bound.value().in(precision) : nullptr,
          plan.synthetic_key(),
          plan.synthetic_value(),
          static_cast<int32_t>(padded_width(problem.head_dim())),
          static_cast<int32_t>(padded_width(problem.value_dim())),
          scale_in_base2(problem)};
}

/// Refuses rows that the kernels of this precision have no room for on this card.
void require_room(Precision precision, int64_t head_dim, int64_t value_dim) {
  if (const std::string wrong = why_too_wide(precision, head_dim, value_dim); !wrong.empty())
    fail_usage("engine 'cuda' " + wrong);
}

/// The state of every row between phases.
struct DeviceState {
  DeviceState(const AttentionProblem& problem, const FlatPlan& flat, bool values)
      : rows(problem.heads() * problem.query_count()),
        maximum(rows, "maxima of rows"),
        sum(rows, "sums of rows"),
        absolute(flat.has_signed_weights ? rows : 0, "sums of rows"),
        linear(has_query_terms(flat) ? rows : 0, "sums of rows"),
        out(values ? rows * padded_width(problem.value_dim()) : 0, "numerators of rows") {
    check(launch_fill(maximum.data(), -std::numeric_limits<float>::infinity(), rows,
                      Device::current().stream()),
          "starting rows");
    sum.clear();
    absolute.clear();
    linear.clear();
    out.clear();
  }
  static bool has_query_terms(const FlatPlan& flat) {
    return std::any_of(flat.phases.begin(), flat.phases.end(),
                       [](const FlatPhase& phase) { return phase.has_query_terms; });
  }
  [[nodiscard]] RowState arrays() const {
    return {maximum.data(), sum.data(), absolute.data(), linear.data(), out.data()};
  }

  int64_t rows;
  DeviceArray<float> maximum;
  DeviceArray<double> sum;
  DeviceArray<double> absolute;
  DeviceArray<double> linear;
  DeviceArray<float> out;
};

std::vector<float> caps_in_base2(const AttentionProblem& problem, const float* caps) {
  std::vector<float> scaled(static_cast<size_t>(problem.heads() * problem.query_count()));
  std::transform(caps, caps + scaled.size(), scaled.begin(), [](float cap) {
    return static_cast<float>(std::numbers::log2e * static_cast<double>(cap));
  });
  return scaled;
}

TensorShape with_dim(TensorShape shape, int64_t dim) {
  shape.dim = dim;
  return shape;
}

/// Books laying out the plan on the host, the kernels by the card's clock, and the rest of the call's time,
/// which is copying and taking memory.
void book(Diagnostics& diagnostics, Stage stage, double layout, double computing, double total) {
  diagnostics.stage_seconds[stage_name(Stage::gather)] += layout;
  diagnostics.stage_seconds[stage_name(stage)] += computing;
  diagnostics.stage_seconds[stage_name(Stage::transfer)] += std::max(total - layout - computing, 0.0);
}

/// One forward call.
class ForwardCall {
 public:
  ForwardCall(const DeviceProblem& bound, const Plan& plan, const EngineOptions& options)
      : bound_(bound),
        problem_(bound.problem()),
        options_(options),
        precision_(options.denominators != nullptr ? Precision::fp32 : bound.precision()),
        clips_(plan.clip_to_values && options.values),
        device_(Device::current()),
        timer_(device_),
        flat_(flatten(problem_, plan)),
        layout_seconds_(watch_.seconds()),
        plan_(problem_, flat_, precision_),
        inputs_(inputs_of(bound_, plan_, precision_, options.values)),
        state_(problem_, flat_, options.values),
        counts_(2, "counts") {
    counts_.clear();
    require_room(precision_, problem_.head_dim(), options.values ? problem_.value_dim() : 1);
  }

  AttentionResult run() {
    const DeviceArray<float> caps =
        options_.score_cap != nullptr
            ? DeviceArray<float>(caps_in_base2(problem_, options_.score_cap), "caps of scores")
            : DeviceArray<float>();
    timer_.start();
    for (const FlatPhase& phase : flat_.phases) run_phase(phase, inputs_, caps.data());
    timer_.stop();
    return finish();
  }

 private:
  void run_phase(const FlatPhase& phase, const InputArrays& inputs, const float* caps) {
    const int64_t tiles = phase.last_tile - phase.first_tile;
    check(launch_forward(
              precision_,
              {plan_.arrays(), inputs, state_.arrays(), caps, counts_.data(), phase.first_tile, tiles},
              device_.stream()),
          "attention");
    if (!phase.has_query_terms) return;
    QueryTermArguments terms;
    terms.plan = plan_.arrays();
    terms.query = bound_.query().wide();
    terms.head_dim = static_cast<int32_t>(problem_.head_dim());
    terms.value_dim = static_cast<int32_t>(problem_.value_dim());
    terms.query_stride = inputs.head_dim;
    terms.out_stride = inputs.value_dim;
    terms.scale = problem_.scale;
    terms.state = state_.arrays();
    terms.first_tile = phase.first_tile;
    terms.tile_count = tiles;
    check(launch_query_terms(terms, device_.stream()), "moments");
  }

  AttentionResult finish() {
    const TensorShape rows = with_dim(problem_.query.shape, 1);
    const TensorShape shape = with_dim(problem_.query.shape, problem_.value_dim());
    const DeviceArray<float> lse(state_.rows, "log-sum-exps");
    const DeviceArray<float> out(options_.values ? shape.size() : 0, "outputs");
    const DeviceArray<uint8_t> clipped(clips_ ? shape.size() : 0, "clipped elements");
    clipped.clear();
    finish_rows(lse, out);
    if (clips_) clip(out, clipped);
    AttentionResult result;
    result.lse = Tensor<float>(rows);
    result.sums = {Tensor<float>(rows), Tensor<double>(rows)};
    lse.download(result.lse.data());
    state_.maximum.download(result.sums.maximum.data());
    state_.sum.download(result.sums.sum.data());
    if (options_.values) {
      result.out = Tensor<float>(shape);
      out.download(result.out.data());
    }
    if (clips_) {
      result.clipped = Tensor<uint8_t>(shape);
      clipped.download(result.clipped.data());
    }
    report(result);
    return result;
  }

  void finish_rows(const DeviceArray<float>& lse, const DeviceArray<float>& out) {
    FinishArguments arguments;
    DeviceArray<float> maximum;
    DeviceArray<double> sum;
    if (options_.denominators != nullptr) {
      maximum = {options_.denominators->maximum.data(), state_.rows, "denominators"};
      sum = {options_.denominators->sum.data(), state_.rows, "denominators"};
      arguments.given_maximum = maximum.data();
      arguments.given_sum = sum.data();
    }
    arguments.state = state_.arrays();
    arguments.rows = state_.rows;
    arguments.value_dim = static_cast<int32_t>(problem_.value_dim());
    arguments.out_stride = static_cast<int32_t>(padded_width(problem_.value_dim()));
    arguments.lse = lse.data();
    arguments.out = out.data();
    arguments.guarded = counts_.data() + 1;
    timer_.start();
    check(launch_finish(arguments, device_.stream()), "dividing by the denominators");
    timer_.stop();
  }

  void clip(const DeviceArray<float>& out, const DeviceArray<uint8_t>& clipped) {
    ClipArguments arguments;
    arguments.value = bound_.value().wide();
    arguments.value_stride = static_cast<int32_t>(padded_width(problem_.value_dim()));
    arguments.value_dim = static_cast<int32_t>(problem_.value_dim());
    arguments.heads = problem_.heads();
    arguments.heads_per_key_head = problem_.heads() / problem_.key_heads();
    arguments.queries = problem_.query_count();
    arguments.keys = problem_.key_count();
    arguments.causal = problem_.causal ? 1 : 0;
    arguments.window = problem_.window;
    arguments.sum = state_.sum.data();
    arguments.out = out.data();
    arguments.clipped = clipped.data();
    timer_.start();
    check(launch_clip(arguments, device_.stream()), "clipping");
    timer_.stop();
  }

  void report(AttentionResult& result) {
    unsigned long long counts[2] = {0, 0};
    counts_.download(counts);
    if (options_.capped_entries != nullptr) *options_.capped_entries = static_cast<int64_t>(counts[0]);
    result.diagnostics.guarded_rows = static_cast<int64_t>(counts[1]);
    book(result.diagnostics, Stage::exact, layout_seconds_, timer_.seconds(), watch_.seconds());
  }

  const Stopwatch watch_;
  const DeviceProblem& bound_;
  const AttentionProblem& problem_;
  const EngineOptions& options_;
  const Precision precision_;
  const bool clips_;
  Device& device_;
  DeviceTimer timer_;
  const FlatPlan flat_;
  const double layout_seconds_;
  const DevicePlan plan_;
  const InputArrays inputs_;
  const DeviceState state_;
  const DeviceArray<unsigned long long> counts_;
};

/// 2^(x − maximum)·inverse are the weights of a row.
struct DeviceWeights {
  explicit DeviceWeights(const RowSums& sums)
      : maximum(sums.maximum.data(), sums.maximum.shape().size(), "maxima of rows"),
        inverse(inverses(sums.sum), "denominators") {}

  static std::vector<float> inverses(const Tensor<double>& sums) {
    std::vector<float> result(static_cast<size_t>(sums.shape().size()));
    std::transform(sums.data(), sums.data() + result.size(), result.begin(),
                   [](double sum) { return sum > 0 ? static_cast<float>(1 / sum) : 0.0F; });
    return result;
  }

  DeviceArray<float> maximum;
  DeviceArray<float> inverse;
};

/// What the jobs of a phase give, and the rows that it adds up to.
class KeyGradients {
 public:
  KeyGradients(const AttentionProblem& problem, int64_t upstream_width, bool of_keys)
      : problem_(problem),
        rows_(problem.key_heads() * problem.key_count()),
        width_(upstream_width),
        dkey_(of_keys ? rows_ * problem.head_dim() : 0, "gradients of keys"),
        dvalue_(rows_ * upstream_width, "gradients of values") {
    dkey_.clear();
    dvalue_.clear();
  }

  /// The kernels' time is the timer's, where there is one.
  void add(const KeyWork& work, KeyGradientArguments arguments, Precision precision, Device& device,
           DeviceTimer* timer) {
    if (work.jobs.empty()) return;
    const DeviceArray<int64_t> rows(work.rows, "rows of keys");
    const DeviceArray<int64_t> begins(work.part_begin, "rows of keys");
    const DeviceArray<KeyPart> parts(work.parts, "rows of keys");
    const DeviceArray<KeyJob> jobs(work.jobs, "jobs of keys");
    const DeviceArray<KeyItem> items(work.items, "jobs of keys");
    const int64_t d = padded_width(problem_.head_dim());
    const int64_t w = padded_width(width_);
    const DeviceArray<float> key_slots(dkey_.size() > 0 ? work.slots * d : 0, "partial gradients of keys");
    const DeviceArray<float> value_slots(work.slots * w, "partial gradients of values");
    arguments.jobs = jobs.data();
    arguments.items = items.data();
    arguments.job_count = static_cast<int64_t>(work.jobs.size());
    arguments.dkey = key_slots.data();
    arguments.dvalue = value_slots.data();
    if (timer != nullptr) timer->start();
    check(launch_key_gradient(precision, arguments, device.stream()), "the gradient of keys");
    const auto reduce = [&](const DeviceArray<float>& slots, int64_t stride, const DeviceArray<float>& target,
                            int64_t width) {
      check(launch_reduce({rows.data(), begins.data(), parts.data(), rows.size(), slots.data(),
                           static_cast<int32_t>(stride), target.data(), static_cast<int32_t>(width)},
                          device.stream()),
            "adding up gradients");
    };
    reduce(value_slots, w, dvalue_, width_);
    if (dkey_.size() > 0) reduce(key_slots, d, dkey_, problem_.head_dim());
    if (timer != nullptr) timer->stop();
  }

  [[nodiscard]] Tensor<float> dkey() const { return downloaded(dkey_, problem_.head_dim()); }
  [[nodiscard]] Tensor<float> dvalue() const { return downloaded(dvalue_, width_); }

 private:
  [[nodiscard]] Tensor<float> downloaded(const DeviceArray<float>& rows, int64_t width) const {
    Tensor<float> result(with_dim(problem_.key.shape, width));
    rows.download(result.data());
    return result;
  }

  const AttentionProblem& problem_;
  int64_t rows_;
  int64_t width_;
  DeviceArray<float> dkey_;
  DeviceArray<float> dvalue_;
};

/// g of every row in the kernels' precision, 0 where clipped, and ⟨g, out⟩.
struct DeviceUpstream {
  DeviceUpstream(Precision precision, const AttentionResult& forward, TensorView<const float> dout)
      : rounded(precision, dout.shape.size() / dout.shape.dim, dout.shape.dim, "gradients of outputs"),
        delta(dout.shape.size() / dout.shape.dim, "gradients of outputs") {
    const DeviceArray<float> raw(dout.data, dout.shape.size(), "gradients of outputs");
    const DeviceArray<float> out(forward.out.data(), dout.shape.size(), "outputs");
    const DeviceArray<uint8_t> clipped(forward.clipped.data(), forward.clipped.shape().size(),
                                       "clipped elements");
    check(launch_round(precision,
                       {raw.data(), rounded.data(), delta.size(), static_cast<int32_t>(dout.shape.dim),
                        out.data(), clipped.data(), delta.data()},
                       Device::current().stream()),
          "rounding gradients");
  }
  DeviceRows rounded;
  DeviceArray<float> delta;
};

}  // namespace

std::string why_too_wide(Precision precision, int64_t head_dim, int64_t value_dim) {
  const int64_t needed = shared_bytes(precision, head_dim, value_dim);
  const int64_t room = Device::current().shared_bytes_per_block();
  if (needed <= room) return {};
  return "needs " + std::to_string(needed) + " bytes of shared memory for d = " + std::to_string(head_dim) +
         " and d_v = " + std::to_string(value_dim) + " in this precision, and the GPU has " +
         std::to_string(room);
}

std::unique_ptr<BoundProblem> bind_to_device(const AttentionProblem& problem, const Engine& engine,
                                             Precision precision) {
  static_cast<void>(Device::current());
  return std::make_unique<DeviceProblem>(problem, engine, precision);
}

AttentionResult forward_on_device(const BoundProblem& bound, const Plan& plan, const EngineOptions& options) {
  require_valid_plan(bound.problem(), plan);
  refuse_unsuited_options(plan, options);
  const std::lock_guard<std::mutex> lock(one_call());
  AttentionResult result = ForwardCall(on_device(bound), plan, options).run();
  result.diagnostics.entries = count_entries(plan);
  return result;
}

AttentionGradients backward_on_device(const BoundProblem& bound, const Plan& plan,
                                      const AttentionResult& forward, TensorView<const float> dout) {
  if (!(dout.shape == forward.out.shape()))
    fail_input("dout must have the shape of out, " + to_string(forward.out.shape()) + ", but is " +
               to_string(dout.shape));
  if (has_query_terms(plan)) fail_usage("a plan with moments or linear values has no gradient");
  require_valid_plan(bound.problem(), plan);
  const std::lock_guard<std::mutex> lock(one_call());
  const Stopwatch watch;
  const DeviceProblem& own = on_device(bound);
  const AttentionProblem& problem = own.problem();
  const Precision precision = own.precision();
  require_room(precision, problem.head_dim(), problem.value_dim());
  Device& device = Device::current();
  DeviceTimer timer(device);
  const FlatPlan flat = flatten(problem, plan);
  double layout = watch.seconds();
  const DevicePlan device_plan(problem, flat, precision);
  const InputArrays inputs = inputs_of(own, device_plan, precision, true);
  const DeviceWeights weights(forward.sums);
  const DeviceUpstream upstream(precision, forward, dout);
  const BackwardRows rows{upstream.rounded.data(), inputs.value_dim, weights.maximum.data(),
                          weights.inverse.data(), upstream.delta.data()};
  const DeviceArray<float> dquery(problem.heads() * problem.query_count() * inputs.head_dim,
                                  "gradients of queries");
  dquery.clear();
  KeyGradients keys(problem, problem.value_dim(), true);
  for (size_t p = 0; p < flat.phases.size(); ++p) {
    const FlatPhase& phase = flat.phases[p];
    const Stopwatch inverting;
    const KeyWork work = invert(problem, plan, flat, static_cast<int64_t>(p));
    layout += inverting.seconds();
    timer.start();
    check(launch_query_gradient(precision,
                                {device_plan.arrays(), inputs, rows, problem.scale, dquery.data(),
                                 phase.first_tile, phase.last_tile - phase.first_tile},
                                device.stream()),
          "the gradient of queries");
    timer.stop();
    KeyGradientArguments arguments;
    arguments.plan = device_plan.arrays();
    arguments.inputs = inputs;
    arguments.rows = rows;
    arguments.gradient_scale = problem.scale;
    keys.add(work, arguments, precision, device, &timer);
  }
  AttentionGradients gradients{unpadded(dquery, problem.query.shape), keys.dkey(), keys.dvalue(), {}};
  gradients.diagnostics.entries = count_entries(plan);
  book(gradients.diagnostics, Stage::backward, layout, timer.seconds(), watch.seconds());
  return gradients;
}

Tensor<float> transposed_on_device(const BoundProblem& bound, const Plan& plan, const RowSums& denominators,
                                   TensorView<const float> rows) {
  require_valid_plan(bound.problem(), plan);
  const std::lock_guard<std::mutex> lock(one_call());
  const DeviceProblem& own = on_device(bound);
  const AttentionProblem& problem = own.problem();
  require_room(Precision::fp32, problem.head_dim(), 1);
  Device& device = Device::current();
  const FlatPlan flat = flatten(problem, plan);
  const DevicePlan device_plan(problem, flat, Precision::fp32);
  const DeviceWeights weights(denominators);
  const DeviceRows upstream = DeviceRows::rounded(
      Precision::fp32, rows.data, problem.heads() * problem.query_count(), rows.shape.dim, "rows");
  KeyGradientArguments arguments;
  arguments.plan = device_plan.arrays();
  arguments.inputs = inputs_of(own, device_plan, Precision::fp32, false);
  arguments.rows = {upstream.data(), static_cast<int32_t>(padded_width(rows.shape.dim)),
                    weights.maximum.data(), weights.inverse.data(), nullptr};
  KeyGradients products(problem, rows.shape.dim, false);
  for (size_t p = 0; p < flat.phases.size(); ++p)
    products.add(invert(problem, plan, flat, static_cast<int64_t>(p)), arguments, Precision::fp32, device,
                 nullptr);
  return products.dvalue();
}

}  // namespace hyperattn::cuda
