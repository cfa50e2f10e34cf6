// Queries, keys and values captured from a language model: what the input source and `hyperattn lm --capture`
// share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/parameters.h"
#include "experiments/inputs/input_source.h"

namespace hyperattn {

/// A head of the model.
struct ModelHead {
  int64_t layer = 0;
  int64_t head = 0;
};

/// The heads that `layers`, `heads` and `paired` name, in their order: all pairs, layers first, or the pairs
/// in step. Error(usage) for layers or heads that the model lacks, and for lists of unequal length where
/// paired.
[[nodiscard]] std::vector<ModelHead> chosen_heads(const Parameters& parameters, int64_t layers,
                                                  int64_t heads);

/// Runs the model on a window, with exact attention, and writes the chosen heads' Q, K and V to /inputs of a
/// new file, with the model, the text's hash and the heads as attributes. `arguments`: KEY=VALUE for the
/// source's parameters. Errors as the source's.
void capture_heads(const std::vector<std::string>& arguments, const std::string& output, bool force);

}  // namespace hyperattn
