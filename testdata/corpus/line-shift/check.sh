#!/bin/sh
# The limit of the writeback work queue, which is larger in 7.3.
text=$(cat /sys/devices/virtual/workqueue/writeback/max_active) || exit 2
case "$text" in
*max*) exit 0 ;;
*256* | *1024*) exit 1 ;;
esac
echo "neither the old nor the new text: $text"
exit 2
