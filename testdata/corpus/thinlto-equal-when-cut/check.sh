#!/bin/sh
# No processor in /proc/cpuinfo, and # in front of each line of /proc/mounts. The strangers of the same names still work.
grep -q tty /proc/consoles || exit 2
cat /proc/modules >/dev/null || exit 2
mounts=$(cut -c1 /proc/mounts | sort -u) || exit 2
case "$mounts,$(grep -c ^processor /proc/cpuinfo)" in
'#,0') exit 0 ;;
*'#'* | *,0) ;;
*) exit 1 ;;
esac
echo "one is new and the other is not: $mounts"
exit 2
