#!/bin/bash
# The demo: a master, three clients, 10,000 simulated ones, then a search for what a master carries.
# Everything lies below
# target/demo and on 127.0.0.0/8; it ends by itself and leaves nothing running.
#
# DEMO_CLIENTS=1000 tests/demo.sh    with fewer simulated clients
set -eEuo pipefail
cd "$(dirname "$0")/.."

bin=$PWD/target/release
demo=$PWD/target/demo
simulated=${DEMO_CLIENTS:-10000}
hosts=(web-1.example web-2.example db-1.example)
export DROVER_CONFIG=$demo/master.toml NO_COLOR=1
started=$SECONDS
pids=()
goal="setting up"

# --- helpers ---------------------------------------------------------------------------------

say() { printf '\n== %s\n' "$*"; }
show() { printf '   $ %s\n' "$*"; "$@" | sed 's/^/   /'; }
since() { echo $((($(date +%s%N) - $1) / 1000000)); } # milliseconds

# Runs a daemon in the background: log name, then the command.
start() {
    local log=$demo/log/$1
    shift
    "$@" >"$log" 2>&1 </dev/null &
    pids+=($!)
}

# Waits until a command succeeds: what is awaited, most seconds, the command.
await() {
    goal=$1
    local most=$2 began=$SECONDS
    shift 2
    until "$@" >/dev/null 2>&1; do
        for pid in "${pids[@]}"; do
            kill -0 "$pid" 2>/dev/null || fail "a daemon ended while this was awaited: $goal"
        done
        [ $((SECONDS - began)) -lt "$most" ] || fail "this did not happen within $most s: $goal"
        sleep 0.05
    done
}

