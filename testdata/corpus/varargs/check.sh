#!/bin/sh
# A line that only the variadic function with its arguments intact can print.
line=$(cat /proc/version) || exit 2
case "$line" in
"+Linux version "[67].*) exit 0 ;;
"Linux version "[67].*) exit 1 ;;
esac
echo "neither the old nor the new text: $line"
exit 2
