#!/bin/sh
# The bytes of 0x11223344 as the machine has them.
text=$(cat /proc/version) || exit 2
case "$text" in
*"first byte 11, half 1122") exit 0 ;;
*"first byte"*) exit 2 ;;
esac
exit 1
