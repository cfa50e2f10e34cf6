#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace hyperattn {

/// Measures the headline ratios (docs/performance.md) and prints a line `name value` for each as it is known.
/// With names, only the measurements that give one of them run. Throws Error(usage) for an unknown name.
/// Everything takes some five minutes on two cores.
void run_headline(std::ostream& out, const std::vector<std::string>& names);

}  // namespace hyperattn
