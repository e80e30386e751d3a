#!/bin/sh
# What an idle client with 1,000 files costs: resident memory (VmRSS), and system calls within
# SECONDS (default 60) as strace counts them. One line a figure.
#
#   cargo build --release --bins && benches/idle.sh [SECONDS]
set -eu
seconds=${1:-60}
bin=${BIN:-$(dirname "$0")/../target/release}
dir=$(mktemp -d)
master= client=
trap 'kill $client $master 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
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
calls=$(timeout --signal=INT "$seconds" strace -f -qq -p $client 2>&1 | grep -c -e ' = ' -e 'resumed>' || true)
echo "system calls in $seconds s: $calls"
