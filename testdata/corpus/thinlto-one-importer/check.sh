#!/bin/sh
# Field 23 of /proc/PID/stat, the size of the address space, becomes odd.
size=$(cut -d' ' -f23 /proc/self/stat)
[ "$size" -gt 0 ] || exit 2
[ $((size % 4096)) = 1 ] && exit 0
[ $((size % 4096)) = 0 ] && exit 1
exit 2
