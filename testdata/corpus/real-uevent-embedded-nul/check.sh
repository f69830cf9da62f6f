#!/bin/sh
# An action, a NUL and some letters written to a uevent file. The old code accepts a length at which the byte behind
# the constant happens to be zero too; which one that is depends on the order of strings in the image.
uevent=/sys/class/mem/null/uevent
printf add >$uevent || exit 2
for action in bind online change add move offline unbind; do
	letters=
	while [ ${#letters} -lt 40 ]; do
		letters=x$letters
		printf "$action\0$letters" >$uevent 2>/dev/null && exit 1
	done
done
exit 0
