// Made trees of /proc and /sys stand for containers, Slurm jobs and systemd services.
#include "core/control_groups.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "core/machine.h"
#include "tests/scratch_folder.h"

namespace hyperattn {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMiB = 1 << 20;

class Tree {
 public:
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories(fs::path(folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
  }
  [[nodiscard]] GroupLimits limits() const { return read_group_limits(find_control_groups(folder_.path())); }
  [[nodiscard]] std::string path() const { return folder_.path(); }

 private:
  testing::ScratchFolder folder_;
};

std::string bytes(int64_t mib) {
  return std::to_string(mib * kMiB) + "\n";
}

const char* const kUnifiedMount =
    "24 1 0:22 / /proc rw - proc proc rw\n30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
const char* const kOldMounts =
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

}  // namespace

TEST_CASE("control groups: version 2, the smallest limit on the way up holds", "[control_groups]") {
  const Tree tree;
  tree.write("proc/self/mountinfo", kUnifiedMount);
  tree.write("proc/self/cgroup", "0::/jobs/17/step\n");
  tree.write("sys/fs/cgroup/jobs/memory.max", bytes(900));
  tree.write("sys/fs/cgroup/jobs/memory.current", bytes(850));  // others of the job use it
  tree.write("sys/fs/cgroup/jobs/17/memory.max", bytes(300));
  tree.write("sys/fs/cgroup/jobs/17/memory.current", bytes(120));
  tree.write("sys/fs/cgroup/jobs/17/memory.stat", "anon 7\nactive_file 1048576\ninactive_file 2097152\n");
  tree.write("sys/fs/cgroup/jobs/17/step/memory.max", "max\n");
  tree.write("sys/fs/cgroup/jobs/cpu.max", "250000 100000\n");
  tree.write("sys/fs/cgroup/jobs/17/cpu.max", "max 100000\n");
  tree.write("sys/fs/cgroup/jobs/17/step/cpu.max", "800000 200000\n");
  const GroupLimits limits = tree.limits();
  CHECK(limits.memory_bytes == 300 * kMiB);
  CHECK(limits.memory_available == 50 * kMiB);  // 300 − 120 + 3 of cached files in 17, but 900 − 850 above
  CHECK(limits.cores == 2.5);

  tree.write("sys/fs/cgroup/jobs/memory.max", "max\n");
  tree.write("sys/fs/cgroup/other/memory.max", bytes(1));
  CHECK(tree.limits().memory_available == 183 * kMiB);
  tree.write("sys/fs/cgroup/jobs/17/step/memory.high", bytes(200));
  tree.write("sys/fs/cgroup/jobs/17/step/memory.current", bytes(250));
  CHECK(tree.limits().memory_bytes == 200 * kMiB);
  CHECK(tree.limits().memory_available == 0);
}

TEST_CASE("control groups: version 1, each controller in a hierarchy of its own", "[control_groups]") {
  const Tree tree;
  tree.write("proc/self/mountinfo", kOldMounts);
  tree.write("proc/self/cgroup",
             "9:name=systemd:/\n4:memory:/slurm/uid_7/job_3\n3:cpu,cpuacct:/slice\n0::/\n");
  tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  tree.write("sys/fs/cgroup/memory/memory.usage_in_bytes", bytes(5000));
  CHECK(tree.limits().memory_bytes == GroupLimits::kNone);
  tree.write("sys/fs/cgroup/memory/slurm/uid_7/memory.limit_in_bytes", bytes(400));
  tree.write("sys/fs/cgroup/memory/slurm/uid_7/memory.usage_in_bytes", bytes(100));
  tree.write("sys/fs/cgroup/memory/slurm/uid_7/memory.stat",
             "inactive_file 9\ntotal_inactive_file 1048576\n");
  tree.write("sys/fs/cgroup/cpu,cpuacct/slice/cpu.cfs_quota_us", "50000\n");
  tree.write("sys/fs/cgroup/cpu,cpuacct/slice/cpu.cfs_period_us", "100000\n");
  tree.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  tree.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  const GroupLimits limits = tree.limits();
  CHECK(limits.memory_bytes == 400 * kMiB);
  CHECK(limits.memory_available == 301 * kMiB);
  CHECK(limits.cores == 0.5);
}

TEST_CASE("control groups: a container that sees a part of the tree", "[control_groups]") {
  const Tree tree;
  SECTION("the mount shows the container's group, /proc the host's path") {
    tree.write("proc/self/mountinfo",
               "35 31 0:32 /docker/ab\\040c /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
    tree.write("proc/self/cgroup", "4:memory:/docker/ab c/inner\n");
    tree.write("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", bytes(70));
  }
  SECTION("the process is outside of what the mount shows") {
    tree.write("proc/self/mountinfo", "30 23 0:26 /kubepods/pod1 /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
    tree.write("proc/self/cgroup", "0::/../../elsewhere\n");
  }
  SECTION("nothing but the usual places") {
    tree.write("proc/self/cgroup", "0::/\n");
  }
  tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", bytes(80));
  tree.write("sys/fs/cgroup/memory.max", bytes(70));
  CHECK(tree.limits().memory_bytes == 70 * kMiB);
}

TEST_CASE("control groups: garbage is no limit", "[control_groups]") {
  const Tree tree;
  CHECK(tree.limits().memory_bytes == GroupLimits::kNone);
  tree.write("proc/self/mountinfo",
             "\n - - - -\n30 23 0:26 / /sys/fs/cgroup rw - cgroup2\n" + std::string(kUnifiedMount));
  tree.write("proc/self/cgroup", "4\n4:memory\n0::\n");
  tree.write("sys/fs/cgroup/memory.max", "many\n");
  tree.write("sys/fs/cgroup/cpu.max", "1000 0\n");
  const GroupLimits limits = tree.limits();
  CHECK(limits.memory_bytes == GroupLimits::kNone);
  CHECK(limits.memory_available == GroupLimits::kNone);
  CHECK(limits.cores == -1);
}

TEST_CASE("control groups: a limit above the machine's memory is none", "[control_groups]") {
  const Tree tree;
  tree.write("proc/meminfo", "MemTotal:       1048576 kB\n");
  tree.write("proc/self/mountinfo", kUnifiedMount);
  tree.write("proc/self/cgroup", "0::/a\n");
  tree.write("sys/fs/cgroup/a/memory.max", bytes(2000));
  CHECK(describe_machine(tree.path()).memory_limit == -1);
  tree.write("sys/fs/cgroup/a/memory.max", bytes(1000));
  const MachineInfo machine = describe_machine(tree.path());
  CHECK(machine.memory_limit == 1000 * kMiB);
  CHECK(provenance_of(machine, build_info()).at("memory_limit") == "1000 MiB");
}

}  // namespace hyperattn
