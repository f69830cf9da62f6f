#!/bin/sh
# The list hangs on a static variable, behind a static lock.
text=$(cat /proc/filesystems | tr '\t\n' '  ') || exit 2
case "$text" in
*"virtual proc "*) exit 0 ;;
*"nodev proc "*) exit 1 ;;
esac
echo "neither the old nor the new text: $text"
exit 2
