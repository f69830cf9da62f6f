#!/bin/sh
# /proc/version has a second line with a clock that goes on.
text=$(cat /proc/version)
case $text in
*"
clock "[1-9]*) exit 0 ;;
"Linux version "*) exit 1 ;;
esac
exit 2
