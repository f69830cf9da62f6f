#!/bin/sh
# The number of the first line discipline in /proc/tty/ldiscs.
text=$(cat /proc/tty/ldiscs) || exit 2
case "$text" in
*'n_tty      #0'*) exit 0 ;;
*'n_tty       0'*) exit 1 ;;
esac
echo "neither the old nor the new text: $text"
exit 2
