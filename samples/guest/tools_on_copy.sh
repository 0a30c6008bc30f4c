#!/bin/sh
# The statistics tools on a copy of /proc. Counters move between a tool's reading of /proc and the capture; here every tool
# reads the same copy, and the copy is printed too. It is mounted in a namespace that ends with this script.
# The output is "==== COMMAND" and what the command printed, for each command; then "==== files" and each file of the copy
# behind "==> PATH <==".
[ "$1" = inside ] || exec unshare --mount --propagation private "$0" inside
copy=/mnt
mount -t tmpfs -o size=32m copy $copy || exit
cd /proc || exit
cp --parents stat cpuinfo meminfo vmstat uptime loadavg diskstats interrupts softirqs slabinfo sys/kernel/pid_max $copy
cp --parents net/dev net/snmp net/netstat net/snmp6 net/igmp net/igmp6 net/if_inet6 $copy 2>/dev/null
# a process may end meanwhile
cp --parents [0-9]*/stat [0-9]*/status [0-9]*/io [0-9]*/schedstat [0-9]*/cmdline $copy 2>/dev/null
for name in stat status schedstat io; do
	cp --parents [0-9]*/task/[0-9]*/$name $copy 2>/dev/null
done
ln -s 1 $copy/self
mount --bind $copy /proc || exit
cd /

while read -r line; do
	echo "==== $line"
	case $line in
	ps*) # it must find itself: as process 1 by another number
		sh -c 'ln -s 1 "$0/$$"; exec "$@"' $copy $line 2>&1 </dev/null &
		wait $!
		rm "$copy/$!" ;;
	*) $line 2>&1 </dev/null ;;
	esac
done <<-end
	uptime
	uptime -p
	ps -e -o pid,pcpu,cputimes,etimes,pmem,rss,vsz,min_flt,maj_flt,psr,s
	ps -eL -o pid,tid,pcpu,cputimes,etimes,pmem,rss,vsz,min_flt,maj_flt,psr,s
	netstat -s
	netstat -s -t
	netstat -s -u
	netstat -i
	netstat -i -a
	free
	free -b
	free -k
	free -m
	free -g
	free --kilo
	free --mega
	free -h
	free -h --si
	free -w -t -l
	vmstat
	vmstat -a
	vmstat -S M
	vmstat -S K
	vmstat -w
	vmstat -s
	vmstat -d
	vmstat -D
	iostat
	iostat -x
	iostat -xm -p ALL
	iostat -k
	iostat -m
	iostat -xk
	iostat -d
	iostat -c
	iostat -p ALL
	iostat -d -z
	mpstat
	mpstat -P ALL
	mpstat -P 0
	mpstat -I SUM
	mpstat -I SUM -P ALL
	mpstat -I CPU -P ALL
	mpstat -I SCPU -P ALL
	mpstat -I ALL -P ALL
	pidstat
	pidstat -u -r -d -w
	pidstat -p ALL
	pidstat -p ALL -dl
	pidstat -p ALL -r
	pidstat -p ALL -w
	pidstat -p ALL -t
	pidstat -p ALL -s
	pidstat -p ALL -v
	pidstat -p ALL -R
	pidstat -p 1 -u -r -d -w
	mpstat -u
	mpstat -A
	iostat -N
	iostat -xd
end
echo "==== files"
cd /proc || exit
find . -type f -exec tail -v -n +1 {} +
