#include "algorithms/engines/cuda/run.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <numbers>
#include <utility>
#include <vector>

#include "algorithms/check_plan.h"
#include "algorithms/engines/cuda/device.h"
#include "algorithms/engines/cuda/device_problem.h"
#include "algorithms/engines/cuda/flat_blocks.h"
#include "algorithms/engines/cuda/flat_plan.h"
#include "algorithms/engines/cuda/kernels.h"
#include "algorithms/plan_builder.h"
#include "core/error.h"
#include "core/timing.h"

namespace hyperattn::cuda {

struct DeviceSums {
  DeviceArray<float> maximum;
  DeviceArray<float> inverse;
  DeviceArray<uint8_t> clipped;
};

namespace {

/// A call with a plan on a problem, the only one while it lives, in the order of the problem's stream.
struct DeviceCall {
  std::lock_guard<std::mutex> lock;
  const DeviceProblem& problem;
  StreamScope scope;

  DeviceCall(const BoundProblem& bound, const Plan& plan)
      : lock(one_call()), problem(dynamic_cast<const DeviceProblem&>(bound)), scope(problem.stream()) {
    require_valid_plan(bound.shapes(), plan);
  }
};

/// A plan and its synthetic keys on the card.
class DevicePlan {
 public:
  /// `excluded`: what blocks leave out is added to it; null: not wanted.
  DevicePlan(const AttentionProblem& problem, const FlatPlan& flat, Precision precision, int64_t tile_rows,
             unsigned long long* excluded)
      : synthetic_key_(stacked(flat, problem.head_dim(), precision, &SyntheticKeys::key)),
        synthetic_value_(stacked(flat, problem.value_dim(), precision, &SyntheticKeys::value)) {
    const int64_t passes = bundle_.add(flat.passes);
    const int64_t lists = bundle_.add(flat.lists);
    const int64_t packs = bundle_.add(flat.packs);
    const int64_t entries = bundle_.add(flat.entries);
    const int64_t integers = bundle_.add(flat.integers);
    const int64_t numbers = bundle_.add(flat.numbers);
    const int64_t blocks = bundle_.add(flat.blocks);
    const int64_t tiles =
        bundle_.add(flat.tiles.data(), flat.tiles.size(), flat.tiles.size() + flat.block_tiles);
    const int64_t visits =
        bundle_.add(flat.visits.data(), flat.visits.size(), flat.visits.size() + flat.block_visits);
    bundle_.upload("the plan");
    tiles_ = bundle_.at<FlatTile>(tiles);
    visits_ = bundle_.at<FlatVisit>(visits);
    arrays_ = {tiles_,
               bundle_.at<FlatPass>(passes),
               bundle_.at<FlatList>(lists),
               visits_,
               bundle_.at<FlatPack>(packs),
               bundle_.at<FlatEntry>(entries),
               bundle_.at<int32_t>(integers),
               bundle_.at<float>(numbers)};
    write_blocks(flat, bundle_.at<FlatBlocks>(blocks), tile_rows, excluded);
  }

  [[nodiscard]] const PlanArrays& arrays() const { return arrays_; }
  [[nodiscard]] const void* synthetic_key() const { return synthetic_key_.data(); }
  [[nodiscard]] const void* synthetic_value() const { return synthetic_value_.data(); }

 private:
  void write_blocks(const FlatPlan& flat, const FlatBlocks* blocks, int64_t tile_rows,
                    unsigned long long* excluded) const {
    BlockArguments arguments;
    arguments.blocks = blocks;
    arguments.count = static_cast<int64_t>(flat.blocks.size());
    for (const FlatBlocks& own : flat.blocks)
      arguments.most_tiles = std::max(arguments.most_tiles, own.block_count * own.block_tiles);
    arguments.target = {tiles_, visits_, flat.identity, static_cast<int32_t>(tile_rows)};
    arguments.excluded = excluded;
    check(launch_blocks(arguments, Device::current().stream()), "laying out blocks");
  }

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

