#include "experiments/language_model/experiment.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <new>
#include <optional>
#include <set>

#include "algorithms/backend.h"
#include "algorithms/kernels/instruction_set.h"
#include "algorithms/registry.h"
#include "core/cancel.h"
#include "core/error.h"
#include "core/parallel.h"
#include "experiments/config/config.h"
#include "experiments/config/grid.h"
#include "experiments/files/read_log.h"
#include "experiments/inputs/input_source.h"
#include "experiments/language_model/decoder.h"
#include "experiments/language_model/model_cases.h"
#include "experiments/language_model/text.h"
#include "experiments/results/result_store.h"
#include "experiments/running/progress.h"
#include "experiments/running/session.h"
#include "experiments/sweep/run_plan.h"

namespace hyperattn {
namespace {

constexpr const char* kDefaultConfig =
    "name: language_model\ninputs: {source: language_model}\nbackends: hyper\n";
constexpr double kMaxRows = std::numeric_limits<int32_t>::max();

// --------------------------------------------------------------------------------------- configuration

std::vector<ParameterSpec> window_parameters() {
  std::vector<ParameterSpec> specs = model_and_text_parameters();
  specs.push_back(
      integer_parameter("seq_len", "tokens that a window predicts").between(1, kMaxRows).by_default(4096));
  specs.push_back(
      integer_parameter("windows", "windows of the text, from its start").between(1, kMaxRows).by_default(1));
  specs.push_back(
      choice_parameter("replace", {"last", "first", "even", "odd"}, "which layers are replaced first"));
  specs.push_back(
      integer_list_parameter("replaced", "numbers of replaced layers; default 0, 1, ... up to all")
          .at_least(0)
          .or_absent());
  return specs;
}

/// Stands for the model and its windows where a sweep has a source, so that `lm` has the sweep's grammar.
class WindowSource final : public InputSource {
 public:
  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] const std::string& meaning() const override { return meaning_; }
  [[nodiscard]] const std::vector<ParameterSpec>& parameters() const override { return parameters_; }

  /// Of one layer's attention.
  [[nodiscard]] InputShapes shapes(const Parameters& parameters) const override {
    const ModelConfig config = read_model_config(parameters.text("model"));
    const int64_t rows = parameters.integer("seq_len");
    const std::string refusal = why_not_length(config, rows);
    if (!refusal.empty()) fail_usage("seq_len: " + refusal);
    if (parameters.has("replaced"))
      for (const int64_t count : parameters.integers("replaced"))
        if (count > config.num_hidden_layers)
          fail_usage("replaced must be at most " + std::to_string(config.num_hidden_layers) +
                     " (the model's layers), but is " + std::to_string(count));
    const TensorShape queries{1, config.num_attention_heads, rows, config.head_dim};
    const TensorShape keys{1, config.num_key_value_heads, rows, config.head_dim};
    return {queries, keys, keys};
  }

  [[nodiscard]] AttentionInputs make(const Parameters&, uint64_t, uint32_t) const override {
    throw std::logic_error("the windows of `hyperattn lm` are no inputs of a single call");
  }

 private:
  std::string name_ = "language_model";
  std::string meaning_ = "windows of a text, predicted by a language model";
  std::vector<ParameterSpec> parameters_ = window_parameters();
};

Registry make_model_registry(bool reads_stored) {
  static const WindowSource source;
  return {{&source},
          all_backends(),
          {},
          {{"causal", "a language model is causal"},
           {"scale", "a language model has its own"},
           {"mask_path", "a language model's layers have no mask file"},
           {"timing", "hyperattn lm calls the model once for each window, forward"},
           {"measures", "hyperattn lm measures the loss and the times of the model"}},
          {{"mask", {"file"}}},
          reads_stored};
}

/// The configuration as it would be stored now; versions before stored parameters that had no effect.
std::string resolve_again(const std::string& stored) {
  static const Registry registry = make_model_registry(true);
  return read_config_text(stored, "the stored configuration", {}, {}, registry).resolved_yaml;
}

// ---------------------------------------------------------------------------------------------- running

/// Models and texts, each read once.
class Library {
 public:
  const Decoder& model(const InputPoint& point) {
    const std::string& folder = point.parameters.text("model");
    return models_.try_emplace(folder, folder).first->second;
  }

  const TokenText& text(const InputPoint& point) {
    const Parameters& parameters = point.parameters;
    const std::string key = parameters.text("model") +
                            (parameters.has("text") ? " text " + parameters.text("text") : "") +
                            (parameters.has("ids") ? " ids " + parameters.text("ids") : "");
    const auto found = texts_.find(key);
    if (found != texts_.end()) return found->second;
    return texts_.emplace(key, read_tokens(parameters, model(point).config())).first->second;
  }

