#include "experiments/lm/experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "algorithms/backend.h"
#include "algorithms/kernels/instruction_set.h"
#include "algorithms/registry.h"
#include "core/error.h"
#include "core/parallel.h"
#include "experiments/config/config.h"
#include "experiments/config/grid.h"
#include "experiments/inputs/input_source.h"
#include "experiments/language_model/architectures/read_model_config.h"
#include "experiments/language_model/decoder.h"
#include "experiments/language_model/text.h"
#include "experiments/lm/model_cases.h"
#include "experiments/lm/model_registry.h"
#include "experiments/running/attempt.h"
#include "experiments/running/input_columns.h"
#include "experiments/running/runner.h"

namespace hyperattn {
namespace {

// What the command without a configuration runs: the project's subject, the paper's method.
constexpr const char* kDefaultConfig =
    "name: language_model\ninputs: {source: language_model}\nbackends: hyper\n";
// Of what the processor's multiply-adds reach. Measured (Zen 4, two threads, three windows of the shipped
// model with no layer and with all six replaced by hyper): 0.29 s where this gives 0.29 s at 512 tokens, 1.2
// s for 1.6 s at 2048 and 7.6 s for 11 s at 8192, so an estimate is rather too long.
constexpr double kShareOfPeak = 0.5;

/// Models and texts, each read once.
class Library {
 public:
  const Decoder& model(const InputPoint& point) {
    const std::string& folder = point.parameters.text("model");
    return models_.try_emplace(folder, folder).first->second;
  }

  const TokenText& text(const InputPoint& point) { return text(point, model(point).config()); }

  /// `config` is the model's, which need not be read for its text.
  const TokenText& text(const InputPoint& point, const ModelConfig& config) {
    const Parameters& parameters = point.parameters;
    const std::string key = parameters.text("model") +
                            (parameters.has("text") ? " text " + parameters.text("text") : "") +
                            (parameters.has("ids") ? " ids " + parameters.text("ids") : "");
    const auto found = texts_.find(key);
    if (found != texts_.end()) return found->second;
    return texts_.emplace(key, read_tokens(parameters, config)).first->second;
  }

 private:
  std::map<std::string, Decoder> models_;
  std::map<std::string, TokenText> texts_;
};

/// What all windows of a case gave.
struct Evaluation {
  std::vector<double> cross_entropy;      ///< by window, nats per token
  std::vector<double> attention_seconds;  ///< by window
  std::vector<double> total_seconds;      ///< by window
};

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

/// Windows of a trial have random choices of their own.
Evaluation evaluate(const ModelCase& model_case, Library& library, uint64_t seed, int64_t trial) {
  const InputPoint& point = *model_case.point;
  const Decoder& model = library.model(point);
  const TokenText& text = library.text(point);
  const int64_t n = point.parameters.integer("seq_len");
  const int64_t windows = point.parameters.integer("windows");
  const auto attention = attention_of(model_case, model.config().num_hidden_layers);
  Evaluation evaluation;
  for (int64_t window = 0; window < windows; ++window) {
    const DecoderSeed decoder_seed{seed, static_cast<uint32_t>(trial * windows + window)};
    const WindowResult result = model.evaluate(text.window(window, n), n, attention, decoder_seed);
    evaluation.cross_entropy.push_back(mean(result.losses));
    double seconds = 0;
    for (const double layer : result.attention_seconds) seconds += layer;
    evaluation.attention_seconds.push_back(seconds);
    evaluation.total_seconds.push_back(result.total_seconds);
  }
  return evaluation;
}

TrialRecord make_record(const ModelCase& model_case, Library& library, uint64_t seed, int64_t trial) {
  const InputPoint& point = *model_case.point;
  TrialRecord record;
  describe_input(point, record);
  if (model_case.replaced > 0)
    record.set_parameters(model_case.grid_case->backend->parameters(), model_case.grid_case->parameters);
  RowValues& row = record.row;
  row.set_text("case_id", model_case.id);
  const Backend& backend = *model_case.grid_case->backend;
  row.set_text("backend", model_case.replaced > 0 ? backend.name() : "");
  row.set_text("engine", model_case.replaced > 0 ? backend.engine().name() : "");
  row.set_text("pass", pass_name(PassKind::forward));
  row.set_integer("trial", trial);
  row.set_seed("seed", seed);
  row.set_integer("threads", thread_count());
  row.set_integer("replaced", model_case.replaced);
  const int64_t layers = library.model(point).config().num_hidden_layers;
  row.set_text("layers", to_string(ParameterValue(replaced_layers(model_case, layers))));
  row.set_text("text", library.text(point).name);
  row.set_text("text_sha256", library.text(point).sha256);
  return record;
}

void record_evaluation(const Evaluation& evaluation, const Evaluation& plain, bool bytes,
                       TrialRecord& record) {
  RowValues& row = record.row;
  const double nats = mean(evaluation.cross_entropy);  // windows have equal lengths
  row.set_text("status", "ok");
  row.set_number("cross_entropy", nats);
  row.set_number("bits_per_token", nats / std::log(2.0));
  if (bytes) row.set_number("bits_per_byte", nats / std::log(2.0));
  row.set_number("perplexity", std::exp(nats));
  row.set_text("window_cross_entropy", fmt::format("[{}]", fmt::join(evaluation.cross_entropy, ", ")));
  row.set_number("seconds", mean(evaluation.total_seconds));
  row.set_number("attention_seconds", mean(evaluation.attention_seconds));
  row.set_text("baseline_backend", exact_backend().name());
  row.set_text("baseline_engine", exact_backend().engine().name());
  row.set_number("baseline_seconds", mean(plain.total_seconds));
  row.set_number("speedup", mean(plain.total_seconds) / mean(evaluation.total_seconds));
  row.set_number("attention_speedup", mean(plain.attention_seconds) / mean(evaluation.attention_seconds));
  for (size_t window = 0; window < evaluation.total_seconds.size(); ++window) {
    record.add_timing(kTotalStage, static_cast<int64_t>(window), evaluation.total_seconds[window]);
    record.add_timing("attention", static_cast<int64_t>(window), evaluation.attention_seconds[window]);
  }
}

class ModelExperiment final : public Experiment {
 public:
  explicit ModelExperiment(ExperimentConfig config)
      : Experiment(std::move(config)), cases_(plan_model_cases(this->config(), grid())) {
    for (const ModelCase& model_case : cases_) {
      check_model_case(model_case);
      flops_.push_back(estimated_flops(model_case));
    }
    check_trial_count(this->config(), cases_.size());
  }

