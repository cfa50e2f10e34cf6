#include "experiments/language_model/decoder.h"

#include <fmt/core.h>

#include <algorithm>
#include <cassert>
#include <cmath>

#include "algorithms/registry.h"
#include "core/eigen.h"
#include "core/error.h"
#include "core/timing.h"
#include "experiments/language_model/architectures/read_model_config.h"
#include "experiments/language_model/forward_pass.h"

namespace hyperattn {
namespace {

// Logits that are held at once.
constexpr int64_t kLogitBytes = int64_t{64} << 20;

void check_call(const ModelConfig& config, const int32_t* ids, int64_t id_count, int64_t n,
                const std::vector<LayerAttention>& attention) {
  if (n < 1) fail_usage("a window must hold one token at least, but holds " + std::to_string(n));
  const std::string refusal = why_not_length(config, n);
  if (!refusal.empty()) fail_usage(refusal);
  for (int64_t i = 0; i < id_count; ++i)
    if (ids[i] < 0 || ids[i] >= config.vocab_size)
      fail_input(fmt::format(
          "token {} of the window is {}, but ids must be between 0 and {} (the model's vocab_size is {})", i,
          ids[i], config.vocab_size - 1, config.vocab_size));
  assert(static_cast<int64_t>(attention.size()) == config.num_hidden_layers);
  (void)attention;
}

Call context_of(const LayerAttention& attention, const DecoderSeed& seed, int64_t layer, int64_t layers) {
  Call context;
  context.parameters = attention.parameters;
  context.seed = seed.seed;
  context.trial = seed.trial * static_cast<uint32_t>(layers) + static_cast<uint32_t>(layer);
  return context;
}

// The first `count` layers, one after the other. Returns the seconds inside the backends, by layer.
std::vector<double> run_layers(ForwardPass& pass, int64_t count, const std::vector<LayerAttention>& attention,
                               const DecoderSeed& seed, const LayerObserver& observer) {
  std::vector<double> seconds;
  const auto layers = static_cast<int64_t>(attention.size());
  for (int64_t l = 0; l < count; ++l) {
    const LayerAttention& chosen = attention[static_cast<size_t>(l)];
    const AttentionProblem problem = pass.prepare_attention(l);
    if (observer) observer(l, problem);
    const Stopwatch watch;
    const ForwardState state = chosen.backend->forward(problem, context_of(chosen, seed, l, layers));
    seconds.push_back(watch.seconds());
    pass.finish_layer(l, state.result.out.view());
  }
  return seconds;
}

void check_losses(const std::vector<double>& losses) {
  for (size_t i = 0; i < losses.size(); ++i)
    if (!std::isfinite(losses[i]))
      fail_input(fmt::format(
          "the model's prediction of token {} of the window is not finite: its activations overflow float32",
          i + 1));
}

void check_logits(MatrixView<const float> logits, const int64_t* positions) {
  for (int64_t i = 0; i < logits.rows; ++i)
    for (int64_t j = 0; j < logits.cols; ++j)
      if (!std::isfinite(logits.row(i)[j]))
        fail_input(
            fmt::format("the model's logits after token {} are not finite: its activations overflow float32",
                        positions[i]));
}

}  // namespace

LayerAttention exact_layer() {
  const Backend& exact = exact_backend();
  return {&exact, default_parameters(exact.parameters())};
}

Decoder::Decoder(const std::string& folder)
    : config_(read_model_config(folder)), weights_(read_decoder_weights(folder, config_)) {}

WindowResult Decoder::evaluate(const int32_t* ids, int64_t n, const std::vector<LayerAttention>& attention,
                               const DecoderSeed& seed, const LayerObserver& observer) const {
  check_call(config_, ids, n + 1, n, attention);
  const Stopwatch total;
  WindowResult result;
  ForwardPass pass(config_, weights_, ids, n);
  result.attention_seconds = run_layers(pass, config_.num_hidden_layers, attention, seed, observer);
  result.losses = pass.losses(ids + 1);
  result.total_seconds = total.seconds();
  check_losses(result.losses);
  return result;
}

void Decoder::logits(const int32_t* ids, int64_t n, const std::vector<LayerAttention>& attention,
                     const DecoderSeed& seed, const std::vector<int64_t>& positions,
                     const LogitReceiver& receiver) const {
  check_call(config_, ids, n, n, attention);
  ForwardPass pass(config_, weights_, ids, n);
  static_cast<void>(run_layers(pass, config_.num_hidden_layers, attention, seed, {}));
  const int64_t row_bytes = config_.vocab_size * static_cast<int64_t>(sizeof(float));
  const int64_t step = std::max<int64_t>(1, kLogitBytes / row_bytes);
  const auto count = static_cast<int64_t>(positions.size());
  for (int64_t first = 0; first < count; first += step) {
    const int64_t rows = std::min(step, count - first);
    const DenseMatrix<float> block = pass.logits(positions.data() + first, rows);
    check_logits(block, positions.data() + first);
    receiver(first, block);
  }
}

void Decoder::observe(const int32_t* ids, int64_t n, const std::vector<LayerAttention>& attention,
                      const DecoderSeed& seed, int64_t last_layer, const LayerObserver& observer) const {
  check_call(config_, ids, n, n, attention);
  ForwardPass pass(config_, weights_, ids, n);
  static_cast<void>(run_layers(pass, last_layer, attention, seed, observer));
  observer(last_layer, pass.prepare_attention(last_layer));
}

}  // namespace hyperattn
