#!/bin/sh
# Three labels and one value of /proc/meminfo.
grep -q '^VmallocUsed: *[1-9]' /proc/meminfo || exit 2
new=$(grep -c -E '^(AnonymousPages|BouncePages|PerCPU):' /proc/meminfo)
old=$(grep -c -E '^(AnonPages|Bounce|Percpu):' /proc/meminfo)
case "$new$old" in
30) exit 0 ;;
03) exit 1 ;;
esac
exit 2
