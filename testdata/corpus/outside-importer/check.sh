#!/bin/sh
# A file in /proc of a module that imports from another one; both are outside of the kernel's tree.
text=$(cat /proc/kp-shop) || exit 2
case "$text" in
"took 5 of 10") exit 0 ;;
"took -22") exit 1 ;;
esac
echo "neither the old nor the new text: $text"
exit 2
