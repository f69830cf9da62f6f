#!/bin/sh
# The state of the reading process, in /proc/PID/stat and in /proc/PID/status.
stat=$(cut -d' ' -f3 /proc/self/stat)
status=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' /proc/self/status)
case "$stat$status" in
rr) exit 0 ;;
RR) exit 1 ;;
esac
echo "stat says '$stat', status says '$status'"
exit 2
