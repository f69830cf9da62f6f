#!/bin/sh
# The end of a line in /proc/net/softnet_stat and the self test column of /proc/crypto.
grep -q '\.$' /proc/net/softnet_stat
image=$?
[ -e /proc/crypto ] || exit 3
text=$(cat /proc/crypto)
case "$text" in
*": untested"*) module=0 ;;
*": unknown"* | *": passed"*) module=1 ;;
*) module=empty ;;
esac
case "$image$module" in
00) exit 0 ;;
11) exit 1 ;;
esac
echo "image $image, module $module: they must change together"
exit 2
