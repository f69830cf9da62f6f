#!/bin/sh
# The separator in /proc/iomem.
text=$(cat /proc/iomem) || exit 2
case "$text" in
*' = System RAM'*) exit 0 ;;
*' : System RAM'*) exit 1 ;;
esac
echo "neither the old nor the new text: $text"
exit 2
