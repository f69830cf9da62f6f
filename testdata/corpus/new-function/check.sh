#!/bin/sh
# The third field of /proc/uptime: 1000 plus the number of processors.
set -- $(cat /proc/uptime)
cpus=$(grep -c '^cpu[0-9]' /proc/stat)
[ $# = 2 ] && exit 1
[ $# = 3 ] && [ "$3" = $((1000 + cpus)) ] && exit 0
exit 2
