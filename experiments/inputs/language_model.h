// Queries, keys and values captured from a language model: what the input source and `hyperattn lm --capture`
// share.
#pragma once

#include <cstdint>
#include <vector>

#include "core/parameters.h"
#include "experiments/inputs/input_source.h"
#include "experiments/language_model/decoder.h"
#include "experiments/language_model/text.h"

namespace hyperattn {

/// A head of the model.
struct ModelHead {
  int64_t layer = 0;
  int64_t head = 0;
};

/// A model and its text, read from the parameters of the source `language_model`; errors as the source's.
class HeadCapture {
 public:
  explicit HeadCapture(const Parameters& parameters);

  [[nodiscard]] const Decoder& decoder() const { return decoder_; }
  [[nodiscard]] const TokenText& text() const { return text_; }
  /// Those that the parameters name, in their order.
  [[nodiscard]] const std::vector<ModelHead>& heads() const { return heads_; }

  /// Q, K and V of the heads in this window of the text, each (1, heads, rows, head_dim): runs the model with
  /// exact attention up to the last of their layers. Deterministic for any number of threads.
  [[nodiscard]] AttentionInputs window(int64_t index) const;

 private:
  Parameters parameters_;
  std::vector<ModelHead> heads_;
  TokenText text_;
  Decoder decoder_;
};

}  // namespace hyperattn
