#!/usr/bin/env bash
# How fast trees and files get from a site to three clients, and what a client needs for it.
#
#   benches/trees.sh [PROFILE] [CASE...]      PROFILE: release (default) or debug
#   cases: real small big cut memory; default: all
#
# Everything lies below target/trees-bench and is removed at the end (KEEP=1 keeps it). The
# real tree is a copy of /etc and /usr/share/doc, filled up to FILES (10000) with generated ones.
# Prints one line per figure: case, what, value, unit. RUNS (3) repeats each.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:-release}
[ $# -gt 0 ] && shift
cases=${*:-real small big cut memory}
bin=$PWD/target/$profile
runs=${RUNS:-3} files=${FILES:-10000} big_mib=${BIG_MIB:-1024}
top=$PWD/target/trees-bench
net=127.77.$((RANDOM % 250 + 1)) port=7400
pids=()

for program in drover drover-client; do
  [ -x "$bin/$program" ] || { echo "build first: cargo build --profile $profile -p master -p client" >&2; exit 2; }
done

stop() { # ends the processes that this script started, by their ids
  for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  pids=()
}
clean() { stop; [ -n "${KEEP:-}" ] || rm -rf "$top"; }
trap clean EXIT

now_ms() { date +%s%3N; }
say() { printf '%-10s %-34s %12s %s\n' "$@"; }

# A cluster with an empty site; $1: clients.
setup() {
  stop
  rm -rf "$top"
  mkdir -p "$(dirname "$top")"
  "$bin/drover" init "$top" >/dev/null
  rm -rf "$top/site/policies/base" "$top/site/groups/everyone.yaml"
  mkdir -p "$top/site/policies/tree/files"
  printf 'hosts:\n  - host: "*"\n    groups: [all]\n' >"$top/site/hosts.yaml"
  printf 'policies: [tree]\n' >"$top/site/groups/all.yaml"
  sed -i "/^listen/d; /^hosts_table/d; 1i listen = \"$net.1:$port\"\nhosts_table = \"hosts\"" "$top/master.toml"
  export DROVER_CONFIG=$top/master.toml
  : >"$top/hosts"
  for n in $(seq 2 $(($1 + 1))); do
    echo "h$n $net.$n:$((port + 1))" >>"$top/hosts"
    mkdir -p "$top/c$n/root"
    cat >"$top/c$n/client.toml" <<CONF
name = "h$n"
master = "$net.1:$port"
listen = "$net.$n:$((port + 1))"
trusted_keys = ["$(cat "$top/keys/signing.pub")"]
state_dir = "$top/c$n/state"
root = "$top/c$n/root"
poll_interval = "10s"
splay = "0s"
CONF
  done
}
policy() { printf 'about: a tree\nresources:\n%s\n' "$1" >"$top/site/policies/tree/policy.yaml"; }
master() { "$bin/drover" master 2>"$top/master.log" & pids+=($!); await "$top/master.log" 'listens on'; }
client() { "$bin/drover-client" run --config "$top/c$1/client.toml" 2>>"$top/c$1/log" & pids+=($!); echo $! >"$top/c$1/pid"; }
# Waits up to 300 s for a line of a log.
await() {
  local fd pid ok=0
  exec {fd}< <(exec tail -n +1 -F "$1" 2>/dev/null)
  pid=$!
  timeout 300 grep -qm1 -- "$2" <&"$fd" || { echo "no '$2' in $1" >&2; ok=1; }
  kill "$pid" 2>/dev/null || true
  exec {fd}<&-
  return "$ok"
}
blob_bytes() { "$bin/drover" status --json | grep -o '"blob_bytes": *[0-9]*' | grep -o '[0-9]*$'; }
field() { awk -v f="$2:" '$1 == f { print $2 }' "/proc/$1/status"; }
# CPU time of a process in ms.
cpu_ms() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print int(($12 + $13) * 1000 / hz) }' "/proc/$1/stat"; }

