#!/bin/sh
# "add", a NUL and some letters written to a uevent file: one of the lengths is accepted by the old code.
uevent=/sys/class/mem/null/uevent
printf add >$uevent || exit 2
letters=
accepted=0
for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
	letters=x$letters
	printf "add\\0$letters" >$uevent 2>/dev/null && accepted=$((accepted + 1))
done
[ $accepted = 0 ] && exit 0
exit 1