 private:
  std::map<std::string, Decoder> models_;
  std::map<std::string, TokenText> texts_;
};

/// What all windows of a case gave.
struct Evaluation {
  double nats = 0;  ///< sum over tokens
  int64_t tokens = 0;
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
    for (const double loss : result.losses) evaluation.nats += loss;
    evaluation.tokens += n;
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
  record.set_parameters(point.source->parameters(), point.parameters);
  if (model_case.replaced > 0)
    record.set_parameters(model_case.grid_case->backend->parameters(), model_case.grid_case->parameters);
  RowValues& row = record.row;
  row.set_text("case_id", model_case.id);
  const Backend& backend = *model_case.grid_case->backend;
  row.set_text("backend", model_case.replaced > 0 ? backend.name() : "");
  row.set_text("engine", model_case.replaced > 0 ? backend.engine().name() : "");
  row.set_text("source", point.source->name());
  row.set_text("input_label", point.label);
  row.set_text("pass", pass_name(PassKind::forward));
  row.set_integer("key_len", point.shapes->key.rows);
  row.set_integer("head_dim", point.shapes->query.dim);
  row.set_integer("value_dim", point.shapes->value.dim);
  row.set_integer("heads", point.shapes->query.heads);
  if (point.shapes->key.heads != point.shapes->query.heads)
    row.set_integer("kv_heads", point.shapes->key.heads);
  row.set_integer("batch", 1);
  row.set_integer("causal", 1);
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
  const double nats = evaluation.nats / static_cast<double>(evaluation.tokens);
  row.set_text("status", "ok");
  row.set_number("cross_entropy", nats);
  row.set_number("bits_per_token", nats / std::log(2.0));
  if (bytes) row.set_number("bits_per_byte", nats / std::log(2.0));
  row.set_number("perplexity", std::exp(nats));
  row.set_number("seconds", mean(evaluation.total_seconds));
  row.set_number("attention_seconds", mean(evaluation.attention_seconds));
  row.set_text("baseline_backend", "exact");
  row.set_text("baseline_engine", default_engine().name());
  row.set_number("baseline_seconds", mean(plain.total_seconds));
  row.set_number("speedup", mean(plain.total_seconds) / mean(evaluation.total_seconds));
  row.set_number("attention_speedup", mean(plain.attention_seconds) / mean(evaluation.attention_seconds));
  for (size_t window = 0; window < evaluation.total_seconds.size(); ++window) {
    record.add_timing(kTotalStage, static_cast<int64_t>(window), evaluation.total_seconds[window]);
    record.add_timing("attention", static_cast<int64_t>(window), evaluation.attention_seconds[window]);
  }
}

std::string row_line(const ModelCase& model_case, const TrialRecord& record) {
  const RowValues& row = record.row;
  const std::string line = describe(model_case) + ", trial " + std::to_string(row.integer("trial")) + ": ";
  if (!record.ok()) return line + "failed: " + row.text("message");
  char text[200];
  std::snprintf(text, sizeof text,
                "%.4f bits per %s, perplexity %.4g, attention %.3g s (%.3g x), in all %.3g s (%.3g x)",
                row.number("bits_per_token"), row.has("bits_per_byte") ? "byte" : "token",
                row.number("perplexity"), row.number("attention_seconds"), row.number("attention_speedup"),
                row.number("seconds"), row.number("speedup"));
  return line + text;
}

/// Everything of a run that its steps share.
struct Session {
  const ExperimentConfig& config;
  Library& library;
  ResultStore& store;
  Progress& progress;
  Outcome outcome;
};

void store_row(Session& session, const ModelCase& model_case, const TrialRecord& record) {
  session.store.append(record);
  ++session.outcome.stored;
  const std::string line = row_line(model_case, record);
  if (!record.ok()) session.outcome.failures.push_back(line);
  session.progress.row_done(line, !record.ok());
}

/// Runs and stores one case. `plain` is what speedups are over: filled by the first case, which has no layer
/// replaced and runs again, without a row, where it is stored already.
void run_case(Session& session, const ModelCase& model_case, int64_t trial,
              std::optional<Evaluation>& plain) {
  TrialRecord record = make_record(model_case, session.library, session.config.seed, trial);
  session.progress.doing(describe(model_case));
  try {
    const Evaluation evaluation = evaluate(model_case, session.library, session.config.seed, trial);
    if (model_case.replaced == 0) plain = evaluation;
    if (!plain) fail_usage("the windows could not be evaluated without a replaced layer");
    record_evaluation(evaluation, *plain, session.library.text(*model_case.point).bytes, record);
  } catch (const Error& error) {
    record.row.set_text("status", "failed");
    record.row.set_text("message", error.what());
  } catch (const std::bad_alloc&) {
    record.row.set_text("status", "failed");
    record.row.set_text("message", "not enough memory");
  }
  if (!session.store.is_done(record.key())) store_row(session, model_case, record);
  session.progress.advance(estimated_flops(model_case));
}

/// The cases of a point that a trial still has to run; the first one whenever there is any.
PointCases missing_cases(const PointCases& cases, int64_t trial, const ResultStore& store) {
  PointCases missing;
  for (const ModelCase& model_case : cases)
    if (!store.is_done({model_case.id, trial})) missing.push_back(model_case);
  if (!missing.empty() && missing.front().replaced != 0) missing.insert(missing.begin(), cases.front());
  return missing;
}

Outcome run_points(const ExperimentConfig& config, const std::vector<PointCases>& points, Library& library,
                   ResultStore& store) {
  std::vector<std::pair<int64_t, PointCases>> work;
  int64_t rows = 0;
  double weight = 0;
  for (const PointCases& cases : points)
    for (int64_t trial = 0; trial < config.trials; ++trial) {
      work.emplace_back(trial, missing_cases(cases, trial, store));
      for (const ModelCase& model_case : work.back().second) {
        rows += store.is_done({model_case.id, trial}) ? 0 : 1;
        weight += estimated_flops(model_case);
      }
    }
  Progress progress(rows, weight);
  Session session{config, library, store, progress, {}};
  try {
    for (const auto& [trial, cases] : work) {
      std::optional<Evaluation> plain;
      for (const ModelCase& model_case : cases) run_case(session, model_case, trial, plain);
    }
  } catch (const Cancelled&) {
    session.outcome.interrupted = true;
  }
  return session.outcome;
}

void check_contents(const Grid& grid, Library& library) {
  for (const InputPoint& point : grid.inputs) {
    warn_beyond_trained_length(library.model(point).config(), point.parameters.text("model"),
                               point.parameters.integer("seq_len"));
    static_cast<void>(library.text(point).window(point.parameters.integer("windows") - 1,
                                                 point.parameters.integer("seq_len")));
  }
}

// Half of what the processor's multiply-adds reach: near what a window was seen to do.
constexpr double kShareOfPeak = 0.5;

void print_plan(const ExperimentConfig& config, const std::vector<PointCases>& points,
                const std::string& output, const StoredTrials& stored) {
  const double flops_per_second = kShareOfPeak * 1e9 * measure_fma_peak_gflops(thread_count());
  double seconds = 0;
  int64_t trials = 0;
  int64_t trials_done = 0;
  std::printf("%-16s  %5s  %12s  %12s  %s\n", "case", "done", "work/trial", "time", "what");
  for (const PointCases& cases : points)
    for (const ModelCase& model_case : cases) {
      int64_t finished = 0;
      for (int64_t trial = 0; trial < config.trials; ++trial)
        finished += stored.done.count({model_case.id, trial});
      const double flops = estimated_flops(model_case);
      const double case_seconds = flops / flops_per_second * static_cast<double>(config.trials - finished);
      const std::string share = std::to_string(finished) + "/" + std::to_string(config.trials);
      std::printf("%-16s  %5s  %12s  %12s  %s\n", model_case.id.c_str(), share.c_str(),
                  quantity_text(flops, "FLOP").c_str(), duration_text(case_seconds).c_str(),
                  describe(model_case).c_str());
      seconds += case_seconds;
      trials += config.trials;
      trials_done += finished;
    }
  print_stored(stored, output, trials, trials_done);
  std::printf("estimated: %s\n", duration_text(seconds).c_str());
}

/// All but the provenance.
RunDescription describe_run(const ExperimentConfig& config, const std::vector<PointCases>& points) {
  RunDescription run;
  run.name = config.name;
  run.config = config.resolved_yaml;
  run.trials_per_case = config.trials;
  run.resolve_again = resolve_again;
  for (const PointCases& cases : points)
    for (const ModelCase& model_case : cases) run.cases.push_back({model_case.id, model_case.parameters});
  return run;
}

}  // namespace

