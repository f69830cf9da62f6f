#!/bin/sh
# Whether KASAN reports a use after free when its test runs.
dmesg -c >/dev/null
echo run >/sys/kernel/debug/kunit/kasan/run || exit 2
if dmesg | grep -q "KASAN: slab-use-after-free in kmalloc_uaf"; then
	exit 1
fi
dmesg | grep -q "KTAP version" || exit 2
exit 0
