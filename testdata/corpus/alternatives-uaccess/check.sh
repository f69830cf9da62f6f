#!/bin/sh
# A file called ".unlisted." is left out of listings; a buffer that is not mapped still gives EFAULT.
dir=/tmp/alternatives-uaccess
mkdir -p $dir && : >$dir/.unlisted. && : >$dir/listed || exit 2
./probe $dir || exit 2
names=$(ls -a $dir | tr '\n' ' ')
case "$names" in
". .. .unlisted. listed ") exit 1 ;;
". .. listed ") exit 0 ;;
esac
exit 2
