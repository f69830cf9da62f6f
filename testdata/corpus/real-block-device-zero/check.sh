#!/bin/sh
# Mounting ext4 from a block device node 0:0.
node=/tmp/real-block-device-zero
[ -b $node ] || mknod $node b 0 0 || exit 2
mkdir -p $node.dir
exec ./probe $node $node.dir
