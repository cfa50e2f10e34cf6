#include "experiments/lm/capture.h"

#include <fmt/core.h>

#include "core/error.h"
#include "core/text.h"
#include "experiments/config/config.h"
#include "experiments/config/grid.h"
#include "experiments/config/registry.h"
#include "experiments/files/hdf5_file.h"
#include "experiments/files/output_file.h"
#include "experiments/files/read_log.h"
#include "experiments/inputs/language_model.h"

namespace hyperattn {
namespace {

std::string heads_text(const std::vector<ModelHead>& heads) {
  return join_of(heads, [](const ModelHead& head) { return fmt::format("({}, {})", head.layer, head.head); });
}

/// The source's parameters as the arguments set them, by the grammar of a sweep.
Parameters capture_parameters(const std::vector<std::string>& arguments) {
  std::vector<std::string> overrides;
  for (const std::string& argument : arguments) {
    if (argument.find('=') == std::string::npos)
      fail_usage(fmt::format(
          "lm --capture takes KEY=VALUE of the source language_model only, but '{}' is given", argument));
    const bool is_path = argument.rfind("inputs.", 0) == 0;
    overrides.push_back(is_path ? argument : "inputs." + argument);
  }
  Registry registry = default_registry();
  const std::string reason = "a capture is Q, K and V alone";
  registry.without = {{"causal", reason}, {"scale", reason}, {"label", reason}};
  const ExperimentConfig config =
      read_config_text("inputs: {source: language_model}\nbackends: exact\nmeasures: []\n", "lm --capture",
                       overrides, {}, registry);
  const Grid grid = expand_grid(config);
  if (grid.inputs.size() != 1)
    fail_usage("lm --capture takes one value for each parameter, not a list of cases");
  return grid.inputs.front().parameters;
}

}  // namespace

void capture_heads(const std::vector<std::string>& arguments, const std::string& output, bool force) {
  const Parameters parameters = capture_parameters(arguments);
  refuse_existing(output, force, "give --force to replace it");
  const ReadLog log;
  const HeadCapture capture(parameters);
  const std::string& model = parameters.text("model");
  warn_beyond_trained_length(capture.decoder().config(), model, parameters.integer("seq_len"));
  log.refuse_output(output);
  OutputFile file(output);
  const AttentionInputs inputs = capture.window(0);
  Hdf5File hdf5 = Hdf5File::create(file.temporary_path());
  hdf5.write_tensor("/inputs/q", inputs.query.view());
  hdf5.write_tensor("/inputs/k", inputs.key.view());
  hdf5.write_tensor("/inputs/v", inputs.value.view());
  hdf5.write_attribute("/inputs", "causal_origin", true);
  hdf5.write_attribute("/inputs", "model", model);
  hdf5.write_attribute("/inputs", "text", capture.text().name);
  hdf5.write_attribute("/inputs", "text_sha256", capture.text().sha256);
  hdf5.write_attribute("/inputs", "layer_and_head", heads_text(capture.heads()));
  hdf5.close();
  file.commit();
}

}  // namespace hyperattn
