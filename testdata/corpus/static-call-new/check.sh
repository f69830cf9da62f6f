#!/bin/sh
# The new static call is made before and after it is repointed: one of its functions says "one", the other "two".
lines=$(wc -l < /proc/version) || exit 2
last=$(tail -n 1 /proc/version)
case "$lines $last" in
"1 "*) exit 1 ;;
"3 two") exit 0 ;;
esac
echo "$lines lines, the last one: $last"
exit 2
