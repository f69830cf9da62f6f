#!/bin/sh
# The first callback raises pipe-max-size. What comes after the transition is of no importance to the new behaviour, and
# what was reverted before must leave nothing.
size=$(cat /proc/sys/fs/pipe-max-size) || exit 2
raised=$(grep -c raised /proc/version)
case "$size $raised" in
"2097152 1") exit 0 ;;
"1048576 0") exit 1 ;;
esac
echo "size $size, function patched: $raised"
exit 2
