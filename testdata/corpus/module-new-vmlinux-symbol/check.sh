#!/bin/sh
# A feature file of ext4 shows the number of context switches.
set -- $(cat /sys/fs/ext4/features/lazy_itable_init)
[ "$1" = supported ] || exit 2
[ $# = 1 ] && exit 1
total=$(sed -n 's/^ctxt //p' /proc/stat)
[ "$2" -gt 0 ] && [ "$2" -le "$total" ] && exit 0
exit 2
