// Queries, keys and values of chosen heads of a language model, computed on the fly over its text.
#include "experiments/inputs/language_model.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>

#include "algorithms/backend.h"
#include "core/error.h"
#include "core/text.h"
#include "experiments/inputs/described_source.h"
#include "experiments/language_model/architectures/read_model_config.h"

namespace hyperattn {
namespace {

constexpr double kMaxRow = std::numeric_limits<int32_t>::max();

ParameterSpec numbers(const char* name, const char* meaning) {
  return integer_list_parameter(name, meaning).between(0, kMaxRow).or_absent();
}

std::vector<ParameterSpec> source_parameters() {
  std::vector<ParameterSpec> specs = model_and_text_parameters();
  specs.push_back(
      integer_parameter("seq_len",
                        "tokens of the window that the model reads; trial t reads window t of the text")
          .between(1, kMaxRow)
          .by_default(4096));
  specs.push_back(numbers("layers", "layers to take, from 0; default all"));
  specs.push_back(numbers("heads", "heads of a layer, from 0; default all").in_column("model_heads"));
  specs.push_back(
      boolean_parameter("paired", "layers and heads go in step, instead of every head of every layer"));
  specs.push_back(numbers("query_rows", "[begin, end): takes this range of the window's query rows"));
  specs.push_back(numbers("key_rows", "[begin, end): takes this range of the window's key and value rows"));
  return specs;
}

/// The list of a parameter, or 0 … count − 1.
IntegerList listed(const Parameters& parameters, const char* name, int64_t count) {
  IntegerList list;
  if (parameters.has(name)) {
    list = parameters.integers(name);
    if (list.empty()) fail_usage(std::string(name) + " must name one at least, but is empty");
    for (const int64_t index : list)
      if (index < 0 || index >= count)
        fail_usage(fmt::format("{} must be between 0 and {} (the model has {}), but one is {}", name,
                               count - 1, count, index));
    return list;
  }
  for (int64_t index = 0; index < count; ++index) list.push_back(index);
  return list;
}

/// The heads that `layers`, `heads` and `paired` name, in their order: all pairs, layers first, or the pairs
/// in step.
std::vector<ModelHead> chosen_heads(const Parameters& parameters, int64_t layers, int64_t heads) {
  const IntegerList of_layers = listed(parameters, "layers", layers);
  const IntegerList of_heads = listed(parameters, "heads", heads);
  std::vector<ModelHead> chosen;
  if (!parameters.boolean("paired")) {
    for (const int64_t layer : of_layers)
      for (const int64_t head : of_heads) chosen.push_back({layer, head});
    return chosen;
  }
  if (of_layers.size() != of_heads.size())
    fail_usage(fmt::format("paired: true needs as many layers as heads, but there are {} layers and {} heads",
                           of_layers.size(), of_heads.size()));
  for (size_t i = 0; i < of_layers.size(); ++i) chosen.push_back({of_layers[i], of_heads[i]});
  return chosen;
}

/// Half-open.
struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
};

RowRange wanted_rows(const Parameters& parameters, const char* name, int64_t rows) {
  if (!parameters.has(name)) return {0, rows};
  const IntegerList& list = parameters.integers(name);
  if (list.size() != 2 || list[0] < 0 || list[0] >= list[1] || list[1] > rows)
    fail_usage(fmt::format("{} must be [begin, end] with 0 <= begin < end <= seq_len ({}), but is {}", name,
                           rows, to_string(ParameterValue(list))));
  return {list[0], list[1]};
}

/// What a run takes, as far as config.json tells.
struct Selection {
  ModelConfig config;
  std::vector<ModelHead> heads;
  RowRange queries;
  RowRange keys;
  InputShapes shapes;
};

Selection select(const Parameters& parameters) {
  Selection selection;
  selection.config = read_model_config(parameters.text("model"));
  const ModelConfig& config = selection.config;
  const int64_t rows = parameters.integer("seq_len");
  const std::string refusal = why_not_length(config, rows);
  if (!refusal.empty()) fail_usage("seq_len: " + refusal);
  selection.heads = chosen_heads(parameters, config.num_hidden_layers, config.num_attention_heads);
  for (const ModelHead& head : selection.heads)
    if (window_within(config.layers[static_cast<size_t>(head.layer)], rows) > 0)
      fail_usage(
          fmt::format("layers: {}, which Q, K and V alone would not have; take other layers or a seq_len up "
                      "to the window",
                      describe_window(config, head.layer)));
  selection.queries = wanted_rows(parameters, "query_rows", rows);
  selection.keys = wanted_rows(parameters, "key_rows", rows);
  const auto count = static_cast<int64_t>(selection.heads.size());
  const TensorShape keys{1, count, selection.keys.end - selection.keys.begin, config.head_dim};
  TensorShape queries = keys;
  queries.rows = selection.queries.end - selection.queries.begin;
  selection.shapes = {queries, keys, keys};
  return selection;
}

void copy_rows(MatrixView<const float> from, RowRange range, MatrixView<float> to) {
  std::copy_n(from.row(range.begin), (range.end - range.begin) * from.cols, to.data);
}

/// The layers run with exact attention, so that each head sees what the model was trained on.
std::vector<LayerAttention> exact_attention(int64_t layers) {
  return std::vector<LayerAttention>(static_cast<size_t>(layers), exact_layer());
}

SourceDescription description() {
  return {"language_model", "Q, K and V of heads of a language model, after rotary positions, over its text",
          source_parameters()};
}

class LanguageModelSource final : public DescribedSource {
 public:
  LanguageModelSource() : DescribedSource(description()) {}

