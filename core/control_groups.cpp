#include "core/control_groups.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>

namespace hyperattn {
namespace {

/// A hierarchy of groups where it is mounted.
struct Mount {
  bool unified = false;                  ///< version 2
  std::vector<std::string> controllers;  ///< version 1: "cpu", "cpuacct"
  std::string group;                     ///< that the mount point shows; "/" unless a container sees a part
  std::string point;
};

/// The group of this process in one hierarchy; version 2 has no controllers here.
struct Membership {
  std::vector<std::string> controllers;
  std::string group;
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

bool has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// mountinfo writes a space as \040, and so on.
std::string without_escapes(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 3 >= text.size()) {
      result += text[i];
      continue;
    }
    result += static_cast<char>(std::strtol(text.substr(i + 1, 3).c_str(), nullptr, 8));
    i += 3;
  }
  return result;
}

/// "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory".
std::optional<Mount> parse_mount(const std::string& line) {
  const std::vector<std::string> words = split(line, ' ');
  const auto dash = std::find(words.begin(), words.end(), "-");
  if (words.size() < 5 || words.end() - dash < 4) return {};
  const std::string& type = dash[1];
  if (type != "cgroup" && type != "cgroup2") return {};
  return Mount{type == "cgroup2", split(dash[3], ','), without_escapes(words[3]), without_escapes(words[4])};
}

std::vector<Mount> read_mounts(const std::string& root) {
  std::vector<Mount> mounts;
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);)
    if (std::optional<Mount> mount = parse_mount(line)) mounts.push_back(std::move(*mount));
  if (!mounts.empty()) return mounts;
  // Where /proc does not tell: the places at which every distribution mounts them.
  return {{true, {}, "/", "/sys/fs/cgroup"},
          {false, {"memory"}, "/", "/sys/fs/cgroup/memory"},
          {false, {"cpu"}, "/", "/sys/fs/cgroup/cpu"}};
}

/// Lines such as "4:memory:/jobs/17" and, for version 2, "0::/jobs/17".
std::vector<Membership> read_memberships(const std::string& root) {
  std::vector<Membership> memberships;
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    memberships.push_back({split(line.substr(first + 1, second - first - 1), ','), line.substr(second + 1)});
  }
  return memberships;
}

/// The process's group in the hierarchy of `mount`; "/" where it is not told.
std::string group_in(const Mount& mount, const std::string& controller,
                     const std::vector<Membership>& memberships) {
  for (const Membership& membership : memberships)
    if (mount.unified ? membership.controllers.empty() : has(membership.controllers, controller))
      return membership.group;
  return "/";
}

/// "/jobs/17" below a mount that shows "/jobs" is "/17". Of a group outside of what is mounted (a container
/// may be told its path on the host) only the mount's own limits can be read.
std::string below_mount(const Mount& mount, const std::string& group) {
  if (mount.group == "/") return group;
  if (group == mount.group) return "/";
  return group.starts_with(mount.group + "/") ? group.substr(mount.group.size()) : "/";
}

/// From the process's group up to the mounted one.
void add_folders(const std::string& root, const Mount& mount, const std::string& below,
                 std::vector<std::string>& folders) {
  const bool outside = below.find("/..") != std::string::npos;  // of what a namespace shows
  for (std::string group = outside ? "" : below; group.size() > 1; group.erase(group.rfind('/')))
    folders.push_back(root + mount.point + group);
  folders.push_back(root + mount.point);
}

std::vector<std::string> folders_of(const std::string& root, const std::string& controller,
                                    const std::vector<Mount>& mounts,
                                    const std::vector<Membership>& memberships) {
  std::vector<std::string> folders;
  for (const Mount& mount : mounts)
    if (mount.unified || has(mount.controllers, controller))
      add_folders(root, mount, below_mount(mount, group_in(mount, controller, memberships)), folders);
  return folders;
}

/// The number that a file begins with; none for "max", or where there is no such file.
std::optional<double> number_in(const std::string& path) {
  std::ifstream file(path);
  double number = 0;
  if (file >> number) return number;
  return {};
}

/// Bytes of cached files, which the system drops before it kills.
double cached_files(const std::string& folder, bool unified) {
  const std::string prefix = unified ? "" : "total_";
  std::ifstream file(folder + "/memory.stat");
  double sum = 0;
  std::string name;
  double bytes = 0;
  while (file >> name >> bytes)
    if (name == prefix + "inactive_file" || name == prefix + "active_file") sum += bytes;
  return sum;
}

int64_t to_bytes(double bytes) {
  constexpr double kLargest = 9.2e18;
  return bytes >= kLargest ? GroupLimits::kNone : static_cast<int64_t>(std::max(0.0, bytes));
}

void add_memory(const std::string& folder, const std::string& limit_file, const std::string& use_file,
                GroupLimits& limits) {
  const std::optional<double> limit = number_in(folder + "/" + limit_file);
  if (!limit || *limit < 0) return;
  limits.memory_bytes = std::min(limits.memory_bytes, to_bytes(*limit));
  const std::optional<double> use = number_in(folder + "/" + use_file);
  if (!use) return;
  const double needed = std::max(0.0, *use - cached_files(folder, use_file == "memory.current"));
  limits.memory_available = std::min(limits.memory_available, to_bytes(*limit - needed));
}

void add_quota(double quota, double period, GroupLimits& limits) {
  if (quota <= 0 || period <= 0) return;
  const double cores = quota / period;
  limits.cores = limits.cores < 0 ? cores : std::min(limits.cores, cores);
}

void add_processor(const std::string& folder, GroupLimits& limits) {
  std::ifstream file(folder + "/cpu.max");  // "200000 100000" or "max 100000"
  double quota = 0;
  double period = 0;
  if (file >> quota >> period) add_quota(quota, period, limits);
  add_quota(number_in(folder + "/cpu.cfs_quota_us").value_or(-1),
            number_in(folder + "/cpu.cfs_period_us").value_or(-1), limits);
}

}  // namespace

GroupFolders find_control_groups(const std::string& root) {
  const std::vector<Mount> mounts = read_mounts(root);
  const std::vector<Membership> memberships = read_memberships(root);
  return {folders_of(root, "memory", mounts, memberships), folders_of(root, "cpu", mounts, memberships)};
}

GroupLimits read_group_limits(const GroupFolders& folders) {
  GroupLimits limits;
  for (const std::string& folder : folders.memory) {
    add_memory(folder, "memory.max", "memory.current", limits);
    add_memory(folder, "memory.high", "memory.current", limits);  // above it a process all but stands still
    add_memory(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", limits);
  }
  for (const std::string& folder : folders.processor) add_processor(folder, limits);
  return limits;
}

}  // namespace hyperattn
