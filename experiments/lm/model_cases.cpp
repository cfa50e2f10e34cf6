#include "experiments/lm/model_cases.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "algorithms/backend.h"
#include "core/error.h"
#include "core/text.h"
#include "experiments/config/case_identity.h"
#include "experiments/files/json_file.h"
#include "experiments/language_model/architectures/read_model_config.h"
#include "experiments/language_model/config/model_config.h"
#include "experiments/running/estimates.h"

namespace hyperattn {
namespace {

ModelCase make_case(const ExperimentConfig& config, const Grid& grid, const Case& grid_case,
                    int64_t replaced) {
  ModelCase made;
  made.grid_case = &grid_case;
  made.point = &grid.inputs[grid_case.input];
  made.replaced = replaced;
  nlohmann::json json = parse_json(case_parameters_json(config, grid, grid_case));
  json["replaced"] = replaced;
  json["inputs"].erase("replaced");
  if (replaced == 0) {
    json.erase("backend");
    json.erase("parameters");
  }
  made.parameters = json_line(json);
  made.id = hash_text(made.parameters);
  return made;
}

IntegerList replaced_counts(const InputPoint& point, int64_t layers) {
  IntegerList counts;
  if (point.parameters.has("replaced")) {
    for (const int64_t count : point.parameters.integers("replaced"))
      if (std::find(counts.begin(), counts.end(), count) == counts.end()) counts.push_back(count);
    return counts;
  }
  for (int64_t count = 0; count <= layers; ++count) counts.push_back(count);
  return counts;
}

// The attention of one layer, shapes only.
AttentionProblem layer_problem(const InputPoint& point, const LayerConfig& layer) {
  AttentionProblem problem = problem_of(point);
  problem.causal = true;
  problem.window = window_within(layer, point.shapes->query.rows);
  return problem;
}

// Weights that multiply each token once.
double matrix_weights(const ModelConfig& config) {
  const auto width = static_cast<double>(config.hidden_size);
  const auto heads = static_cast<double>(2 * (config.num_attention_heads + config.num_key_value_heads));
  const double layer = width * (heads * static_cast<double>(config.head_dim) +
                                (config.gated ? 3 : 2) * static_cast<double>(config.intermediate_size));
  return static_cast<double>(config.num_hidden_layers) * layer +
         width * static_cast<double>(config.vocab_size);
}

}  // namespace

std::vector<ModelCase> plan_model_cases(const ExperimentConfig& config, const Grid& grid) {
  std::vector<ModelCase> cases;
  for (const Case& grid_case : grid.cases) {
    const InputPoint& point = grid.inputs[grid_case.input];
    const bool begins = cases.empty() || cases.back().point != &point;
    if (begins) cases.push_back(make_case(config, grid, grid_case, 0));
    const int64_t layers = read_model_config(point.parameters.text("model")).num_hidden_layers;
    for (const int64_t count : replaced_counts(point, layers))
      if (count > 0) cases.push_back(make_case(config, grid, grid_case, count));
  }
  return cases;
}

void check_model_case(const ModelCase& model_case) {
  const Case& grid_case = *model_case.grid_case;
  const ModelConfig config = read_model_config(model_case.point->parameters.text("model"));
  for (const int64_t layer : replaced_layers(model_case, config.num_hidden_layers)) {
    const AttentionProblem problem =
        layer_problem(*model_case.point, config.layers[static_cast<size_t>(layer)]);
    if (problem.window == 0) continue;  // the grid's own check has seen it
    const std::string wrong = grid_case.backend->check(problem, grid_case.parameters);
    if (!wrong.empty())
      fail_usage(fmt::format(
          "lm: {}, and backend '{}' {}; choose other layers by replace and replaced, or a seq_len up to the "
          "window ({})",
          describe_window(config, layer), grid_case.backend->name(), wrong, describe(model_case)));
  }
}

std::vector<int64_t> replacement_order(const std::string& replace, int64_t layers) {
  std::vector<int64_t> order;
  for (int64_t layer = 0; layer < layers; ++layer) order.push_back(layer);
  if (replace == "last") std::reverse(order.begin(), order.end());
  if (replace == "even" || replace == "odd") {
    const int64_t wanted = replace == "even" ? 0 : 1;
    std::stable_partition(order.begin(), order.end(), [&](int64_t layer) { return layer % 2 == wanted; });
  }
  return order;
}

std::vector<int64_t> replaced_layers(const ModelCase& model_case, int64_t layers) {
  std::vector<int64_t> order = replacement_order(model_case.point->parameters.text("replace"), layers);
  order.resize(static_cast<size_t>(model_case.replaced));
  std::sort(order.begin(), order.end());
  return order;
}

std::vector<LayerAttention> attention_of(const ModelCase& model_case, int64_t layers) {
  std::vector<LayerAttention> attention(static_cast<size_t>(layers), exact_layer());
  for (const int64_t layer : replaced_layers(model_case, layers))
    attention[static_cast<size_t>(layer)] = {model_case.grid_case->backend, model_case.grid_case->parameters};
  return attention;
}

std::string describe(const ModelCase& model_case) {
  InputPoint point = *model_case.point;
  point.parameters.erase("replaced");  // of all cases; this one's number comes first
  const std::string text = describe_case(point, *model_case.grid_case);
  if (model_case.replaced == 0) return "no layer replaced" + text.substr(text.find(" on "));
  return counted(model_case.replaced, "layer") + ": " + text;
}

double estimated_flops(const ModelCase& model_case) {
  const InputPoint& point = *model_case.point;
  const InputShapes& shapes = *point.shapes;
  const ModelConfig config = read_model_config(point.parameters.text("model"));
  double entries = 0;
  const std::vector<LayerAttention> attention_by_layer = attention_of(model_case, config.num_hidden_layers);
  for (size_t l = 0; l < attention_by_layer.size(); ++l)
    entries += attention_by_layer[l].backend->estimated_entries(layer_problem(point, config.layers[l]),
                                                                attention_by_layer[l].parameters);
  const double attention = counted_flops(entries, shapes, PassKind::forward);
  const double matrices = 2 * matrix_weights(config) * static_cast<double>(shapes.query.rows);
  return static_cast<double>(point.parameters.integer("windows")) * (attention + matrices);
}

}  // namespace hyperattn
