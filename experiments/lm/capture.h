// `hyperattn lm --capture`: the heads that the input source `language_model` makes, as a file.
#pragma once

#include <string>
#include <vector>

namespace hyperattn {

/// Runs the model on a window, with exact attention, and writes the chosen heads' Q, K and V to /inputs of a
/// new file, with the model, the text's hash and the heads as attributes. `arguments`: KEY=VALUE for the
/// source's parameters. Errors as the source's.
void capture_heads(const std::vector<std::string>& arguments, const std::string& output, bool force);

}  // namespace hyperattn
