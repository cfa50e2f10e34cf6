#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace hyperattn {

/// Measures the headline ratios (docs/performance.md) and prints a line `name value` for each as it is known.
/// Rounds are repeated until a line's median is certain to 2 %; where that takes too many, a warning says how
/// certain it is. With names, only the measurements that give one of them run. Throws Error(usage) for an
/// unknown name.
void run_headline(std::ostream& out, const std::vector<std::string>& names);

}  // namespace hyperattn
