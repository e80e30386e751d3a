#!/usr/bin/env bash
# Does every client of a storm get through, and does the accept queue ever overflow?
#
#   cargo build --release --bins && benches/storm.sh [CLIENTS]      default 50000
#
# A master and `loadgen storm` in a network namespace of their own, whose accept queues this can
# therefore lengthen. Cases, by CASE (default: "raised default splayed"):
#   raised   net.core.somaxconn and the master's limits.listen_backlog 65535, all at once
#   default  4096 both, all at once
#   splayed  4096 both, connects spread over WITHIN (default 60s; the clients' own default splay
#            is their poll interval, 10m)
# Prints a line for each of RUNS (3) runs. The files lie below target/ until the end.
set -euo pipefail
if [ -z "${STORM_INSIDE:-}" ]; then
  exec env STORM_INSIDE=1 unshare -rn "$0" "$@"
fi
ip link set lo up
cd "$(dirname "$0")/.."
clients=${1:-50000} runs=${RUNS:-3} within=${WITHIN:-60s}
bin=${BIN:-$PWD/target/release}
top=$PWD/target/storm-bench-$$
master=
stop() { [ -z "$master" ] || { kill -9 "$master" 2>/dev/null || true; wait "$master" 2>/dev/null || true; master=; }; }
clean() { stop; rm -rf "$top"; }
trap clean EXIT
ulimit -n "$(ulimit -Hn)"

tcp() { # a counter of this namespace since it was made
  awk -v name="$1" '/^TcpExt:/ { if (!n++) split($0, names, " "); else for (i in names) if (names[i] == name) print $i }' /proc/net/netstat
}
field() { python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$top/out.json" "$1"; }

setup() { # $1: somaxconn and backlog
  stop
  rm -rf "$top"
  mkdir -p "$(dirname "$top")"
  echo "$1" >/proc/sys/net/core/somaxconn
  echo "$1" >/proc/sys/net/ipv4/tcp_max_syn_backlog
  "$bin/drover" init "$top" >/dev/null
  printf 'hosts:\n  - host: "lg-*"\n    policies: [base]\n' >"$top/site/hosts.yaml"
  sed -i '/^listen/d; /^hosts_table/d; /^control_socket/d; 1i listen = "127.0.0.1:7400"\nhosts_table = "hosts"\ncontrol_socket = "control.sock"' "$top/master.toml"
  printf '\n[limits]\nlisten_backlog = %d\n' "$1" >>"$top/master.toml"
  "$bin/loadgen" hosts --clients "$clients" --hosts-table "$top/hosts" >/dev/null
  DROVER_CONFIG=$top/master.toml "$bin/drover" publish >/dev/null
  "$bin/drover" master --config "$top/master.toml" 2>"$top/log" &
  master=$!
  for _ in $(seq 300); do grep -q ' listens on ' "$top/log" && return; sleep 0.1; done
  echo "the master does not listen" >&2
  exit 1
}

storm() { # $1: case; $2: backlog; $3: connects within
  setup "$2"
  local overflows drops status=0
  overflows=$(tcp ListenOverflows) drops=$(tcp ListenDrops)
  "$bin/loadgen" storm --clients "$clients" --master 127.0.0.1:7400 --master-pid "$master" \
    --control "$top/control.sock" --within "$3" --timeout 15m --json >"$top/out.json" 2>/dev/null || status=$?
  printf '%s: backlog %d, within %s: exit status %d, %s of %s done in %.1f s, ListenOverflows %d, ListenDrops %d, lost %s, doubled %s, failures %s, bind p50/p99/max %s s, load %s\n' \
    "$1" "$2" "$3" "$status" "$(field 'r["phases"][0]["clients"]["done"]')" "$clients" "$(field 'r["elapsed_s"]')" \
    "$(($(tcp ListenOverflows) - overflows))" "$(($(tcp ListenDrops) - drops))" \
    "$(field 'r["truth"]["lost"]')" "$(field 'r["truth"]["doubled"]')" "$(field 'r["phases"][0]["failures"] or 0')" \
    "$(field '"/".join("%.2f" % (r["phases"][0]["latencies"]["bind"][q] / 1e6) for q in ("p50_us", "p99_us", "max_us"))')" \
    "$(cut -d' ' -f1 /proc/loadavg)"
}

for _ in $(seq "$runs"); do
  for case in ${CASE:-raised default splayed}; do
    case $case in
    raised) storm raised 65535 0s ;;
    default) storm default 4096 0s ;;
    splayed) storm splayed 4096 "$within" ;;
    *) echo "no case $case" >&2; exit 2 ;;
    esac
  done
done