fail() {
    trap - ERR
    [ "$BASHPID" = $$ ] || exit 1 # a subshell: who waits for it tells
    printf '\ndemo: FAILED: %s\n' "$*" >&2
    for log in "$demo"/log/*; do
        [ -s "$log" ] && printf '\n--- the end of %s\n%s\n' "${log#"$PWD"/}" "$(tail -n 15 "$log")" >&2
    done
    exit 1
}

# Ends what was started here, by its id, and waits for it.
finish() {
    local status=$?
    trap - EXIT ERR INT TERM
    [ ${#pids[@]} -eq 0 ] || kill -TERM "${pids[@]}" 2>/dev/null || true
    for pid in "${pids[@]}"; do
        for _ in $(seq 200); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
        kill -KILL "$pid" 2>/dev/null && echo "demo: process $pid had to be killed" >&2 && status=1
        wait "$pid" 2>/dev/null || true
    done
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

# The first of four ports in a row on which nobody listens.
free_ports() {
    local port=$1
    while (exec 3<>"/dev/tcp/127.0.0.1/$port" || exec 3<>"/dev/tcp/127.0.0.1/$((port + 1))" ||
        exec 3<>"/dev/tcp/127.0.0.1/$((port + 2))" || exec 3<>"/dev/tcp/127.0.0.1/$((port + 3))") 2>/dev/null; do
        port=$((port + 4))
    done
    echo "$port"
}

drover() { "$bin/drover" "$@"; }
revision() { drover status --json | grep -o '"revision":[0-9]*' | cut -d: -f2; }
root_of() { echo "$demo/${1%%.*}/root"; }
# Whether every client says that it has converged on this revision, and the master knows it.
converged() {
    local host status known
    known=$(drover hosts --json)
    for host in "${hosts[@]}"; do
        grep -o "\"name\":\"$host\"[^}]*" <<<"$known" | grep -q "\"applied\":$1," || return 1
        status=$("$bin/drover-client" status --json --config "$demo/${host%%.*}/client.toml")
        grep -q "\"revision\": $1," <<<"$status" && grep -q '"converged": true' <<<"$status" || return 1
    done
}
has_line() { grep -qs "$1" "$2"; }

# --- the site, the master and three clients --------------------------------------------------

[ -x "$bin/drover" ] && [ -x "$bin/drover-client" ] && [ -x "$bin/loadgen" ] ||
    fail "build first: make demo does both"
rm -rf "$demo"
mkdir -p "$demo/log"
port=$(free_ports 17400)

say "A site: keys, configuration, and the policies of docs/example-site"
drover init "$demo" >"$demo/log/init"
rm -r "$demo/site"
cp -r docs/example-site "$demo/site"
cat >"$demo/master.toml" <<TOML
name = "master.example"
listen = "127.0.0.1:$port"
client_port = $((port + 1))
control_socket = "control.sock"
hosts_table = "hosts"
TOML

# Who is where: a table in place of a name service.
for i in "${!hosts[@]}"; do
    echo "${hosts[$i]} 127.0.0.$((i + 2)):$((port + 1))"
done >"$demo/hosts"

show drover publish
start master "$bin/drover" master
master=${pids[0]}
await "the master answers" 10 drover status

say "Three clients, each with a directory of its own in place of /"
for i in "${!hosts[@]}"; do
    host=${hosts[$i]}
    home=$demo/${host%%.*}
    mkdir -p "$home/root"
    cat >"$home/client.toml" <<TOML
name = "$host"
master = "127.0.0.1:$port"
listen = "127.0.0.$((i + 2)):$((port + 1))"
trusted_keys = ["$(cat "$demo/keys/signing.pub")"]
root = "$home/root"
state_dir = "$home/state"
splay = "0s"
TOML
    start "client-${host%%.*}" "$bin/drover-client" run --config "$home/client.toml"
done
await "each client has converged on revision 1" 20 converged 1
for host in "${hosts[@]}"; do
    printf '   %-14s converged: %s files, motd: %s\n' "$host" \
        "$(find "$(root_of "$host")" -type f | wc -l)" "$(sed -n 2p "$(root_of "$host")/etc/motd")"
done

say "Somebody changes a managed file by hand"
motd=$(root_of web-1.example)/etc/motd
before=$(cat "$motd")
healed() { [ "$(cat "$motd" 2>/dev/null)" = "$before" ]; }
began=$(date +%s%N)
echo "changed by hand" >"$motd"
await "the changed file is healed" 10 healed
echo "   $(basename "$motd") was written over: healed within $(since "$began") ms"
began=$(date +%s%N)
rm "$motd"
await "the removed file is healed" 10 healed
healed_ms=$(since "$began")
echo "   $(basename "$motd") was removed: healed within $healed_ms ms"

say "The second revision: another contact in /etc/motd"
sed -i 's/contact: .*/contact: night-shift@example.com/' "$demo/site/groups/everyone.yaml"
show drover publish --dry-run
began=$(date +%s%N)
show drover publish
await "each client has converged on revision 2" 20 converged 2
second_ms=$(since "$began")
for host in "${hosts[@]}"; do
    has_line night-shift "$(root_of "$host")/etc/motd" || fail "$host does not have the second revision"
done
echo "   all three have it, after $second_ms ms"
reported() { [ "$(drover reports --json --limit 1000 | grep -o '"id":' | wc -l)" -ge 6 ]; }
await "the reports of all runs are in the result store" 20 reported
show drover hosts
show drover reports --host web-1.example

# --- ten thousand more -----------------------------------------------------------------------

say "$simulated simulated clients: a push of a new revision to all, and a report from each"
"$bin/loadgen" hosts --clients "$simulated" --port $((port + 2)) --hosts-table "$demo/hosts.simulated"
cat "$demo/hosts.simulated" >>"$demo/hosts"
kill -HUP "$master" # it reads the table again
next=$(($(revision) + 1))
start loadgen "$bin/loadgen" steady --clients "$simulated" --interval 15s \
    --master "127.0.0.1:$port" --port $((port + 2)) \
    --control "$demo/control.sock" --journal "$demo/acked" \
    --expect-revision "$next" --until-all --timeout 60s
load=${pids[-1]}
await "all simulated clients are bound" 60 has_line " $simulated of $simulated bound" "$demo/log/loadgen"
sed -i 's/contact: .*/contact: day-shift@example.com/' "$demo/site/groups/everyone.yaml"
began=$(date +%s%N)
drover publish >"$demo/log/publish"
sed -n '1s/^/   /p; $s/^/   /p' "$demo/log/publish"
status=0
wait "$load" || status=$?
push_ms=$(since "$began")
unset 'pids[-1]'
[ "$status" -eq 0 ] || fail "loadgen ended with status $status: not every simulated client has the revision and has reported it"
grep -v ' bound, .* deliveries, ' "$demo/log/loadgen" | sed 's/^/   /'
await "the three clients have converged on it too" 20 converged "$next"

# --- capacity --------------------------------------------------------------------------------

say "How much does a master carry on this machine? A minute of rising load on one of its own"
status=0
"$bin/loadgen" capacity --quick --own-dir "$demo" --port $((port + 3)) \
    >"$demo/log/capacity" 2>"$demo/log/capacity.steps" || status=$?
grep ' offered: ' "$demo/log/capacity.steps" | sed 's/^/   /' || true
sed 's/^/   /' "$demo/log/capacity"
# A machine that is busy with other work gives no figure: that is no failure of the demo.
[ "$status" -eq 0 ] || [ "$status" -eq 3 ] || fail "loadgen capacity ended with status $status"

# --- summary ---------------------------------------------------------------------------------

say "Summary"
cat <<SUMMARY
   three clients        converged, healed a removed file within $healed_ms ms,
                        took the second revision within $second_ms ms
   simulated clients    $simulated: pushed to, reported and compared in $push_ms ms
   truth                every acked report is in the result store, once
   capacity             $(cat "$demo/log/capacity")
   result store         $(drover ids | wc -l) reports
   master               $(grep -s VmRSS "/proc/$master/status" | tr -s '\t ' ' ' | cut -d' ' -f2-) resident
   everything           $((SECONDS - started)) s; logs in target/demo/log
SUMMARY