  [[nodiscard]] std::vector<RunCase> cases() const override {
    std::vector<RunCase> all;
    for (const ModelCase& one : cases_) all.push_back({one.id, one.parameters, one.grid_case->input});
    return all;
  }

  [[nodiscard]] std::string describe(size_t index) const override {
    return hyperattn::describe(cases_[index]);
  }

  [[nodiscard]] CaseCost cost(size_t index) override {
    CaseCost cost;
    cost.flops = flops_[index];
    if (flops_per_second_ == 0)
      flops_per_second_ = kShareOfPeak * 1e9 * measure_fma_peak_gflops(thread_count());
    cost.seconds = cost.flops / flops_per_second_;
    return cost;
  }

  [[nodiscard]] const char* flops_of() const override { return "trial"; }

  [[nodiscard]] double weight(const Trial& trial) const override {
    double flops = 0;
    for (const size_t index : evaluated(trial)) flops += flops_[index];
    return flops;
  }

  /// Texts in any case, which take no time; models, unless it is to be quick.
  void check_contents(const std::set<size_t>& points, bool quick) override {
    for (const size_t index : points) {
      const InputPoint& point = grid().inputs[index];
      const Parameters& parameters = point.parameters;
      const ModelConfig config =
          quick ? read_model_config(parameters.text("model")) : library_.model(point).config();
      warn_beyond_trained_length(config, parameters.text("model"), parameters.integer("seq_len"));
      static_cast<void>(library_.text(point, config)
                            .window(parameters.integer("windows") - 1, parameters.integer("seq_len")));
    }
  }

  /// Models and texts stay in memory.
  [[nodiscard]] bool reads_again() const override { return false; }

  /// The case without a replaced layer comes first: speedups are over it. Where it has its row already it
  /// runs again, without one.
  void run(const Trial& trial, TrialObserver& observer) override {
    std::optional<Evaluation> plain;
    for (const size_t index : evaluated(trial)) {
      const ModelCase& model_case = cases_[index];
      observer.doing(hyperattn::describe(model_case));
      const TrialRecord record = run_case(model_case, trial, plain);
      const bool wanted = std::find(trial.missing.begin(), trial.missing.end(), index) != trial.missing.end();
      const bool goes_on = !wanted || observer.store(index, record);
      observer.advance(flops_[index]);
      if (!goes_on) return;
    }
  }

  [[nodiscard]] std::string figures(const TrialRecord& record) const override {
    const RowValues& row = record.row;
    return fmt::format(
        "{:.4f} bits per {}, perplexity {:.4g}, attention {:.3g} s ({:.3g} x), in all {:.3g} s ({:.3g} x)",
        row.number("bits_per_token"), row.has("bits_per_byte") ? "byte" : "token", row.number("perplexity"),
        row.number("attention_seconds"), row.number("attention_speedup"), row.number("seconds"),
        row.number("speedup"));
  }

  [[nodiscard]] SteadyTimings steady() const override {
    SteadyTimings steady;
    steady.parts = "windows";
    steady.cure = "raise inputs.windows";
    return steady;
  }

  [[nodiscard]] std::string resolve_again(const std::string& stored) const override {
    return resolve_model_experiment(stored);
  }

 private:
  /// What a trial has to evaluate, in this order.
  [[nodiscard]] static std::vector<size_t> evaluated(const Trial& trial) {
    std::vector<size_t> all = trial.missing;
    if (!trial.stored.empty() && trial.stored.front() < all.front())
      all.insert(all.begin(), trial.stored.front());
    return all;
  }

  TrialRecord run_case(const ModelCase& model_case, const Trial& trial, std::optional<Evaluation>& plain) {
    TrialRecord record = make_record(model_case, library_, config().seed, trial.number);
    std::optional<Evaluation> evaluation;
    const std::string failure = why_failed(trial.case_timeout, 0, [&] {
      if (model_case.replaced > 0 && !plain)
        fail_usage("the windows could not be evaluated without a replaced layer");
      evaluation = evaluate(model_case, library_, config().seed, trial.number);
    });
    if (!failure.empty()) {  // also where it has come to an end, but too late
      record.fail(failure);
      return record;
    }
    if (model_case.replaced == 0) plain = evaluation;
    record_evaluation(*evaluation, *plain, library_.text(*model_case.point).bytes, record);
    return record;
  }

  std::vector<ModelCase> cases_;
  std::vector<double> flops_;    ///< of one trial, by case
  double flops_per_second_ = 0;  ///< 0: not measured yet
  Library library_;
};

}  // namespace

int run_language_model(const RunOptions& options) {
  return run_experiment(options, [&] {
    return std::make_unique<ModelExperiment>(read_model_experiment(options, kDefaultConfig));
  });
}

}  // namespace hyperattn
