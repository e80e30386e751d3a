#!/bin/bash
# Runs every test of the workspace and ends with one line that counts them:
# "N passed, M failed". Exit status 0 only if all of them ran and passed.
set -uo pipefail
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
log=target/test-logs
mkdir -p "$log"

# Tests with real processes look for the binaries beside their own; `cargo test` alone builds
# only those of packages that have integration tests.
"$cargo" build --workspace --bins --locked || exit 1

if "$cargo" nextest --version >/dev/null 2>&1; then
    "$cargo" nextest run --workspace --locked --no-fail-fast --no-tests=pass 2>&1 | tee "$log/unit"
else
    "$cargo" test --workspace --lib --bins --tests --locked --no-fail-fast 2>&1 | tee "$log/unit"
fi
unit=${PIPESTATUS[0]}
"$cargo" test --workspace --doc --locked --no-fail-fast 2>&1 | tee "$log/doc"
doc=${PIPESTATUS[0]}

# Both runners end with counts in words: "12 passed", "1 failed", "1 timed out".
sed 's/\x1b\[[0-9;]*m//g' "$log/unit" "$log/doc" |
    awk '
        /^ *Summary \[/ || /^test result: / {
            n = split($0, part, /[:;,.]/)
            for (i = 1; i <= n; i++) {
                if (match(part[i], /[0-9]+ passed/)) passed += substr(part[i], RSTART)
                if (match(part[i], /[0-9]+ (failed|timed out|exec failed)/)) failed += substr(part[i], RSTART)
                if (match(part[i], /[0-9]+ (skipped|ignored)/)) skipped += substr(part[i], RSTART)
            }
        }
        END {
            if (skipped > 0) printf "%d skipped\n", skipped
            printf "%d passed, %d failed\n", passed, failed
            # A run that counted nothing has not been understood: that is no success.
            exit failed > 0 || passed == 0
        }'
counted=$?

[ "$unit" -eq 0 ] && [ "$doc" -eq 0 ] && [ "$counted" -eq 0 ]
