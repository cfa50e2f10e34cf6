// What the numbers were measured on and with: processor, caches, load, compiler, libraries, version. Nothing
// here names the host or the user.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace hyperattn {

struct CacheInfo {
  int level = 0;
  std::string type;   ///< "Data", "Instruction" or "Unified"
  int64_t bytes = 0;  ///< of one instance
  int shared_by = 0;  ///< logical processors that share it
};

/// What this process may use of the machine, as the operating system tells it. Unknown texts are empty,
/// unknown numbers −1.
struct MachineInfo {
  std::string processor;
  int logical_cores = -1;   ///< that this process may run on (its affinity)
  int physical_cores = -1;  ///< distinct cores among them
  double core_quota = -1;   ///< cores' worth of time that the control groups grant; −1: no limit
  std::vector<CacheInfo> caches;
  int64_t memory_bytes = -1;  ///< total of the machine
  int64_t memory_limit = -1;  ///< of the control groups, where it is below the total; −1: none
  std::string governor;       ///< frequency governor of the first processor
  double load_average = -1;   ///< of the last minute
  std::string system;         ///< kernel name and release
};

/// Reads /proc and /sys below `root` (tests give another). Never fails: what can't be read is unknown. About
/// a millisecond.
[[nodiscard]] MachineInfo describe_machine(const std::string& root = "");

/// The processors that this process may run on, ascending; none where the operating system does not tell.
[[nodiscard]] std::vector<int> allowed_processors();
/// The same processors in the order in which threads should take them: one of each physical core first, then
/// the other hardware threads of those cores. As given where /sys below `root` does not tell cores.
[[nodiscard]] std::vector<int> one_of_each_core_first(const std::vector<int>& processors,
                                                      const std::string& root = "");

struct BuildInfo {
  std::string version;     ///< of the project
  std::string commit;      ///< short hash, "… with local changes", or "unknown" outside a git checkout
  std::string compiler;    ///< "GNU 12.2.0"
  std::string flags;       ///< the compiler's flags of this build type
  std::string build_type;  ///< "Release"
  bool optimised = true;
  bool sanitizers = false;
  std::map<std::string, std::string> libraries;  ///< name → version, of those that this build needs
};
[[nodiscard]] const BuildInfo& build_info();

/// Reasons to distrust timings taken now with `threads` threads, each a sentence with cause and cure: an
/// unoptimised or sanitized build, a loaded machine, a frequency governor other than `performance`, more
/// threads than cores.
[[nodiscard]] std::vector<std::string> noise_warnings(const MachineInfo& machine, const BuildInfo& build,
                                                      int threads);

/// Both descriptions as name → text, for the results' provenance; the names are those of
/// docs/results-format.md.
[[nodiscard]] std::map<std::string, std::string> provenance_of(const MachineInfo& machine,
                                                               const BuildInfo& build);

}  // namespace hyperattn
