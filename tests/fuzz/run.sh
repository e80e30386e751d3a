#!/bin/bash
# Builds the fuzzing targets and lets them run; `tests/fuzz/run.sh --help` says how.
set -euo pipefail
cd "$(dirname "$0")"
targets=(header decoder bodies control node text)
triple=x86_64-unknown-linux-gnu

usage() {
    cat <<END
Feeds Drover with whatever bytes lead to code that was not reached before, and fails as soon as
something panics, overflows, takes too much memory or hangs. On the stable toolchain.

usage: tests/fuzz/run.sh [--for TIME] [--seed N] [TARGET…]     let targets run, each for TIME
       tests/fuzz/run.sh TARGET FILE…                        replay inputs, once each
       tests/fuzz/run.sh --coverage [TARGET…]                what the kept inputs reach
       tests/fuzz/run.sh --keep TARGET                       add what runs have found to corpus/

  --for TIME   5s (the default), 10m, 2h: of each target, one after the other
  --seed N     begin with this seed; without it, a new one each time, which is printed
  --build      build only

targets: ${targets[*]}

What a run finds stays in target/corpus/TARGET and is where the next one begins; inputs that
failed are in target/failed/TARGET.

examples:
  tests/fuzz/run.sh                          all targets, 5 s each
  tests/fuzz/run.sh --for 10m node           one target, ten minutes
  tests/fuzz/run.sh node target/failed/node/crash-0123    once more, with that input
END
}

seconds_of() {
    local number=${1%[smh]}
    [[ $number =~ ^[0-9]+$ ]] || { echo "--for $1: write a number and s, m or h, such as 10m" >&2; exit 2; }
    case $1 in
        *m) echo $((number * 60)) ;;
        *h) echo $((number * 3600)) ;;
        *) echo "$number" ;;
    esac
}

is_target() { [[ " ${targets[*]} " == *" $1 "* ]]; }

# Coverage is counted in everything that runs in a target, and in nothing that builds it: that is
# what --target separates. One unit a crate, so that each place in the code has one counter.
build() {
    local flags=(--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module)
    flags+=(-Cllvm-args=-sanitizer-coverage-level=4)
    flags+=(-Cllvm-args=-sanitizer-coverage-inline-8bit-counters)
    flags+=(-Cllvm-args=-sanitizer-coverage-pc-table)
    flags+=(-Cllvm-args=-sanitizer-coverage-trace-compares)
    RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR=target cargo build --quiet --release --locked \
        --target "$triple" "${targets[@]/#/--bin=}"
}

seconds=5 seed=0 mode=run chosen=() inputs=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --for) seconds=$(seconds_of "${2:?--for needs a time}"); shift ;;
        --seed) seed=${2:?--seed needs a number}; shift ;;
        --coverage) mode=coverage ;;
        --keep) mode=keep ;;
        --build) mode=build ;;
        -*) echo "there is no option $1; --help lists them" >&2; exit 2 ;;
        *)
            if is_target "$1"; then
                chosen+=("$1")
            elif [ -f "$1" ] || [ -f "$OLDPWD/$1" ]; then
                [ -f "$1" ] && inputs+=("$1") || inputs+=("$OLDPWD/$1")
            else
                echo "$1 is no target and no file; targets: ${targets[*]}" >&2
                exit 2
            fi
            ;;
    esac
    shift
done
if [ ${#inputs[@]} -gt 0 ] && [ ${#chosen[@]} -ne 1 ]; then
    echo "name the one target that these inputs are for" >&2
    exit 2
fi
[ ${#chosen[@]} -gt 0 ] || chosen=("${targets[@]}")

build
# A process that aborts removes nothing.
scratch=$(mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch
# What matters is where it panicked; frames of the fuzzer say nothing.
export RUST_BACKTRACE=${RUST_BACKTRACE:-0}
for target in "${chosen[@]}"; do
    binary=target/$triple/release/$target
    found=target/corpus/$target failed=target/failed/$target
    mkdir -p "$found" "$failed" "corpus/$target"
    # An input that takes 10 s, or 512 MiB, fails too.
    options=(-max_len=4096 -timeout=10 -rss_limit_mb=512 -artifact_prefix="$failed/")
    case $mode in
        build) ;;
        coverage) "$binary" "${options[@]}" -runs=0 "corpus/$target" "$found" 2>&1 | grep INITED ;;
        keep) "$binary" "${options[@]}" -merge=1 "corpus/$target" "$found" 2>&1 | grep -i merge ;;
        run)
            if [ ${#inputs[@]} -gt 0 ]; then
                "$binary" "${options[@]}" "${inputs[@]}"
                continue
            fi
            log=$failed/log
            echo "$target: ${seconds} s"
            if ! "$binary" "${options[@]}" -max_total_time="$seconds" -seed="$seed" \
                -print_final_stats=1 "$found" "corpus/$target" >"$log" 2>&1; then
                grep -A4 -E 'panicked at|ERROR: libFuzzer' "$log" >&2 || tail -n 20 "$log" >&2
                input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
                echo "FAILED: $target, on the input tests/fuzz/${input:-(none was written)}" >&2
                if [ -f "$input" ]; then
                    echo "again: tests/fuzz/run.sh $target tests/fuzz/$input" >&2
                    # Where this ran there may be nothing left tomorrow.
                    echo "in base64: $(base64 -w0 "$input")" >&2
                fi
                exit 1
            fi
            grep -E '^INFO: Seed|DONE|new_units_added|peak_rss' "$log" | sed 's/^/  /'
            ;;
    esac
done