const Registry& model_registry() {
  static const Registry registry = make_model_registry(false);
  return registry;
}

ExperimentConfig read_model_experiment(const RunOptions& options, const std::string& fallback) {
  ExperimentConfig config =
      options.config.empty()
          ? read_config_text(fallback, "lm", options.overrides, options.group, model_registry())
          : read_config(options.config, options.overrides, options.group, model_registry());
  for (InputEntry& input : config.inputs) input.parameters.set("causal", true);
  return config;
}

int run_language_model(const RunOptions& options) {
  ReadLog log;
  const ExperimentConfig config = read_model_experiment(options, kDefaultConfig);
  const Grid grid = expand_grid(config);
  validate_cases(config, grid);
  const std::vector<PointCases> points = plan_model_cases(config, grid);
  size_t cases = 0;
  for (const PointCases& point : points) {
    cases += point.size();
    for (const ModelCase& model_case : point) check_model_case(model_case);
  }
  check_trial_count(config, cases);
  const std::string output = options.output.empty() ? config.output : options.output;
  Library library;
  check_contents(grid, library);
  log.stop();
  log.refuse_output(output);
  RunDescription run = describe_run(config, points);
  run.files = log.digests();
  if (options.dry_run) {
    print_left_out(grid);
    print_plan(config, points, output, stored_trials(output, run, options));
    return 0;
  }
  run.provenance = describe_session(options);
  ResultStore store(output, run, what_if_existing(options));
  const Outcome outcome = run_points(config, points, library, store);
  store.finish(!outcome.interrupted);
  return report_outcome(options, output, outcome);
}

}  // namespace hyperattn
