#!/usr/bin/busybox sh
# PID 1 of a sample guest: bring the system up, start the workload, let the observer record and freeze everything.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
# paths in full: Debian's busybox takes its own applets before programs
busybox mkdir -p /tmp /run /dev/pts /dev/shm /srv
busybox mount -t devpts devpts /dev/pts
busybox mount -t tmpfs -o size=8m,mode=1777 tmpfs /tmp
busybox mount -t tmpfs -o size=4m tmpfs /dev/shm
busybox hostname "$(busybox cat /etc/hostname)"
for module in $(busybox cat /lib/modules/order); do
    busybox insmod "/lib/modules/$module.ko" || echo "init: $module was not loaded"
done
/sbin/ip link set lo up
/sbin/ip link add dummy0 type dummy 2>/dev/null
/sbin/ip link set dummy0 up 2>/dev/null && /sbin/ip addr add 192.0.2.10/24 dev dummy0 && /sbin/ip -6 addr add 2001:db8::10/64 dev dummy0 nodad
/sbin/ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev dummy0 nud permanent 2>/dev/null
/sbin/ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:4d dev dummy0 nud permanent 2>/dev/null
/usr/bin/python3 /srv/workload.py
/usr/bin/python3 /srv/observer.py
echo "init: the observer came back"
busybox poweroff -f
