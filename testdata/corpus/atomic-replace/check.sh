#!/bin/sh
# The first word of /proc/softirqs; the second livepatch is not there.
read -r word rest </proc/softirqs
case "$(cat /proc/uptime)" in *second) exit 2 ;; esac
case "$word" in
replaced) exit 0 ;;
CPU0) exit 1 ;;
esac
exit 2
