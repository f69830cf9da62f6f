#!/bin/sh
# The counter that the patched function calls through a pointer.
text=$(cat /proc/version) || exit 2
case "$text" in
*switches*) exit 0 ;;
*Linux*) exit 1 ;;
esac
echo "neither the old nor the new text: $text"
exit 2
