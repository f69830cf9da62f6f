#!/bin/sh
# The first word of /proc/softirqs: CPU0, or the name of the livepatch.
read -r word rest </proc/softirqs
case "$word" in
first) exit 0 ;;
CPU0) exit 1 ;;
esac
echo "neither the first nor the old text: $word"
exit 2
