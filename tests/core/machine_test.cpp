#include "core/machine.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "tests/scratch_folder.h"

namespace hyperattn {
namespace {

namespace fs = std::filesystem;

/// A made-up /proc and /sys.
class FakeRoot {
 public:
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories(fs::path(folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
  }
  [[nodiscard]] std::string path() const { return folder_.path(); }

 private:
  testing::ScratchFolder folder_;
};

BuildInfo good_build() {
  BuildInfo build;
  build.build_type = "Release";
  return build;
}

MachineInfo quiet_machine() {
  MachineInfo machine;
  machine.logical_cores = 8;
  machine.physical_cores = 4;
  machine.governor = "performance";
  machine.load_average = 0.5;
  return machine;
}

bool mentions(const std::vector<std::string>& warnings, const std::string& part) {
  for (const std::string& warning : warnings)
    if (warning.find(part) != std::string::npos) return true;
  return false;
}

}  // namespace

TEST_CASE("the machine's files are understood", "[machine]") {
  const FakeRoot root;
  const int here = describe_machine().logical_cores;
  REQUIRE(here > 0);
  root.write("proc/cpuinfo", "processor\t: 0\nmodel name\t: Imaginary 9000\nflags\t: fpu\n");
  root.write("proc/meminfo", "MemTotal:       1048576 kB\nMemFree: 1 kB\n");
  root.write("proc/loadavg", "1.25 0.50 0.10 1/100 4242\n");
  root.write("sys/fs/cgroup/cpu.max", "150000 100000\n");
  for (int i : allowed_processors()) {  // two threads to a core
    const std::string folder = "sys/devices/system/cpu/cpu" + std::to_string(i) + "/";
    root.write(folder + "topology/core_id", std::to_string(i / 2));
    root.write(folder + "topology/physical_package_id", "0");
    root.write(folder + "cpufreq/scaling_governor", "powersave\n");
    root.write(folder + "cache/index0/level", "1");
    root.write(folder + "cache/index0/type", "Data\n");
    root.write(folder + "cache/index0/size", "32K\n");
    root.write(folder + "cache/index0/shared_cpu_list", "0-1,7\n");
    root.write(folder + "cache/index1/level", "3");
    root.write(folder + "cache/index1/type", "Unified\n");
    root.write(folder + "cache/index1/size", "32M\n");
    root.write(folder + "cache/index1/shared_cpu_list", "0\n");
  }
  const MachineInfo machine = describe_machine(root.path());
  CHECK(machine.processor == "Imaginary 9000");
  CHECK(machine.memory_bytes == int64_t{1} << 30);
  CHECK(machine.load_average == 1.25);
  CHECK(machine.core_quota == 1.5);
  CHECK(machine.governor == "powersave");
  CHECK(machine.physical_cores <= machine.logical_cores);
  CHECK(machine.physical_cores >= machine.logical_cores / 2);
  REQUIRE(machine.caches.size() == 2);
  CHECK(machine.caches[0].bytes == 32768);
  CHECK(machine.caches[0].shared_by == 3);
  CHECK(machine.caches[1].level == 3);
  CHECK(machine.caches[1].bytes == 32 * 1024 * 1024);
  CHECK(provenance_of(machine, good_build()).at("caches") == "L1d 32 KiB shared by 3, L3 32 MiB shared by 1");
}

TEST_CASE("threads take one hardware thread of each core before a second one", "[machine]") {
  const FakeRoot root;
  const auto set_core = [&](int processor, const std::string& package, const std::string& core) {
    const std::string topology = "sys/devices/system/cpu/cpu" + std::to_string(processor) + "/topology/";
    root.write(topology + "physical_package_id", package);
    root.write(topology + "core_id", core);
  };
  set_core(0, "0", "0");  // neighbours share a core, and both packages have a core 0
  set_core(1, "0", "0");
  set_core(2, "0", "1");
  set_core(3, "0", "1");
  set_core(6, "1", "0");
  set_core(7, "1", "0");
  CHECK(one_of_each_core_first({0, 1, 2, 3, 6, 7}, root.path()) == std::vector<int>{0, 2, 6, 1, 3, 7});
  CHECK(one_of_each_core_first({1, 3, 7}, root.path()) == std::vector<int>{1, 3, 7});
  CHECK(one_of_each_core_first({4, 2, 9}, "/nonexistent") == std::vector<int>{4, 2, 9});
  CHECK(one_of_each_core_first({}, root.path()).empty());
}

TEST_CASE("a machine that tells nothing is unknown, not an error", "[machine]") {
  const MachineInfo machine = describe_machine("/nonexistent");
  CHECK(machine.processor.empty());
  CHECK(machine.physical_cores == -1);
  CHECK(machine.load_average == -1);
  CHECK(machine.core_quota == -1);
  CHECK(machine.caches.empty());
  const auto provenance = provenance_of(machine, good_build());
  CHECK(provenance.at("processor") == "unknown");
  CHECK(provenance.at("memory") == "unknown");
  CHECK(provenance.at("core_quota") == "none");
  CHECK_FALSE(mentions(noise_warnings(machine, good_build(), 1), "busy"));
}

TEST_CASE("the build knows itself", "[machine]") {
  const BuildInfo& build = build_info();
  CHECK_FALSE(build.version.empty());
  CHECK_FALSE(build.commit.empty());
  CHECK_FALSE(build.compiler.empty());
  CHECK(build.libraries.at("HDF5").find("1.") == 0);
  CHECK(build.libraries.at("Eigen").find("3.") == 0);
}

TEST_CASE("each source of noise is named with its cure, and silence means quiet", "[machine]") {
  CHECK(noise_warnings(quiet_machine(), good_build(), 4).empty());

  BuildInfo debug = good_build();
  debug.optimised = false;
  debug.build_type = "Debug";
  CHECK(mentions(noise_warnings(quiet_machine(), debug, 4), "Debug"));

  BuildInfo sanitized = good_build();
  sanitized.sanitizers = true;
  CHECK(mentions(noise_warnings(quiet_machine(), sanitized, 4), "sanitizers"));

  MachineInfo busy = quiet_machine();
  busy.load_average = 2.1;
  CHECK(mentions(noise_warnings(busy, good_build(), 4), "load average 2.1 on 4 cores"));
  busy.load_average = 2.0;
  CHECK(noise_warnings(busy, good_build(), 4).empty());

  MachineInfo saving = quiet_machine();
  saving.governor = "powersave";
  CHECK(mentions(noise_warnings(saving, good_build(), 4), "'powersave'"));
  saving.governor.clear();
  CHECK(noise_warnings(saving, good_build(), 4).empty());

  CHECK(mentions(noise_warnings(quiet_machine(), good_build(), 5), "--threads 4"));
  MachineInfo contained = quiet_machine();
  contained.core_quota = 1.5;
  CHECK(mentions(noise_warnings(contained, good_build(), 2), "grants 1.5 cores' worth of time to 2 threads"));
  CHECK(mentions(noise_warnings(contained, good_build(), 2), "--threads 1 or fewer"));
  contained.core_quota = 0.5;
  CHECK(mentions(noise_warnings(contained, good_build(), 1), "0.5 cores' worth of time to 1 thread, "));
}

}  // namespace hyperattn
