#!/usr/bin/env bash
# A Slurm of two nodes on this machine, each a network and a host name of its own, with its own /tmp:
#   cluster.sh up FOLDER      starts it; FOLDER/slurm.conf is then $SLURM_CONF, FOLDER/rest.socket slurmrestd's
#   cluster.sh node N FOLDER  starts node N (1, 2) again
#   cluster.sh down FOLDER    ends all of it
# Wants root. The nodes see everything of this machine but /tmp.
set -euo pipefail
verb="$1"
[ "$verb" != node ] || { node="$2"; shift; }
mkdir -p "$2"
FOLDER="$(cd "$2" && pwd)"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
BRIDGE=hadal-slurm
# Not in FOLDER: a start that was killed may have left daemons whose folder is gone.
PIDS=/run/hadal-slurm
export SLURM_CONF="$FOLDER/slurm.conf"

configure() {
  mkdir -p "$PIDS" "$FOLDER"/{state,spool,log,tmp}
  for gpu in 0 1; do mknod -m 666 "$FOLDER/gpu$gpu" c 1 3; done
  cat >"$FOLDER/slurm.conf" <<CONF
ClusterName=hadal
SlurmctldHost=head(10.98.0.1)
SlurmUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool/%n
SlurmctldPidFile=$PIDS/slurmctld.pid
SlurmdPidFile=$FOLDER/slurmd-%n.pid
SlurmctldLogFile=$FOLDER/log/slurmctld.log
SlurmdLogFile=$FOLDER/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=pmix
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SlurmdTimeout=15
KillWait=20
# Jobs need not wait for others to be looked at with them.
SchedulerParameters=batch_sched_delay=0
MinJobAge=3600
GresTypes=gpu
NodeName=n1 NodeAddr=10.98.0.11 CPUs=2 RealMemory=4000 Gres=gpu:2
NodeName=n2 NodeAddr=10.98.0.12 CPUs=2 RealMemory=4000 Gres=gpu:2
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=UNLIMITED OverSubscribe=FORCE:8
CONF
  printf 'Name=gpu File=%s/gpu[0-1]\n' "$FOLDER" >"$FOLDER/gres.conf"
  printf '127.0.0.1 localhost\n10.98.0.1 head\n10.98.0.11 n1\n10.98.0.12 n2\n' >"$FOLDER/hosts"
}

connect() {
  ip link add "$BRIDGE" type bridge
  ip addr add 10.98.0.1/24 dev "$BRIDGE"
  ip link set "$BRIDGE" up
  for node in 1 2; do
    ip netns add "hadal-n$node"
    ip link add "hadal-v$node" type veth peer name eth0 netns "hadal-n$node"
    ip link set "hadal-v$node" master "$BRIDGE" up
    ip -n "hadal-n$node" addr add "10.98.0.1$node/24" dev eth0
    ip -n "hadal-n$node" link set eth0 up
    ip -n "hadal-n$node" link set lo up
    ip -n "hadal-n$node" route add default via 10.98.0.1
  done
}

# The node's own /tmp, through which this checkout stays visible where it lies below /tmp.
start_node() {
  local node="$1"
  # Not "ip netns exec": that mounts another /sys, where slurmd finds no control groups.
  nsenter --net="/run/netns/hadal-n$node" unshare --uts --mount bash -euc '
    node="$1" folder="$2" root="$3" tmp="$2/tmp/n$1"
    hostname "n$node"
    mkdir -p "$tmp"
    chmod 1777 "$tmp"
    mount --bind "$folder/hosts" /etc/hosts
    case "$root" in /tmp/*) mkdir -p "$tmp/${root#/tmp/}"; mount --rbind "$root" "$tmp/${root#/tmp/}" ;; esac
    mount --rbind "$tmp" /tmp
    exec slurmd -N "n$node"' - "$node" "$FOLDER" "$ROOT" </dev/null >>"$FOLDER/log/start" 2>&1
}

start() {
  unshare --uts bash -c 'hostname head; exec slurmctld -c' </dev/null >>"$FOLDER/log/start" 2>&1
  start_node 1
  start_node 2
  SLURMRESTD_SECURITY=disable_user_check,disable_unshare_files,disable_unshare_sysv \
    setsid slurmrestd -a rest_auth/local -s openapi/v0.0.38 "unix:$FOLDER/rest.socket" \
    </dev/null >>"$FOLDER/log/slurmrestd.log" 2>&1 &
  echo $! >"$PIDS/slurmrestd.pid"
  for _ in $(seq 100); do
    if [ "$(sinfo -h -N -o %T 2>/dev/null | grep -c idle)" = 2 ] && [ -S "$FOLDER/rest.socket" ]; then
      return 0
    fi
    sleep 0.2
  done
  tail -n 20 "$FOLDER"/log/* >&2
  return 1
}

stop() {
  local daemon pid
  for daemon in slurmctld slurmrestd; do
    pid="$(cat "$PIDS/$daemon.pid" 2>/dev/null)" || continue
    if grep -q "$daemon" "/proc/$pid/comm" 2>/dev/null; then
      kill -9 "$pid"
      while [ -e "/proc/$pid" ]; do sleep 0.05; done
    fi
  done
  rm -rf "$PIDS"
  for node in 1 2; do
    # Its daemons, the jobs they run, and what those left behind.
    for _ in 1 2 3; do
      ip netns pids "hadal-n$node" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
      sleep 0.1
    done
    # At once: the name space itself may live on in what is just ending.
    ip link delete "hadal-v$node" 2>/dev/null || true
    ip netns delete "hadal-n$node" 2>/dev/null || true
  done
  ip link delete "$BRIDGE" 2>/dev/null || true
}

case "$verb" in
  up)
    stop
    rm -rf "${FOLDER:?}"/*
    configure
    connect
    start || { stop; exit 1; }
    ;;
  node) start_node "$node" ;;
  down) stop ;;
  *) sed -n '2,6p' "$0" >&2; exit 64 ;;
esac
