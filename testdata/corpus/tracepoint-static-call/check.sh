#!/bin/sh
# Task names lose their percent signs, and renaming is traced as before.
tracefs=/tmp/tracepoint-static-call
mkdir -p $tracefs
[ -d $tracefs/events ] || mount -t tracefs tracefs $tracefs || exit 2
event=$tracefs/events/task/task_rename/enable
: >$tracefs/trace
echo 1 >$event || exit 2
name=$(sh -c 'printf "rename%%me" >/proc/$$/comm; cat /proc/$$/comm; :')
echo 0 >$event
grep -q 'task_rename:.*newcomm=rename%me' $tracefs/trace || exit 2
case "$name" in
rename_me) exit 0 ;;
rename%me) exit 1 ;;
esac
exit 2
