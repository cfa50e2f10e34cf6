#include "experiments/lm/logits.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "algorithms/backend.h"
#include "algorithms/registry.h"
#include "core/error.h"
#include "experiments/config/config.h"
#include "experiments/config/grid.h"
#include "experiments/files/hdf5_file.h"
#include "experiments/files/output_file.h"
#include "experiments/files/read_log.h"
#include "experiments/language_model/decoder.h"
#include "experiments/language_model/text.h"
#include "experiments/lm/model_cases.h"
#include "experiments/lm/model_registry.h"

namespace hyperattn {
namespace {

/// Without a configuration no layer is replaced, so the backend is the one that takes any length.
std::string default_config() {
  return fmt::format("name: logits\ninputs: {{source: language_model}}\nbackends: {}\n",
                     exact_backend().name());
}

int64_t parse_place(const std::string& text, const std::string& all, int64_t limit, int64_t n) {
  int64_t place = -1;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), place);
  if (error != std::errc() || stop != text.data() + text.size() || place < 0 || place > limit)
    fail_usage(
        fmt::format("--positions must be numbers below seq_len ({}) and ranges BEGIN:END within it, such as "
                    "0,10,20:30, but is '{}', where '{}' is none",
                    n, all, text));
  return place;
}

/// `seq_len=64` stands for `inputs.seq_len=64`.
RunOptions with_full_names(RunOptions options) {
  const std::vector<ParameterSpec>& specs = model_registry().sources.front()->parameters();
  for (std::string& change : options.overrides) {
    const std::string key = change.substr(0, change.find('='));
    for (const ParameterSpec& spec : specs)
      if (spec.name == key) {
        change.insert(0, "inputs.");
        break;
      }
  }
  return options;
}

/// The only case of a plan, or the one where no layer is replaced if `replaced` does not choose.
const ModelCase& only_case(const ExperimentConfig& config, const Grid& grid,
                           const std::vector<ModelCase>& cases) {
  if (grid.inputs.size() != 1 || grid.cases.size() != 1 || config.trials != 1)
    fail_usage("lm --logits takes one model, one text, one backend and one trial, not a sweep of cases");
  const Parameters& parameters = grid.inputs.front().parameters;
  if (parameters.integer("windows") != 1)
    fail_usage("lm --logits writes the first window only, so windows must be 1, but is " +
               std::to_string(parameters.integer("windows")));
  if (!parameters.has("replaced")) {
    if (const std::string& backend = grid.cases.front().backend->name(); backend != exact_backend().name())
      fail_usage(
          fmt::format("lm --logits replaces no layer where replaced is missing, so backend '{}' has no "
                      "effect; add the number of layers, such as replaced=[2]",
                      backend));
    return cases.front();
  }
  if (parameters.integers("replaced").size() != 1)
    fail_usage("lm --logits takes one number of replaced layers, such as replaced=[2]");
  return cases.back();
}

}  // namespace

std::vector<int64_t> parse_positions(const std::string& text, int64_t n) {
  std::vector<int64_t> positions;
  const auto add = [&](int64_t begin, int64_t end) {
    for (int64_t place = begin; place < end; ++place) positions.push_back(place);
  };
  if (text.empty()) add(0, n);
  for (size_t at = 0; !text.empty() && at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string item = text.substr(at, end - at);
    const size_t colon = item.find(':');
    if (colon == std::string::npos) {
      const int64_t place = parse_place(item, text, n - 1, n);
      add(place, place + 1);
    } else {
      const int64_t begin = parse_place(item.substr(0, colon), text, n, n);
      const int64_t stop = parse_place(item.substr(colon + 1), text, n, n);
      if (begin >= stop)
        fail_usage(fmt::format("--positions: the range '{}' is empty; BEGIN must lie before END", item));
      add(begin, stop);
    }
    at = end + 1;
  }
  return positions;
}

void write_logits(const RunOptions& options, const std::string& positions_text) {
  const ReadLog log;
  const ExperimentConfig config = read_model_experiment(with_full_names(options), default_config());
  const Grid grid = expand_grid(config);
  validate_cases(config, grid);
  const std::vector<ModelCase> cases = plan_model_cases(config, grid);
  const ModelCase& model_case = only_case(config, grid, cases);
  check_model_case(model_case);
  const Parameters& parameters = model_case.point->parameters;
  const int64_t n = parameters.integer("seq_len");
  const std::vector<int64_t> positions = parse_positions(positions_text, n);
  refuse_existing(options.output, options.force, "give --force to replace it");
  const Decoder model(parameters.text("model"));
  warn_beyond_trained_length(model.config(), parameters.text("model"), n);
  const TokenText text = read_tokens(parameters, model.config());
  const int32_t* ids = text.window(0, n, false);
  log.refuse_output(options.output);
  OutputFile file(options.output);

  Hdf5File hdf5 = Hdf5File::create(file.temporary_path());
  const int64_t layers = model.config().num_hidden_layers;
  const auto rows = static_cast<int64_t>(positions.size());
  hdf5.create_floats("/logits", {rows, model.config().vocab_size});
  model.logits(ids, n, attention_of(model_case, layers), {config.seed, 0}, positions,
               [&](int64_t first, MatrixView<const float> logits) {
                 hdf5.write_rows("/logits", first, logits.rows, logits.data);
               });
  hdf5.write_integers("/positions", {rows}, positions.data());
  const std::vector<int64_t> wide_ids(ids, ids + n);
  hdf5.write_integers("/ids", {n}, wide_ids.data());
  hdf5.write_attribute("/logits", "model", parameters.text("model"));
  hdf5.write_attribute("/logits", "architecture", model.config().architecture);
  hdf5.write_attribute("/logits", "text", text.name);
  hdf5.write_attribute("/logits", "text_sha256", text.sha256);
  hdf5.write_attribute("/logits", "attention", describe(model_case));
  hdf5.write_attribute("/logits", "replaced_layers",
                       to_string(ParameterValue(replaced_layers(model_case, layers))));
  hdf5.close();
  file.commit();
}

}  // namespace hyperattn
