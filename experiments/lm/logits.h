// `hyperattn lm --logits`: what a model predicts, number by number, so that anyone can compare it with
// another implementation (docs/language-model.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/running/run_options.h"

namespace hyperattn {

/// Places in a sequence of n tokens: numbers and half-open ranges, "0,10,20:30", in the order given; empty
/// text: all. Error(usage) for what is neither, or not below n.
[[nodiscard]] std::vector<int64_t> parse_positions(const std::string& text, int64_t n);

/// Runs the model on the first `seq_len` tokens and writes to options.output, which appears whole or not at
/// all: /logits (positions, vocabulary) float32, /positions and /ids, with the model, the text's hash and the
/// replaced layers as attributes. The attention is exact, or that of the one case which the configuration
/// (grammar of `lm`; parameters of the inputs may go without "inputs.") asks for by `replaced`. Some
/// positions are in memory at a time. Errors as run_language_model; Error(usage) for more than one case or
/// window.
void write_logits(const RunOptions& options, const std::string& positions);

}  // namespace hyperattn
