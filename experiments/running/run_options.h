// How a sweep is run, as opposed to what: nothing here changes a result's identity.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace hyperattn {

/// Takes the input points whose position, modulo `count`, is `index`.
struct Shard {
  int64_t index = 0;
  int64_t count = 1;
};

struct RunOptions {
  std::string config;
  std::vector<std::string> overrides;  ///< KEY=VALUE
  std::string group;                   ///< empty: `base`, where the configuration has it
  std::string output;                  ///< empty: the configuration's, with the shard's number in its name
  bool resume = false;
  bool force = false;
  bool dry_run = false;
  bool fail_fast = false;
  bool pin = false;
  double case_timeout = std::numeric_limits<double>::infinity();  ///< seconds for one trial of one case
  Shard shard;
  /// The program, its command and their arguments as given: for the provenance, and for the way to resume.
  std::vector<std::string> call;
};

/// "I/N" with 0 ≤ I ≤ N ≤ 100000 and N ≥ 1; N/N is 0/N, so that counting from 1 works as well. Throws
/// Error(usage).
[[nodiscard]] Shard parse_shard(const std::string& text);

}  // namespace hyperattn
