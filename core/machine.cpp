#include "core/machine.h"

#include <sched.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "build_commit.h"
#include "build_settings.h"
#include "core/control_groups.h"
#include "core/text.h"

namespace hyperattn {
namespace {

#ifdef __OPTIMIZE__
constexpr bool kOptimised = true;
#else
constexpr bool kOptimised = false;
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitizers = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
constexpr bool kSanitizers = true;
#else
constexpr bool kSanitizers = false;
#endif
#else
constexpr bool kSanitizers = false;
#endif

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

template <class Number>
Number first_number(const std::string& path, Number unknown) {
  std::ifstream file(path);
  Number number{};
  return file >> number ? number : unknown;
}

std::string processor_name(const std::string& root) {
  std::ifstream file(root + "/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    const size_t colon = line.find(':');
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos && colon + 2 <= line.size())
      return line.substr(colon + 2);
  }
  return {};
}

int64_t total_memory(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  std::string key;
  int64_t kib = 0;
  return file >> key >> kib && key == "MemTotal:" ? kib * 1024 : -1;
}

std::string processor_folder(const std::string& root, int processor) {
  return root + "/sys/devices/system/cpu/cpu" + std::to_string(processor);
}

/// (package, core) of a processor; the core is −1 where it is unknown.
std::pair<int, int> core_of(const std::string& root, int processor) {
  const std::string topology = processor_folder(root, processor) + "/topology/";
  return {first_number(topology + "physical_package_id", -1), first_number(topology + "core_id", -1)};
}

int count_physical_cores(const std::string& root, const std::vector<int>& processors) {
  std::set<std::pair<int, int>> cores;
  for (int processor : processors) {
    const std::pair<int, int> core = core_of(root, processor);
    if (core.second < 0) return -1;
    cores.insert(core);
  }
  return cores.empty() ? -1 : static_cast<int>(cores.size());
}

/// Processors in a kernel list such as "0-3,8".
int count_list(const std::string& text) {
  int count = 0;
  std::istringstream parts(text);
  std::string part;
  while (std::getline(parts, part, ',')) {
    std::istringstream range(part);
    int first = 0;
    int last = 0;
    char dash = 0;
    if (!(range >> first)) continue;
    count += range >> dash >> last ? last - first + 1 : 1;
  }
  return count;
}

/// Bytes in a size such as "32768K".
int64_t size_in_bytes(const std::string& text) {
  std::istringstream stream(text);
  int64_t number = 0;
  char unit = ' ';
  if (!(stream >> number)) return -1;
  stream >> unit;
  switch (unit) {
    case 'K':
      return number * 1024;
    case 'M':
      return number * 1024 * 1024;
    case 'G':
      return number * 1024 * 1024 * 1024;
    default:
      return number;
  }
}

std::vector<CacheInfo> read_caches(const std::string& root, int processor) {
  std::vector<CacheInfo> caches;
  for (int index = 0; index < 16; ++index) {
    const std::string folder =
        processor_folder(root, processor) + "/cache/index" + std::to_string(index) + "/";
    CacheInfo cache;
    cache.level = first_number(folder + "level", 0);
    if (cache.level == 0) break;
    cache.type = first_line(folder + "type");
    cache.bytes = size_in_bytes(first_line(folder + "size"));
    cache.shared_by = count_list(first_line(folder + "shared_cpu_list"));
    caches.push_back(cache);
  }
  return caches;
}

std::string system_name() {
  utsname name{};
  if (uname(&name) != 0) return {};
  return std::string(name.sysname) + " " + name.release + " " + name.machine;
}

std::string short_number(double value) {
  return figure_text(value, std::abs(value) < 1000 ? 3 : 4);  // or 1000 cores would be 1e+03
}

std::string in_units(int64_t bytes) {
  return bytes < 0 ? "unknown" : bytes_text(static_cast<double>(bytes));
}

std::string cache_text(const CacheInfo& cache) {
  std::string kind;
  if (cache.type == "Data") kind = "d";
  if (cache.type == "Instruction") kind = "i";
  return "L" + std::to_string(cache.level) + kind + " " + in_units(cache.bytes) + " shared by " +
         std::to_string(cache.shared_by);
}

std::string whole_threads(double cores) {
  return std::to_string(std::max(1, static_cast<int>(cores)));
}

/// Cores that threads can really run on at once, as far as is known.
double usable_cores(const MachineInfo& machine) {
  double cores = machine.physical_cores > 0 ? machine.physical_cores : machine.logical_cores;
  if (machine.core_quota > 0) cores = std::min(cores, machine.core_quota);
  return cores;
}

}  // namespace

MachineInfo describe_machine(const std::string& root) {
  const std::vector<int> processors = allowed_processors();
  const int first = processors.empty() ? 0 : processors.front();
  MachineInfo machine;
  machine.processor = processor_name(root);
  machine.logical_cores = processors.empty() ? -1 : static_cast<int>(processors.size());
  machine.physical_cores = count_physical_cores(root, processors);
  machine.caches = read_caches(root, first);
  machine.memory_bytes = total_memory(root);
  const GroupLimits limits = read_group_limits(find_control_groups(root));
  machine.core_quota = limits.cores;
  const bool unlimited = limits.memory_bytes == GroupLimits::kNone ||
                         (machine.memory_bytes >= 0 && limits.memory_bytes >= machine.memory_bytes);
  if (!unlimited) machine.memory_limit = limits.memory_bytes;
  machine.governor = first_line(processor_folder(root, first) + "/cpufreq/scaling_governor");
  machine.load_average = first_number(root + "/proc/loadavg", -1.0);
  machine.system = system_name();
  return machine;
}

