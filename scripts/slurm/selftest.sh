#!/usr/bin/env bash
# Shows scripts/slurm/ on a real Slurm: installs Debian's slurm-wlm and munge, starts a cluster of this one machine in
# a folder of its own, runs a 4-task array of a small sweep, merges, and compares with the run that was not split.
# Needs root (munge and slurmd do); stops what it started.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/../common.sh"
cd "$project"

[ "$(id -u)" -eq 0 ] || die "must run as root: it starts munged, slurmctld and slurmd."
for program in munged slurmctld slurmd sbatch; do
  if ! command -v "$program" >/dev/null 2>&1; then
    say "Install slurm-wlm and munge"
    apt-get update || true
    # Services must not start by themselves: the packages' own configuration is not ours.
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends slurm-wlm munge
    break
  fi
done
[ -x build/release/hyperattn ] || die "build/release/hyperattn is missing: run scripts/quickstart.sh or scripts/test.sh first."

work=$(mktemp -d)
chmod 755 "$work"
host=$(hostname -s)
pids=()
stop() {
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  [ "${keep:-0}" = 1 ] || rm -rf "$work"
}
trap stop EXIT
fail() {
  keep=1
  tail -n 20 "$work"/*.log >&2 || true
  die "$* (logs are kept in $work)"
}

say "Cluster of one machine ($host) in $work"
mkdir -p "$work"/{munge,state,spool,out}
dd if=/dev/urandom of="$work/munge/key" bs=1024 count=1 status=none
chmod 700 "$work/munge"
chmod 400 "$work/munge/key"
munged --foreground --force --key-file="$work/munge/key" --socket="$work/munge.socket" --pid-file="$work/munge/pid" \
  --log-file="$work/munged.log" --seed-file="$work/munge/seed" >/dev/null 2>&1 &
pids+=($!)
export SLURM_CONF=$work/slurm.conf
cat >"$SLURM_CONF" <<CONF
ClusterName=selftest
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld -D >"$work/slurmctld.out.log" 2>&1 &
pids+=($!)
slurmd -D >"$work/slurmd.out.log" 2>&1 &
pids+=($!)
for _ in $(seq 60); do
  sinfo -h -o %T 2>/dev/null | grep -q idle && break
  sleep 0.5
done
sinfo -h -o %T 2>/dev/null | grep -q idle || fail "the node did not come up"
sinfo

say "A 4-task array"
config=scripts/slurm/selftest.yaml
job=$(sbatch --parsable --wait --array=0-3 --cpus-per-task=1 --output="$work/out/%x-%A_%a.log" \
  scripts/slurm/sweep.sbatch "$config" "$work/out") || {
  cat "$work"/out/*.log >&2
  fail "the array failed"
}
echo "Job $job is done."
ls "$work/out"

say "Merge, and compare with the run that was not split"
scripts/slurm/merge.sh "$work/out" "$work/merged.h5"
build/release/hyperattn run "$config" -o "$work/whole.h5" --threads 1
python=$(find_python)
"$python" scripts/compare_results.py "$work/whole.h5" "$work/merged.h5" || fail "the merged results differ"
say "Slurm self-test passed: 4 tasks, merged, equal to the run that was not split but for times."
