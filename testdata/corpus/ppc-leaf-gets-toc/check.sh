#!/bin/sh
# One more line at the end.
text=$(cat /proc/meminfo) || exit 2
case "$text" in
*"Livepatch:         77 kB"*) exit 0 ;;
*"MemTotal:"*) exit 1 ;;
esac
exit 2
