// What the control groups of this process grant: containers, Slurm jobs and systemd services limit memory and
// processor time there, and the operating system's other figures are those of the whole machine.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace hyperattn {

/// A process that takes more memory than its groups have is killed, not refused.
struct GroupLimits {
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();

  int64_t memory_bytes = kNone;  ///< the smallest limit
  int64_t memory_available =
      kNone;          ///< the smallest of limit minus use, where files that are only cached are no use
  double cores = -1;  ///< the smallest quota of processor time, in cores; −1: no limit
};

/// The folders below `root` (for tests; else empty) that hold the groups of this process: of the memory and
/// of the processor controller, each from the process's own group up to the one that is mounted.
struct GroupFolders {
  std::vector<std::string> memory;
  std::vector<std::string> processor;
};

/// Reads /proc/self/cgroup and /proc/self/mountinfo below `root`: versions 1 and 2, also both at once, and
/// groups of which a container sees only a part. Never fails: what can't be read is no limit.
[[nodiscard]] GroupFolders find_control_groups(const std::string& root = "");
/// The limits that these folders state now; a parent's limit holds for all below it.
[[nodiscard]] GroupLimits read_group_limits(const GroupFolders& folders);

}  // namespace hyperattn
