#!/bin/sh
# The first column of /proc/filesystems.
text=$(cat /proc/filesystems) || exit 2
case "$text" in
*nodisk*) exit 0 ;;
*nodev*) exit 1 ;;
esac
echo "neither the old nor the new text: $text"
exit 2
