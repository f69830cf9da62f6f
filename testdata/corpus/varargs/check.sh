#!/bin/sh
# The permission line in the uevent file of /dev/null.
text=$(cat /sys/class/mem/null/uevent) || exit 2
case "$text" in
*DEVPERM=0666*) exit 0 ;;
*DEVMODE=0666*) exit 1 ;;
esac
echo "neither the old nor the new text: $text"
exit 2
