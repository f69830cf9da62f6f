#!/bin/sh
# CRC-16/ARC of "123456789" is bb3d.
text=$(cat /sys/fs/ext4/features/lazy_itable_init) || exit 2
case "$text" in
"crc bb3d") exit 0 ;;
supported) exit 1 ;;
esac
echo "neither the old nor the new text: $text"
exit 2
