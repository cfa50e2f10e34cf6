// What the subcommands do, after their arguments have been read. Each returns an exit code or throws Error.
#pragma once

#include <string>
#include <vector>

namespace hyperattn {

/// `what`: "backends", "inputs", "measures", or empty for all three; "lm": what `hyperattn lm` takes.
int list_command(const std::string& what, bool schema);
int describe_command(int threads);
/// Prints each file (`all`: with every figure), or with `compare` what changed from the first of two to the
/// second.
int show_command(const std::vector<std::string>& files, bool compare, bool all);
/// Returns 4, and names them, where the union lacks trials of the plan.
int merge_command(const std::string& output, const std::vector<std::string>& inputs, bool force);

}  // namespace hyperattn
