#!/bin/bash
# Fails unless each of the given binaries runs without any shared library and without a loader.
set -euo pipefail

for binary in "$@"; do
    # ldd fails for a static binary and says "statically linked" for a static-pie: both are fine.
    libraries=$(LC_ALL=C ldd "$binary" 2>&1 || true)
    if ! grep -qE 'not a dynamic executable|statically linked' <<<"$libraries"; then
        printf '%s is linked dynamically:\n%s\n' "$binary" "$libraries" >&2
        exit 1
    fi
    # readelf comes with the C compiler. ldd alone would be fooled by a loader of another machine.
    if LC_ALL=C readelf --program-headers --dynamic "$binary" | grep -E 'INTERP|NEEDED' >&2; then
        echo "$binary asks for a loader or a library" >&2
        exit 1
    fi
    "$binary" --help </dev/null >/dev/null
    printf '%s: static, %d KiB\n' "$binary" $(($(stat --format %s "$binary") / 1024))
done
