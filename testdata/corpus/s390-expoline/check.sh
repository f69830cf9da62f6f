#!/bin/sh
# The number of the loopback device, or how long it is.
text=$(cat /sys/class/net/lo/ifindex) || exit 2
case "$text" in
"2 bytes") exit 0 ;;
[0-9]) exit 1 ;;
esac
echo "neither the old nor the new text: $text"
exit 2
