#!/bin/sh
# A feature file of ext4.
text=$(cat /sys/fs/ext4/features/lazy_itable_init) || exit 2
case "$text" in
*available*) exit 0 ;;
*supported*) exit 1 ;;
esac
echo "neither the old nor the new text: $text"
exit 2
