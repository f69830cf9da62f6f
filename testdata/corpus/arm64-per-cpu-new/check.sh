#!/bin/sh
# The new line has the value that each processor's copy starts with: that of processor 1, and of the one that runs.
text=$(cat /proc/uptime) || exit 2
case "$text" in
*"second 1100 1100") exit 0 ;;
*second*) exit 2 ;;
esac
exit 1
