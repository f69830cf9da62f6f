#!/bin/sh
# A NUL and more behind the name of an action: the kernel takes such a text for the action if the length happens to end at
# another NUL behind the name in its memory; patched, it takes none. The three files belong to three callers.
takes() {
	for length in 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
		rest=$(printf '%*s' $length '' | tr ' ' x)
		for action in add remove change move online offline; do
			printf "$action\\0$rest" >"$1" 2>/dev/null && return 0
		done
	done
	return 1
}
taken=0
for file in /sys/class/mem/null/uevent /sys/bus/platform/uevent /sys/module/printk/uevent; do
	[ -w $file ] || exit 2
	printf change >$file || exit 2
	takes $file && taken=$((taken + 1))
done
case $taken in
0) exit 0 ;;
3) exit 1 ;;
*) exit 2 ;;
esac
