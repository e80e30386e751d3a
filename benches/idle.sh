#!/bin/sh
# What an idle client with 1,000 files costs, and an idle master with 19,000 connections (made by
# python3): resident memory, and system calls within SECONDS (default 60; those of a crowd that says
# nothing are ended after 60) as strace counts them. One line a figure.
#
#   cargo build --release --bins && benches/idle.sh [SECONDS]
set -eu
seconds=${1:-60}
bin=${BIN:-$(dirname "$0")/../target/release}
dir=$(mktemp -d)
master= client= crowd=
trap 'kill $crowd $client $master 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
address=127.77.$(($$ % 200)).1
"$bin/drover" init "$dir/m" >/dev/null
printf 'hosts:\n  - host: "*"\n    groups: [everyone]\n' >"$dir/m/site/hosts.yaml"
printf 'policies: [base]\n' >"$dir/m/site/groups/everyone.yaml"
{
    printf 'about: a thousand files\nresources:\n  - directory: /d\n'
    i=1
    while [ $i -lt 1000 ]; do
        printf '  - file: /d/f%d\n    content: "%d\\n"\n' $i $i
        i=$((i + 1))
    done
} >"$dir/m/site/policies/base/policy.yaml"
printf 'idle.test %s:7401\n' "$address" >"$dir/m/hosts"
printf 'listen = "%s:7400"\nhosts_table = "hosts"\n' "$address" >"$dir/m/master.toml"
mkdir -p "$dir/c/root"
cat >"$dir/c/client.toml" <<C
name = "idle.test"
master = "$address:7400"
listen = "$address:7401"
trusted_keys = ["$(cat "$dir/m/keys/signing.pub")"]
state_dir = "$dir/c/state"
root = "$dir/c/root"
poll_interval = "1h"
check_interval = "1h"
splay = "0s"
C
export DROVER_CONFIG="$dir/m/master.toml"
"$bin/drover" publish >/dev/null
"$bin/drover" master 2>"$dir/master.log" &
master=$!
"$bin/drover-client" run --config "$dir/c/client.toml" 2>"$dir/client.log" &
client=$!
tail -n +1 -f --pid=$client "$dir/client.log" | grep -q -m 1 'converged' || true
sleep 5
echo "VmRSS after the first run: $(awk '/VmRSS/ {print $2}' /proc/$client/status) KiB (limit 8192)"
calls() {
    timeout --signal=INT "$2" strace -f -qq -p "$1" 2>&1 | grep -c -e ' = ' -e 'resumed>' || true
}
echo "system calls of the client in $seconds s: $(calls $client "$seconds")"

kill $client $master
wait
printf '[limits]\nconnections_max = 19100\n' >>"$dir/m/master.toml"
ulimit -n 20000
"$bin/drover" master 2>"$dir/master.log" &
master=$!
tail -n +1 -f --pid=$master "$dir/master.log" | grep -q -m 1 'listens on'
python3 - "$address" <<'P' >"$dir/crowd" &
import socket, sys, time
crowd = []
for n in range(19000):
    peer = socket.socket()
    peer.bind(("127.0.%d.%d" % (1 + n // 2000, 2 + n % 200), 0))
    peer.connect((sys.argv[1], 7400))
    crowd.append(peer)
print("open", flush=True)
time.sleep(60)
P
crowd=$!
tail -n +1 -f --pid=$crowd "$dir/crowd" | grep -q -m 1 'open'
sleep 5
within=$((seconds < 40 ? seconds : 40))
echo "RssAnon of the master with 19,000 connections: $(awk '/RssAnon/ {print $2}' /proc/$master/status) KiB"
echo "system calls of the master in $within s: $(calls $master $within)"