std::vector<int> allowed_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> processors;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return processors;
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &set)) processors.push_back(i);
  return processors;
}

std::vector<int> one_of_each_core_first(const std::vector<int>& processors, const std::string& root) {
  std::map<std::pair<int, int>, int> taken;  // hardware threads of a core so far
  std::vector<std::pair<int, int>> order;    // (how many of its core come before it, processor)
  for (int processor : processors) {
    const std::pair<int, int> core = core_of(root, processor);
    order.emplace_back(core.second < 0 ? 0 : taken[core]++, processor);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<int> sorted(order.size());
  std::transform(order.begin(), order.end(), sorted.begin(), [](const auto& entry) { return entry.second; });
  return sorted;
}

const BuildInfo& build_info() {
  static const BuildInfo info = [] {
    BuildInfo build;
    build.version = HYPERATTN_VERSION;
    build.commit = HYPERATTN_COMMIT;
    build.compiler = HYPERATTN_COMPILER;
    build.flags = HYPERATTN_FLAGS;
    build.build_type = HYPERATTN_BUILD_TYPE;
    build.optimised = kOptimised;
    build.sanitizers = kSanitizers;
    build.libraries = {
        {"Eigen", HYPERATTN_EIGEN_VERSION},
        {"HDF5", HYPERATTN_HDF5_VERSION},
        {"yaml-cpp", HYPERATTN_YAML_CPP_VERSION},
        {"spdlog", HYPERATTN_SPDLOG_VERSION},
        {"nlohmann-json", HYPERATTN_NLOHMANN_JSON_VERSION},
        {"CLI11", HYPERATTN_CLI11_VERSION},
        {"Highway", HYPERATTN_HIGHWAY_VERSION},
        {"OpenMP", HYPERATTN_OPENMP_VERSION},
    };
    std::erase_if(build.libraries, [](const auto& library) { return library.second.empty(); });
    return build;
  }();
  return info;
}

std::vector<std::string> noise_warnings(const MachineInfo& machine, const BuildInfo& build, int threads) {
  std::vector<std::string> warnings;
  if (!build.optimised)
    warnings.push_back("this build is not optimised (" + build.build_type +
                       "), so its timings mean nothing; build with `cmake --preset release`");
  if (build.sanitizers)
    warnings.emplace_back(
        "this build runs with sanitizers, which slow it several times; build with `cmake --preset release` "
        "to measure");
  const double cores = usable_cores(machine);
  if (cores > 0 && machine.load_average > cores / 2)
    warnings.push_back("the machine is busy (load average " + short_number(machine.load_average) + " on " +
                       short_number(cores) + " cores); stop other work and wait a minute before measuring");
  if (!machine.governor.empty() && machine.governor != "performance")
    warnings.push_back("the frequency governor is '" + machine.governor +
                       "', so clock rates change while measuring; choose 'performance' (as root: `cpupower "
                       "frequency-set -g performance`)");
  if (machine.core_quota > 0 && threads > machine.core_quota)
    warnings.push_back(
        "the control group grants " + short_number(machine.core_quota) + " cores' worth of time to " +
        counted(int64_t{threads}, "thread") + ", which are stopped while they measure; " +
        (machine.core_quota < 1 ? std::string("ask for a whole core")
                                : "use --threads " + whole_threads(machine.core_quota) + " or fewer"));
  else if (cores > 0 && threads > cores)
    warnings.push_back(std::to_string(threads) + " threads share " + short_number(cores) +
                       " physical cores, so they wait for each other; use --threads " + whole_threads(cores) +
                       " or fewer");
  return warnings;
}

std::map<std::string, std::string> provenance_of(const MachineInfo& machine, const BuildInfo& build) {
  const auto count = [](double value) { return value < 0 ? std::string("unknown") : short_number(value); };
  const auto text = [](const std::string& value) { return value.empty() ? std::string("unknown") : value; };
  std::vector<std::string> caches;
  for (const CacheInfo& cache : machine.caches) caches.push_back(cache_text(cache));
  std::vector<std::string> libraries;
  for (const auto& [name, version] : build.libraries) libraries.push_back(name + " " + text(version));
  return {
      {"version", build.version},
      {"commit", build.commit},
      {"compiler", build.compiler},
      {"flags", build.flags},
      {"build_type", build.build_type},
      {"libraries", join(libraries)},
      {"processor", text(machine.processor)},
      {"logical_cores", count(machine.logical_cores)},
      {"physical_cores", count(machine.physical_cores)},
      {"core_quota", machine.core_quota < 0 ? "none" : short_number(machine.core_quota)},
      {"caches", text(join(caches))},
      {"memory", in_units(machine.memory_bytes)},
      {"memory_limit", machine.memory_limit < 0 ? "none" : in_units(machine.memory_limit)},
      {"governor", text(machine.governor)},
      {"load_average", count(machine.load_average)},
      {"system", text(machine.system)},
  };
}

}  // namespace hyperattn
