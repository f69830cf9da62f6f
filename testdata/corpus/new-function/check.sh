#!/bin/sh
# The third field of /proc/uptime: 1000 plus the number of processors.
read -r up idle online rest </proc/uptime
cpus=$(grep -c '^cpu[0-9]' /proc/stat)
[ -z "$online" ] && [ -n "$idle" ] && exit 1
[ "$online" = $((1000 + cpus)) ] && exit 0
exit 2