real_tree() {
  local to=$top/site/policies/tree/files
  mkdir -p "$to/t"
  cp -a /etc /usr/share/doc "$to/t/" 2>/dev/null || true
  find "$to/t" ! -type f ! -type d ! -type l -delete
  local have
  have=$(find "$to/t" -type f | wc -l)
  mkdir -p "$to/t/more"
  for n in $(seq "$have" "$((files - 1))"); do
    d=$to/t/more/$((n % 97))
    [ -d "$d" ] || mkdir "$d"
    printf 'file %d of the bench\n' "$n" >"$d/n $n"
  done
  say real files "$(find "$to/t" -type f | wc -l)" files
  say real bytes "$(du -sb "$to/t" | cut -f1)" B
}

# $1: case; $2: clients. From the start of the clients to the last one converged.
first_run() {
  local start
  start=$(now_ms)
  for n in $(seq 2 $(($2 + 1))); do client "$n"; done
  for n in $(seq 2 $(($2 + 1))); do await "$top/c$n/log" "revision 1: .*converged"; done
  say "$1" "fetch and apply, $2 client(s)" "$(($(now_ms) - start))" ms
  for n in 2; do
    say "$1" "reported duration of the run" "$(run_ms "$n" 1)" ms
    say "$1" "client peak (VmHWM)" "$(field "$(cat "$top/c$n/pid")" VmHWM)" kB
    say "$1" "client after (VmRSS)" "$(field "$(cat "$top/c$n/pid")" VmRSS)" kB
    say "$1" "client CPU" "$(cpu_ms "$(cat "$top/c$n/pid")")" ms
  done
  say "$1" "master CPU" "$(cpu_ms "${pids[0]}")" ms
}
# Milliseconds of the newest run of revision $2 that client $1 has reported; its report comes a
# moment after its log line.
run_ms() {
  local us=
  for _ in $(seq 200); do
    us=$("$bin/drover" reports --host "h$1" --json | tr '{' '\n' | grep "\"revision\": *$2," | head -1 |
      grep -o '"duration_us": *[0-9]*' | grep -o '[0-9]*$' || true)
    [ -n "$us" ] && break
    sleep 0.05
  done
  awk -v us="$us" 'BEGIN { printf "%.1f", us / 1000 }'
}
publish() {
  local start
  start=$(now_ms)
  "$bin/drover" publish "${@:2}" >/dev/null
  say "$1" "publish ${*:2}" "$(($(now_ms) - start))" ms
}
# The same revision again: $1 case, $2 clients.
again() {
  local before
  before=$(blob_bytes)
  touch "$top/mark"
  local next=$(($(cat "$top/state/releases/current") + 1)) start
  start=$(now_ms)
  "$bin/drover" publish --force >/dev/null
  for n in $(seq 2 $(($2 + 1))); do await "$top/c$n/log" "revision $next: .*converged"; done
  say "$1" "again: publish to converged" "$(($(now_ms) - start))" ms
  say "$1" "again: reported duration" "$(run_ms 2 "$next")" ms
  say "$1" "again: blob bytes" "$(($(blob_bytes) - before))" B
  say "$1" "again: written below the roots" "$(find "$top"/c*/root -cnewer "$top/mark" | wc -l)" entries
}
compare() {
  local from=$1 to=$2
  for n in $(seq 2 $(($3 + 1))); do
    diff -r --no-dereference "$from" "$top/c$n/root$to" || { echo "the trees differ" >&2; exit 1; }
    diff <(cd "$from" && find . -printf '%p %y %m %l\n' | sed 's/\( l \)777/\1/' | sort) \
      <(cd "$top/c$n/root$to" && find . -printf '%p %y %m %l\n' | sed 's/\( l \)777/\1/' | sort) ||
      { echo "modes differ" >&2; exit 1; }
  done
}

