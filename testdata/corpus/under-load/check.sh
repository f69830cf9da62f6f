#!/bin/sh
# The first line of /proc/softirqs begins with blanks, or with "softirq". Four readers never stop; what they see has to
# be one of the two, and their number of reads has to grow.
dir=/tmp/under-load
if [ ! -d $dir ]; then
	mkdir $dir || exit 2
	for reader in 1 2 3 4; do
		setsid sh -c '
			count=0
			while :; do
				line=$(head -c 20 /proc/softirqs)
				case "$line" in
				"softirq             " | "                    ") count=$((count + 1)); echo $count >'$dir/$reader' ;;
				*) echo "$line" >'$dir'/mixed ;;
				esac
			done
		' </dev/null >/dev/null 2>&1 &
	done
fi
total() { cat $dir/[1-4] 2>/dev/null | awk '{ sum += $1 } END { print sum + 0 }'; }
before=$(total)
tries=0
while [ "$(total)" -le $((before + 4)) ]; do
	tries=$((tries + 1))
	[ $tries -lt 60 ] || { echo "the readers stand still"; exit 2; }
	usleep 100000
done
[ -e $dir/mixed ] && { cat $dir/mixed; exit 2; }
case "$(head -c 20 /proc/softirqs)" in
"softirq             ") exit 0 ;;
"                    ") exit 1 ;;
esac
exit 2