  DeviceBundle bundle_;
  FlatTile* tiles_ = nullptr;
  FlatVisit* visits_ = nullptr;
  PlanArrays arrays_;
  DeviceRows synthetic_key_;
  DeviceRows synthetic_value_;
};

float scale_in_base2(const AttentionProblem& problem) {
  return static_cast<float>(std::numbers::log2e * static_cast<double>(problem.scale));
}

InputArrays inputs_of(const DeviceProblem& bound, const DevicePlan& plan, Precision precision, bool values) {
  const AttentionProblem& problem = bound.shapes();
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

/// The state of every row between phases, and in the end.
struct DeviceState {
  DeviceState(const AttentionProblem& problem, const FlatPlan& flat, bool values, bool is_finished_at_once)
      : rows(problem.heads() * problem.query_count()),
        maximum(rows, "maxima of rows"),
        sum(rows, "sums of rows"),
        inverse(rows, "denominators of rows"),
        absolute(flat.has_signed_weights ? rows : 0, "sums of rows"),
        linear(has_query_terms(flat) ? rows : 0, "sums of rows"),
        out(values && !is_finished_at_once ? rows * padded_width(problem.value_dim()) : 0,
            "numerators of rows") {
    if (is_finished_at_once) return;
    const auto fill = [&](const DeviceArray<float>& target, float value) {
      check(launch_fill(target.data(), value, rows, Device::current().stream()), "starting rows");
    };
    fill(maximum, -std::numeric_limits<float>::infinity());
    fill(inverse, kUnfinished);
    sum.clear();
    absolute.clear();
    linear.clear();
    if (linear.size() > 0) out.clear();  // kernels for visits do not read what no row has begun
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
  DeviceArray<float> inverse;
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

/// Whether the tiles of a plan are those of one phase and have all rows: then each is finished where it is
/// computed.
bool is_one_phase(const AttentionProblem& problem, const FlatPlan& flat) {
  return flat.phases.size() == 1 && !flat.phases[0].has_query_terms &&
         flat.rows == problem.heads() * problem.query_count();
}

bool fits_wide_tiles(const AttentionProblem& problem, const Plan& plan, Precision precision,
                     size_t first_phase = 0) {
  return takes_wide_tiles(precision, problem.head_dim(), problem.value_dim()) && is_plain(plan, first_phase);
}

/// Rows of a tile of the forward pass where tiles are wide.
int32_t forward_tile_rows(const Plan& plan, size_t first_phase) {
  return most_rows_of_group(plan, first_phase) <= kWideTileRows ? kWideTileRows : kWidestTileRows;
}

}  // namespace

/// Denominators that are not those of the plan, on the card (null: there are none).
struct RowDenominators {
  const float* maximum;
  const double* sum;
};

/// The state of a forward call's rows, and what was laid out for it: all phases of a plan, or some after the
/// others while the rest is planned.
class ForwardRun {
 public:
  ForwardRun(const DeviceProblem& bound, Precision precision, bool values, const ForwardTarget& target)
      : bound_(bound),
        precision_(precision),
        values_(values),
        target_(target),
        timer_(Device::current()),
        counts_(1, "counts") {
    counts_.clear();
    require_room(precision_, bound.shapes().head_dim(), values ? bound.shapes().value_dim() : 1);
  }

  /// Lays out the phases of the plan that were not yet; `caps`: there are some; `own_denominators`: rows are
  /// divided by what they added up, and so may be finished where that is complete.
  void lay_out(const Plan& plan, bool caps, bool own_denominators) {
    const Stopwatch watch;
    const AttentionProblem& problem = bound_.shapes();
    const bool wide = values_ && !caps && fits_wide_tiles(problem, plan, precision_, phases_);
    const int32_t tile_rows = wide ? forward_tile_rows(plan, phases_) : kTileRows;
    FlatPlan flat = flatten(problem, plan, tile_rows, phases_);
    if (!state_) {
      finishes_at_once_ = own_denominators && is_whole_ && is_one_phase(problem, flat);
      state_ = std::make_unique<DeviceState>(problem, flat, values_, finishes_at_once_);
    }
    const bool finishes = own_denominators && !DeviceState::has_query_terms(flat);
    if (finishes) unfinished_rows_ -= finishes_at_once_ ? flat.rows : flat.last_rows;
    pieces_.push_back(std::make_unique<Piece>(bound_, flat, precision_, values_, &counts_.data()->excluded,
                                              TileUse{tile_rows, finishes}));
    phases_ = plan.phases.size();
    layout_seconds_ += watch.seconds();
  }

  /// Begins what was laid out last.
  void begin(const float* caps) {
    timer_.start();
    const Piece& piece = *pieces_.back();
    for (const FlatPhase& phase : piece.phases) run_phase(piece, phase, caps);
    timer_.stop();
  }

  /// Divides the rows that no last group has finished; `given`: by other denominators than their own.
  void divide(const RowDenominators& given) {
    if (unfinished_rows_ == 0) return;
    timer_.start();
    FinishArguments arguments = finish();
    arguments.given_maximum = given.maximum;
    arguments.given_sum = given.sum;
    check(launch_finish(arguments, Device::current().stream()), "dividing by the denominators");
    timer_.stop();
  }

  /// While the rest is planned: begins with the phases that a plan has so far, if all that their rows do is
  /// to share visits.
  void begin_early(const Plan& plan) {
    if (phases_ == plan.phases.size() || !is_plain(plan, phases_)) return;
    is_whole_ = false;
    lay_out(plan, false, true);
    begin(nullptr);
  }

  /// Whether a call with the whole plan can go on from here.
  [[nodiscard]] bool is_begin_of(const Plan& plan) const {
    return phases_ > 0 && phases_ <= plan.phases.size() && !has_signed_weights(plan) &&
           !has_query_terms(plan);
  }

  /// After all launches: the card gives back what was laid out when it has read it, and the state of rows.
  void forget_plan() { pieces_.clear(); }
  void forget_state() { state_ = nullptr; }

  [[nodiscard]] DeviceState& state() { return *state_; }
  /// Waits for the card.
  [[nodiscard]] ForwardCounts take_counts() {
    ForwardCounts counts;
    counts_.take(&counts);
    return counts;
  }
  [[nodiscard]] DeviceTimer& timer() { return timer_; }
  [[nodiscard]] double layout_seconds() const { return layout_seconds_; }

 private:
  struct TileUse {
    int32_t rows;
    bool finish;  // those of last groups
  };
  struct Piece {
    Piece(const DeviceProblem& bound, FlatPlan& flat, Precision precision, bool values,
          unsigned long long* excluded, TileUse use)
        : plan(bound.shapes(), flat, precision, use.rows, excluded),
          phases(std::move(flat.phases)),
          inputs(inputs_of(bound, plan, precision, values)),
          tiles(use) {}
    DevicePlan plan;
    std::vector<FlatPhase> phases;
    InputArrays inputs;
    TileUse tiles;
  };

  [[nodiscard]] FinishArguments finish() const {
    const AttentionProblem& problem = bound_.shapes();
    FinishArguments finish;
    finish.state = state_->arrays();
    finish.rows = state_->rows;
    finish.value_dim = static_cast<int32_t>(problem.value_dim());
    finish.out_stride = static_cast<int32_t>(padded_width(problem.value_dim()));
    finish.lse = target_.lse;
    finish.out = target_.out;
    finish.out_type = target_.type;
    finish.inverse = state_->inverse.data();
    finish.counts = counts_.data();
    return finish;
  }

  void run_phase(const Piece& piece, const FlatPhase& phase, const float* caps) {
    void* stream = Device::current().stream();
    ForwardArguments arguments;
    arguments.plan = piece.plan.arrays();
    arguments.inputs = piece.inputs;
    arguments.state = state_->arrays();
    arguments.values = values_;
    arguments.tile_rows = piece.tiles.rows;
    arguments.score_cap = caps;
    arguments.counts = counts_.data();
    arguments.first_tile = phase.first_tile;
    arguments.tile_count = phase.last_tile - phase.first_tile;
    arguments.is_only = finishes_at_once_;
    if (piece.tiles.finish) arguments.finish = finish();
    check(launch_forward(precision_, arguments, stream), "attention");
    if (!phase.has_query_terms) return;
    const AttentionProblem& problem = bound_.shapes();
    QueryTermArguments terms;
    terms.plan = piece.plan.arrays();
    terms.query = bound_.query().wide();
    terms.head_dim = static_cast<int32_t>(problem.head_dim());
    terms.value_dim = static_cast<int32_t>(problem.value_dim());
    terms.query_stride = piece.inputs.head_dim;
    terms.out_stride = piece.inputs.value_dim;
    terms.scale = problem.scale;
    terms.state = state_->arrays();
    terms.first_tile = arguments.first_tile;
    terms.tile_count = arguments.tile_count;
    check(launch_query_terms(terms, stream), "moments");
  }

  const DeviceProblem& bound_;
  Precision precision_;
  bool values_;
  ForwardTarget target_;
  bool is_whole_ = true;
  bool finishes_at_once_ = false;
  int64_t unfinished_rows_ = bound_.shapes().heads() * bound_.shapes().query_count();
  size_t phases_ = 0;  // laid out
  double layout_seconds_ = 0;
  DeviceTimer timer_;
  std::vector<std::unique_ptr<Piece>> pieces_;
  std::unique_ptr<DeviceState> state_;
  DeviceArray<ForwardCounts> counts_;
};

void DeviceProblem::expect_forward(const ForwardTarget& target) const {
  expected_ = target;
  begun_ = nullptr;  // of a plan that was not finished
}

void DeviceProblem::phases_are_made(const Plan& plan) const {
  if (!expected_ || !shapes().causal) return;
  const StreamScope scope(stream_);
  const std::lock_guard<std::mutex> lock(one_call());
  if (begun_ == nullptr) begun_ = std::make_shared<ForwardRun>(*this, precision_, true, *expected_);
  begun_->begin_early(plan);
}

std::shared_ptr<ForwardRun> DeviceProblem::take_begun() const {
  expected_.reset();
  return std::exchange(begun_, nullptr);
}

/// One forward call.
class ForwardCall {
 public:
  ForwardCall(const DeviceProblem& bound, const Plan& plan, const EngineOptions& options,
              const ForwardTarget& target, std::shared_ptr<ForwardRun> begun = nullptr)
      : problem_(bound.shapes()),
        bound_(bound),
        source_(plan),
        options_(options),
        target_(target),
        clips_(plan.clip_to_values && options.values),
        run_(begun != nullptr && begun->is_begin_of(plan)
                 ? std::move(begun)
                 : std::make_shared<ForwardRun>(
                       bound, options.denominators != nullptr ? Precision::fp32 : bound.precision(),
                       options.values, target)) {
    run_->lay_out(plan, options.score_cap != nullptr, options.denominators == nullptr);
  }

  /// Returns while the card computes; the plan is not read afterwards.
  void begin() {
    if (options_.score_cap != nullptr)
      caps_ = DeviceArray<float>(caps_in_base2(problem_, options_.score_cap), "caps of scores");
    run_->begin(caps_.data());
    DeviceArray<float> maximum;
    DeviceArray<double> sum;
    if (options_.denominators != nullptr) {
      maximum = {options_.denominators->maximum.data(), run_->state().rows, "denominators"};
      sum = {options_.denominators->sum.data(), run_->state().rows, "denominators"};
    }
    run_->divide({maximum.data(), sum.data()});
    if (clips_) clip();
    run_->forget_plan();
    entries_ = count_entries(source_);
  }

  [[nodiscard]] DeviceState& state() { return run_->state(); }
  void forget_state() { run_->forget_state(); }
  [[nodiscard]] DeviceArray<uint8_t>& clipped() { return clipped_; }

  /// Waits for the card, and returns the rows with a NaN or infinity.
  int64_t end() {
    counts_ = run_->take_counts();
    seconds_ = watch_.seconds();
    if (options_.capped_entries != nullptr) *options_.capped_entries = static_cast<int64_t>(counts_.capped);
    return static_cast<int64_t>(counts_.infinite);
  }

  /// After the end.
  void report(Diagnostics& diagnostics) {
    diagnostics.entries = entries_ - static_cast<int64_t>(counts_.excluded);
    diagnostics.collisions = static_cast<int64_t>(counts_.excluded);
    diagnostics.guarded_rows = static_cast<int64_t>(counts_.guarded);
    const double hashing = bound_.take_hash_seconds();
    if (hashing > 0) diagnostics.stage_seconds[stage_name(Stage::hash)] += hashing;
    book(diagnostics, Stage::exact, run_->layout_seconds(), run_->timer().seconds(), seconds_ - hashing);
  }

 private:
  void clip() {
    clipped_ = DeviceArray<uint8_t>(run_->state().rows * problem_.value_dim(), "clipped elements");
    clipped_.clear();
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
    arguments.sum = run_->state().sum.data();
    arguments.out = target_.out;
    arguments.out_type = target_.type;
    arguments.clipped = clipped_.data();
    run_->timer().start();
    check(launch_clip(arguments, Device::current().stream()), "clipping");
    run_->timer().stop();
  }

  const Stopwatch watch_;
  const AttentionProblem& problem_;
  const DeviceProblem& bound_;
  const Plan& source_;
  const EngineOptions options_;
  const ForwardTarget target_;
  const bool clips_;
  std::shared_ptr<ForwardRun> run_;
  DeviceArray<float> caps_;
  DeviceArray<uint8_t> clipped_;
  int64_t entries_ = 0;
  ForwardCounts counts_;
  double seconds_ = 0;
};

namespace {

AttentionResult forward_to_host(const DeviceProblem& bound, const Plan& plan, const EngineOptions& options) {
  const TensorShape shape = with_dim(bound.shapes().query.shape, bound.shapes().value_dim());
  const TensorShape rows = with_dim(shape, 1);
  const DeviceArray<float> lse(rows.size(), "log-sum-exps");
  const DeviceArray<float> out(options.values ? shape.size() : 0, "outputs");
  ForwardCall call(bound, plan, options, {out.data(), Precision::fp32, lse.data()});
  call.begin();
  AttentionResult result;
  result.lse = Tensor<float>(rows);
  result.sums = {Tensor<float>(rows), Tensor<double>(rows)};
  lse.download(result.lse.data());
  call.state().maximum.download(result.sums.maximum.data());
  call.state().sum.download(result.sums.sum.data());
  if (options.values) {
    result.out = Tensor<float>(shape);
    out.download(result.out.data());
  }
  if (call.clipped().size() > 0) {
    result.clipped = Tensor<uint8_t>(shape);
    call.clipped().download(result.clipped.data());
  }
  call.end();
  call.report(result.diagnostics);
  return result;
}

/// 2^(x − maximum)·inverse are the weights of a row.
struct DeviceWeights {
  explicit DeviceWeights(const RowSums& sums)
      : maximum(sums.maximum.data(), sums.maximum.shape().size(), "maxima of rows"),
        inverse(inverses(sums.sum), "denominators") {}

  static std::vector<float> inverses(const Tensor<double>& sums) {
    std::vector<float> result(static_cast<size_t>(sums.shape().size()));
    std::transform(sums.data(), sums.data() + result.size(), result.begin(),
                   [](double sum) { return sum > 0 ? 1 / static_cast<float>(sum) : 0.0F; });
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
        of_keys_(of_keys),
        dkey_(of_keys ? rows_ * problem.head_dim() : 0, "gradients of keys"),
        dvalue_(rows_ * upstream_width, "gradients of values") {}

  /// The kernels' time is the timer's, where there is one. `target`: where the gradients go in the end if
  /// this is the only work, else null.
  void add(const KeyWork& work, KeyGradientArguments arguments, Precision precision, Device& device,
           DeviceTimer* timer, const DeviceGradients* target) {
    const bool is_first = !std::exchange(is_begun_, true);
    const bool writes = is_first && work.covers_keys && arguments.is_plain;
    if (is_first && !writes) clear();
    if (work.jobs.empty()) return;
    const KeyArrays arrays(work, of_keys_ ? padded_width(problem_.head_dim()) : 0, padded_width(width_));
    arguments.items = arrays.items;
    arguments.of_keys = of_keys_;
    arguments.dkey = arrays.key_slots.data();
    arguments.dvalue = arrays.value_slots.data();
    arguments.key_gradient = dkey_.data();
    arguments.value_gradient = dvalue_.data();
    arguments.key_width = static_cast<int32_t>(problem_.head_dim());
    arguments.value_width = static_cast<int32_t>(width_);
    const int64_t first_other = work.round_end.empty() ? 0 : work.round_end.back();
    const auto launch = [&](int64_t begin, int64_t end) {
      arguments.jobs = arrays.jobs + begin;
      arguments.job_count = end - begin;
      check(launch_key_gradient(precision, arguments, device.stream()), "the gradient of keys");
    };
    if (timer != nullptr) timer->start();
    is_finished_ = writes && target != nullptr && work.round_end.size() == 1;
    if (is_finished_) {
      const DeviceArray<uint8_t> begun(rows_, "rows of keys");
      begun.clear();
      launch(first_other, static_cast<int64_t>(work.jobs.size()));
      reduce(arrays, begun.data(), device);
      arguments.begun = begun.data();
      arguments.finished_key = target->key.data;
      arguments.finished_key_type = target->key.type;
      arguments.finished_value = target->value.data;
      arguments.finished_value_type = target->value.type;
      launch(0, first_other);
    } else {
      arguments.adds = !writes;
      int64_t begin = 0;
      for (const int64_t end : work.round_end) {
        launch(begin, end);
        begin = end;
        arguments.adds = true;
      }
      launch(first_other, static_cast<int64_t>(work.jobs.size()));
      reduce(arrays, nullptr, device);
    }
    if (timer != nullptr) timer->stop();
  }

  /// After all work: gradients that none of it gave are zeros.
  void end() {
    if (!std::exchange(is_begun_, true)) clear();
  }

  /// Whether the gradients are where `target` said.
  [[nodiscard]] bool is_finished() const { return is_finished_; }
  [[nodiscard]] const DeviceArray<float>& dkey() const { return dkey_; }
  [[nodiscard]] const DeviceArray<float>& dvalue() const { return dvalue_; }
  [[nodiscard]] Tensor<float> downloaded(const DeviceArray<float>& rows, int64_t width) const {
    Tensor<float> result(with_dim(problem_.key.shape, width));
    rows.download(result.data());
    return result;
  }

 private:
  struct KeyArrays {
    KeyArrays(const KeyWork& work, int64_t key_width, int64_t value_width)
        : key_slots(work.slots * key_width, "partial gradients of keys"),
          value_slots(work.slots * value_width, "partial gradients of values"),
          row_count(work.rows.size()) {
      const int64_t jobs_begin = bundle.add(work.jobs);
      const int64_t items_begin = bundle.add(work.items);
      const int64_t rows_begin = bundle.add(work.rows);
      const int64_t begins_begin = bundle.add(work.part_begin);
      const int64_t parts_begin = bundle.add(work.parts);
      bundle.upload("jobs of keys");
      jobs = bundle.at<KeyJob>(jobs_begin);
      items = bundle.at<KeyItem>(items_begin);
      rows = bundle.at<int64_t>(rows_begin);
      begins = bundle.at<int64_t>(begins_begin);
      parts = bundle.at<KeyPart>(parts_begin);
    }

    DeviceBundle bundle;  ///< what the next five are in
    const KeyJob* jobs = nullptr;
    const KeyItem* items = nullptr;
    const int64_t* rows = nullptr;
    const int64_t* begins = nullptr;
    const KeyPart* parts = nullptr;
    DeviceArray<float> key_slots;
    DeviceArray<float> value_slots;
    int64_t row_count;
  };

  void clear() const {
    dkey_.clear();
    dvalue_.clear();
  }

  /// Adds up what lies in slots; `begun`: as of ReduceArguments.
  void reduce(const KeyArrays& arrays, uint8_t* begun, Device& device) const {
    const auto reduce_rows = [&](const DeviceArray<float>& slots, const DeviceArray<float>& target,
                                 int64_t width) {
      check(launch_reduce({arrays.rows, arrays.begins, arrays.parts, arrays.row_count, slots.data(),
                           static_cast<int32_t>(padded_width(width)), target.data(),
                           static_cast<int32_t>(width), begun},
                          device.stream()),
            "adding up gradients");
    };
    reduce_rows(arrays.value_slots, dvalue_, width_);
    if (of_keys_) reduce_rows(arrays.key_slots, dkey_, problem_.head_dim());
  }

  const AttentionProblem& problem_;
  int64_t rows_;
  int64_t width_;
  bool of_keys_;
  DeviceArray<float> dkey_;
  DeviceArray<float> dvalue_;
  bool is_begun_ = false;
  bool is_finished_ = false;
};

/// g of every row in the kernels' precision, 0 where clipped, and ⟨g, out⟩. Where g is in it already it is
/// used where it lies.
class DeviceUpstream {
 public:
  DeviceUpstream(Precision precision, const DeviceTensor& dout, const void* out, const uint8_t* clipped)
      : delta_(dout.shape.size() / dout.shape.dim, "gradients of outputs") {
    const int64_t width = dout.shape.dim;
    if (dout.type == precision && padded_width(width) == width && clipped == nullptr)
      given_ = dout.data;
    else
      rounded_ = DeviceRows(precision, delta_.size(), width, "gradients of outputs");
    check(launch_round(precision,
                       {dout.data, dout.type, rounded_.data(), delta_.size(), static_cast<int32_t>(width),
                        out, clipped, delta_.data()},
                       Device::current().stream()),
          "rounding gradients");
  }
  [[nodiscard]] const void* rows() const { return given_ != nullptr ? given_ : rounded_.data(); }
  [[nodiscard]] const float* delta() const { return delta_.data(); }

 private:
  DeviceArray<float> delta_;
  DeviceRows rounded_;
  const void* given_ = nullptr;
};

/// Copies to the host what `with_groups` reads of a plan, as long as the stream has no work that the copies
/// would wait for.
void fetch_samples(const Plan& plan) {
  for (const Phase& phase : plan.phases)
    for (const Pass& pass : phase.passes)
      if (pass.blocks && pass.blocks->sample_ranks) {
        static_cast<void>(pass.blocks->sample_ranks->on_host());
        static_cast<void>(pass.lists[1].order.listed());
      }
}

/// A plan's layout on the host and on the card.
struct LaidOutPlan {
  LaidOutPlan(const DeviceProblem& bound, const Plan& plan, int64_t tile_rows)
      : flat(flatten(bound.shapes(), plan, tile_rows)),
        on_card(bound.shapes(), flat, bound.precision(), tile_rows, nullptr),
        inputs(inputs_of(bound, on_card, bound.precision(), true)) {}

  FlatPlan flat;
  DevicePlan on_card;
  InputArrays inputs;
};

/// One backward call. The gradient of queries goes by the tiles of the forward pass; while the card computes
/// it, the plan is turned round for that of keys and values.
class BackwardCall {
 public:
  /// `target`: where the gradients go in the end; null: nowhere on the card.
  BackwardCall(const DeviceProblem& bound, const Plan& plan, const DeviceGradients* target)
      : bound_(bound),
        problem_(bound.shapes()),
        plan_(plan),
        target_(target),
        device_(Device::current()),
        timer_(device_),
        wide_tiles_(fits_wide_tiles(problem_, plan, bound.precision())),
        tile_rows_(wide_tiles_ ? kWideTileRows : kTileRows),
        by_queries_(bound, plan, tile_rows_),
        layout_(watch_.seconds()),
        finishes_queries_(target != nullptr && wide_tiles_ && is_one_phase(problem_, by_queries_.flat)),
        dquery_(
            finishes_queries_ ? 0 : problem_.heads() * problem_.query_count() * by_queries_.inputs.head_dim,
            "gradients of queries"),
        keys_(problem_, problem_.value_dim(), true) {
    require_room(bound.precision(), problem_.head_dim(), problem_.value_dim());
    fetch_samples(plan);
    dquery_.clear();
  }

  void run(const DeviceUpstream& upstream, const float* maximum, const float* inverse) {
    const BackwardRows rows{upstream.rows(), by_queries_.inputs.value_dim, maximum, inverse,
                            upstream.delta()};
    timer_.start();
    for (const FlatPhase& phase : by_queries_.flat.phases)
      check(launch_query_gradient(bound_.precision(), query_arguments(rows, phase), device_.stream()),
            "the gradient of queries");
    timer_.stop();
    if (!has_sampled_blocks(plan_)) return run_keys(rows, plan_, by_queries_);
    const Stopwatch listing;
    const Plan listed = with_groups(plan_);
    const LaidOutPlan by_keys(bound_, listed, tile_rows_);
    layout_ += listing.seconds();
    run_keys(rows, listed, by_keys);
  }

  [[nodiscard]] AttentionGradients gradients() const {
    return {unpadded(dquery_, problem_.query.shape),
            keys_.downloaded(keys_.dkey(), problem_.head_dim()),
            keys_.downloaded(keys_.dvalue(), problem_.value_dim()),
            {}};
  }
  /// Writes to the target what is not there yet.
  void store() const {
    if (!finishes_queries_) store(dquery_, by_queries_.inputs.head_dim, target_->query);
    if (keys_.is_finished()) return;
    store(keys_.dkey(), static_cast<int32_t>(problem_.head_dim()), target_->key);
    store(keys_.dvalue(), static_cast<int32_t>(problem_.value_dim()), target_->value);
  }
  void report(Diagnostics& diagnostics) {
    diagnostics.entries = entries_;
    const double computing = timer_.seconds();
    book(diagnostics, Stage::backward, std::min(layout_, std::max(watch_.seconds() - computing, 0.0)),
         computing, watch_.seconds());
  }

 private:
  void run_keys(const BackwardRows& rows, const Plan& plan, const LaidOutPlan& laid_out) {
    KeyGradientArguments arguments;
    arguments.plan = laid_out.on_card.arrays();
    arguments.inputs = laid_out.inputs;
    arguments.rows = rows;
    arguments.gradient_scale = problem_.scale;
    arguments.is_plain = wide_tiles_;
    const size_t phases = laid_out.flat.phases.size();
    for (size_t p = 0; p < phases; ++p) {  // leaves, which have all keys, write what the others add to
      const Stopwatch inverting;
      const KeyWork work = invert(problem_, plan, laid_out.flat, static_cast<int64_t>(p), tile_rows_);
      layout_ += inverting.seconds();
      keys_.add(work, arguments, bound_.precision(), device_, &timer_, phases == 1 ? target_ : nullptr);
    }
    keys_.end();
    entries_ = count_entries(plan);
  }

  [[nodiscard]] QueryGradientArguments query_arguments(const BackwardRows& rows,
                                                       const FlatPhase& phase) const {
    QueryGradientArguments arguments;
    arguments.plan = by_queries_.on_card.arrays();
    arguments.inputs = by_queries_.inputs;
    arguments.rows = rows;
    arguments.gradient_scale = problem_.scale;
    arguments.dquery = dquery_.data();
    arguments.first_tile = phase.first_tile;
    arguments.tile_count = phase.last_tile - phase.first_tile;
    arguments.wide_tiles = wide_tiles_;
    if (!finishes_queries_) return arguments;
    arguments.finished = target_->query.data;
    arguments.finished_type = target_->query.type;
    arguments.finished_width = static_cast<int32_t>(problem_.head_dim());
    return arguments;
  }

  void store(const DeviceArray<float>& rows, int32_t stride, const DeviceTensor& target) const {
    const auto width = static_cast<int32_t>(target.shape.dim);
    check(launch_store({rows.data(), stride, target.data, target.type, width, target.shape.size() / width},
                       device_.stream()),
          "writing gradients");
  }

  const Stopwatch watch_;
  const DeviceProblem& bound_;
  const AttentionProblem& problem_;
  const Plan& plan_;
  const DeviceGradients* target_;
  Device& device_;
  DeviceTimer timer_;
  const bool wide_tiles_;
  const int64_t tile_rows_;
  const LaidOutPlan by_queries_;
  double layout_;
  const bool finishes_queries_;
  const DeviceArray<float> dquery_;
  KeyGradients keys_;
  int64_t entries_ = 0;
};

ForwardTarget target_of(const DeviceTensor& out, const DeviceTensor& lse) {
  return {out.data, out.type, static_cast<float*>(lse.data)};
}

void require_gradient(const Plan& plan, const TensorShape& out, const TensorShape& dout) {
  if (!(dout == out))
    fail_input("dout must have the shape of out, " + to_string(out) + ", but is " + to_string(dout));
  if (has_query_terms(plan)) fail_usage("a plan with moments or linear values has no gradient");
}

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

std::unique_ptr<BoundProblem> bind_device_tensors(const AttentionProblem& problem, const DeviceInputs& inputs,
                                                  const Engine& engine, Precision precision) {
  require_device(inputs.device);
  static_cast<void>(Device::current());
  return std::make_unique<DeviceProblem>(problem, inputs, engine, precision);
}

void expect_forward(const BoundProblem& bound, const DeviceTensor& out, const DeviceTensor& lse) {
  dynamic_cast<const DeviceProblem&>(bound).expect_forward(target_of(out, lse));
}

AttentionResult forward_on_device(const BoundProblem& bound, const Plan& plan, const EngineOptions& options) {
  refuse_unsuited_options(plan, options);
  const DeviceCall call(bound, plan);
  return forward_to_host(call.problem, plan, options);
}

DeviceForward forward_to_device(const BoundProblem& bound, const Plan& plan, const DeviceTensor& out,
                                const DeviceTensor& lse, bool backward_follows) {
  const DeviceCall call(bound, plan);
  DeviceForward forward;
  forward.call = std::make_shared<ForwardCall>(call.problem, plan, EngineOptions{}, target_of(out, lse),
                                               call.problem.take_begun());
  ForwardCall& own = *forward.call;
  own.begin();
  if (backward_follows) {
    auto sums = std::make_shared<DeviceSums>();
    sums->maximum = std::move(own.state().maximum);
    sums->inverse = std::move(own.state().inverse);
    sums->clipped = std::move(own.clipped());
    forward.sums = std::move(sums);
  }
  own.forget_state();
  return forward;
}

int64_t wait_for(const BoundProblem& bound, const DeviceForward& forward) {
  const StreamScope scope(dynamic_cast<const DeviceProblem&>(bound).stream());
  return forward.call->end();
}

Diagnostics diagnostics_of(const BoundProblem& bound, const DeviceForward& forward) {
  const StreamScope scope(dynamic_cast<const DeviceProblem&>(bound).stream());
  Diagnostics diagnostics;
  forward.call->report(diagnostics);
  return diagnostics;
}

AttentionGradients backward_on_device(const BoundProblem& bound, const Plan& plan,
                                      const AttentionResult& forward, TensorView<const float> dout) {
  require_gradient(plan, forward.out.shape(), dout.shape);
  const DeviceCall device_call(bound, plan);
  const DeviceProblem& own = device_call.problem;
  BackwardCall call(own, plan, nullptr);
  const DeviceWeights weights(forward.sums);
  const DeviceArray<float> raw(dout.data, dout.shape.size(), "gradients of outputs");
  const DeviceArray<float> out(forward.out.data(), dout.shape.size(), "outputs");
  const DeviceArray<uint8_t> clipped(forward.clipped.data(), forward.clipped.shape().size(),
                                     "clipped elements");
  const DeviceUpstream upstream(own.precision(), {raw.data(), Precision::fp32, dout.shape}, out.data(),
                                clipped.data());
  call.run(upstream, weights.maximum.data(), weights.inverse.data());
  AttentionGradients gradients = call.gradients();
  call.report(gradients.diagnostics);
  return gradients;
}

void backward_to_device(const BoundProblem& bound, const Plan& plan, const DeviceForward& forward,
                        const DeviceTensor& out, const DeviceTensor& dout, const DeviceGradients& gradients) {
  require_gradient(plan, out.shape, dout.shape);
  const DeviceCall device_call(bound, plan);
  const DeviceProblem& own = device_call.problem;
  BackwardCall call(own, plan, &gradients);
  const DeviceUpstream upstream(own.precision(), dout, out.data, forward.sums->clipped.data());
  call.run(upstream, forward.sums->maximum.data(), forward.sums->inverse.data());
  call.store();
}

Tensor<float> transposed_on_device(const BoundProblem& bound, const Plan& plan, const RowSums& denominators,
                                   TensorView<const float> rows) {
  const DeviceCall call(bound, plan);
  const DeviceProblem& own = call.problem;
  const AttentionProblem& problem = own.shapes();
  require_room(Precision::fp32, problem.head_dim(), 1);
  Device& device = Device::current();
  const FlatPlan flat = flatten(problem, plan);
  const DevicePlan device_plan(problem, flat, Precision::fp32, kTileRows, nullptr);
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
                 nullptr, nullptr);
  products.end();
  return products.downloaded(products.dvalue(), rows.shape.dim);
}

}  // namespace hyperattn::cuda