case_real() {
  setup 3
  real_tree
  policy $'  - directory: /t\n    source: t\n    purge: true'
  publish real
  master
  first_run real 3
  compare "$top/site/policies/tree/files/t" /t 3
  again real 3
  again real 3
  compare "$top/site/policies/tree/files/t" /t 3
}
case_small() { # 100 files of 1 KiB, a resource each
  setup 1
  for n in $(seq 100); do head -c 1024 /dev/urandom >"$top/site/policies/tree/files/f$n"; done
  policy "$(for n in $(seq 100); do printf '  - file: /d/f%d\n    source: f%d\n' "$n" "$n"; done)"
  publish small
  master
  first_run small 1
  again small 1
}
case_big() {
  setup 3
  head -c $((big_mib * 1048576)) /dev/urandom >"$top/site/policies/tree/files/big"
  policy $'  - file: /big\n    source: big'
  publish big
  master
  for n in 2 3 4; do
    local start
    start=$(now_ms)
    client "$n"
    await "$top/c$n/log" 'revision 1: .*converged'
    local took=$(($(now_ms) - start))
    say big "$big_mib MiB to one client" "$took" ms
    say big "of that: apply" "$(run_ms "$n" 1)" ms
    say big "fetch" "$(awk -v m="$big_mib" -v t="$took" -v a="$(run_ms "$n" 1)" 'BEGIN { printf "%.0f", m * 1000 / (t - a) }')" MiB/s
    say big "client CPU" "$(cpu_ms "$(cat "$top/c$n/pid")")" ms
    say big "master CPU" "$(cpu_ms "${pids[0]}")" ms
    say big "client peak (VmHWM)" "$(field "$(cat "$top/c$n/pid")" VmHWM)" kB
    cmp "$top/site/policies/tree/files/big" "$top/c$n/root/big"
  done
}
case_cut() { # a client that is killed in the middle of a large file costs one chunk at most
  setup 1
  head -c $((big_mib * 1048576)) /dev/urandom >"$top/site/policies/tree/files/big"
  policy $'  - file: /big\n    source: big'
  publish cut
  master
  client 2
  local served=0 pid chunk=262144 all
  pid=$(cat "$top/c2/pid")
  until [ "${served:-0}" -ge $((big_mib * 1048576 / 2)) ]; do served=$(blob_bytes); done
  kill -9 "$pid"
  wait "$pid" 2>/dev/null || true
  served=$(blob_bytes)
  all=$(find "$top/state/blobs" -type f -printf '%s\n' | awk '{ n += $1 } END { print n }')
  say cut "all that is published" "$all" B
  say cut "served when the client was killed" "$served" B
  [ "$served" -lt "$all" ] || { echo "it was killed too late" >&2; exit 1; }
  client 2
  await "$top/c2/log" 'revision 1: .*converged'
  cmp "$top/site/policies/tree/files/big" "$top/c2/root/big"
  served=$(blob_bytes)
  say cut "served in all" "$served" B
  say cut "of that, twice" "$((served - all))" "B (at most $chunk)"
  [ $((served - all)) -le "$chunk" ] || { echo "more than one chunk was served twice" >&2; exit 1; }
}
case_memory() { # 1,000 file resources, then idle
  setup 1
  for n in $(seq 1000); do echo "file $n" >"$top/site/policies/tree/files/f$n"; done
  policy "$(for n in $(seq 1000); do printf '  - file: /d%d/f%d\n    source: f%d\n' $((n % 10)) "$n" "$n"; done)"
  publish memory
  master
  first_run memory 1
  again memory 1
  say memory "client idle (VmRSS)" "$(field "$(cat "$top/c2/pid")" VmRSS)" kB
  say memory "of that not shared (RssAnon)" "$(field "$(cat "$top/c2/pid")" RssAnon)" kB
  kill -9 "$(cat "$top/c2/pid")"
  wait "$(cat "$top/c2/pid")" 2>/dev/null || true # its locks are free after that, not before
  : >"$top/c2/log"
  client 2
  await "$top/c2/log" 'checked, .*converged'
  say memory "restarted, idle (VmRSS)" "$(field "$(cat "$top/c2/pid")" VmRSS)" kB
}

for run in $(seq "$runs"); do
  echo "run $run of $runs, $profile, load $(cut -d' ' -f1 /proc/loadavg)"
  for one in $cases; do
    case $one in
    real | small | big | cut | memory) "case_$one" ;;
    *) echo "no case $one" >&2; exit 2 ;;
    esac
  done
done
