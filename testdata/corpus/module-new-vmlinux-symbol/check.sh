#!/bin/sh
# A feature file of ext4 shows the number of context switches.
read -r word switches </sys/fs/ext4/features/lazy_itable_init
[ "$word" = supported ] || exit 2
[ -z "$switches" ] && exit 1
total=$(sed -n 's/^ctxt //p' /proc/stat)
[ "$switches" -gt 0 ] && [ "$switches" -le "$total" ] && exit 0
exit 2
