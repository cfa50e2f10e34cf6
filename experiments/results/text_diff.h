#pragma once

#include <string>

namespace hyperattn {

/// The lines in which two texts differ, each with "- " (only in `before`) or "+ " (only in `after`), in
/// order; at most `limit` of them, then a count of the rest. Empty if the texts are equal.
[[nodiscard]] std::string text_diff(const std::string& before, const std::string& after, int limit = 40);

}  // namespace hyperattn
