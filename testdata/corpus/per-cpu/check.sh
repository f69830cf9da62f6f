#!/bin/sh
# The number of dentries gets a million more, on top of the real count.
dentries=$(cut -f1 /proc/sys/fs/dentry-state)
[ "$dentries" -gt 1000050 ] && exit 0
[ "$dentries" -gt 50 ] && [ "$dentries" -lt 1000000 ] && exit 1
echo "dentry-state says $dentries: the per-cpu counter was not the kernel's"
exit 2
