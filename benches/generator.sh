#!/bin/sh
# How near the load generator comes to the least that a client can do: rate and CPU time for each
# transaction, as ratios with their range, and whether they meet the goals of 0.8 and 1.3.
#
#   benches/generator.sh [raw|poll|report]
cd "$(dirname "$0")/.." && exec cargo bench -p benches --bench generator --locked -- "$@"