  [[nodiscard]] InputShapes shapes(const Parameters& parameters) const override {
    return select(parameters).shapes;
  }

  /// The weights are read, too: a damaged model is found before anything runs.
  void check_contents(const Parameters& parameters) const override {
    const Decoder decoder(parameters.text("model"));
    warn_beyond_trained_length(decoder.config(), parameters.text("model"), parameters.integer("seq_len"));
    static_cast<void>(read_tokens(parameters, decoder.config()).window(0, parameters.integer("seq_len")));
  }

  /// The seed has no effect: the model's heads are what they are.
  [[nodiscard]] AttentionInputs make(const Parameters& parameters, uint64_t, uint32_t trial) const override {
    return HeadCapture(parameters).window(trial);
  }
};

}  // namespace

HeadCapture::HeadCapture(const Parameters& parameters)
    : parameters_(parameters),
      heads_(select(parameters).heads),
      text_(read_tokens(parameters, read_model_config(parameters.text("model")))),
      decoder_(parameters.text("model")) {}

AttentionInputs HeadCapture::window(int64_t index) const {
  const Selection selection = select(parameters_);
  const int64_t n = parameters_.integer("seq_len");
  const int32_t* ids = text_.window(index, n);
  AttentionInputs inputs{Tensor<float>(selection.shapes.query), Tensor<float>(selection.shapes.key),
                         Tensor<float>(selection.shapes.value)};
  int64_t last_layer = 0;
  for (const ModelHead& head : selection.heads) last_layer = std::max(last_layer, head.layer);
  const auto take = [&](int64_t layer, const AttentionProblem& problem) {
    for (size_t i = 0; i < selection.heads.size(); ++i) {
      const ModelHead& head = selection.heads[i];
      const auto place = static_cast<int64_t>(i);
      if (head.layer != layer) continue;
      copy_rows(problem.query.matrix(head.head), selection.queries, inputs.query.matrix(place));
      copy_rows(problem.keys_of(head.head), selection.keys, inputs.key.matrix(place));
      copy_rows(problem.values_of(head.head), selection.keys, inputs.value.matrix(place));
    }
  };
  decoder_.observe(ids, n, exact_attention(decoder_.config().num_hidden_layers), {}, last_layer, take);
  return inputs;
}

const InputSource& language_model_source() {
  static const LanguageModelSource source;
  return source;
}

}  // namespace hyperattn
