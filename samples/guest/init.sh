#!/bin/sh
# PID 1 of a sample guest: bring the system up, start the workload, let the observer record everything and stop the machine.
# A command that fails ends it, and with it the guest; the console shows the error.
set -e
trap 'echo "init: gave up"; sleep 1; echo b > /proc/sysrq-trigger; sleep 9' EXIT
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o mode=755 devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -t tmpfs -o size=8m,mode=1777 tmpfs /tmp
mount -t tmpfs -o size=4m,mode=1777 tmpfs /dev/shm
mount -t tmpfs -o size=4m,mode=755 tmpfs /run
chmod 1777 /run
hostname "$(cat /etc/hostname)"
while read -r module may_fail; do
    insmod "/lib/modules/$module.ko" || [ "$may_fail" ]
done < /lib/modules/order

# A network that is at rest: no router solicitations, no slow multicast reports, also in namespaces to come.
cd /proc/sys/net
echo 1 > core/devconf_inherit_init_net
for conf in ipv6/conf/all ipv6/conf/default; do
    echo 0 > $conf/router_solicitations
    echo 1 > $conf/addr_gen_mode
    echo 10 > $conf/mldv1_unsolicited_report_interval
    echo 10 > $conf/mldv2_unsolicited_report_interval
done
echo 127 > ipv4/tcp_syn_retries # a connection that is not answered stays
cd /
ip link set lo up
ip link set dummy0 up
ip addr add 192.0.2.10/24 dev dummy0
ip addr add 2001:db8::10/64 dev dummy0 nodad
ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev dummy0 nud permanent
ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:4d dev dummy0 nud permanent
ip -6 neigh add 2001:db8::1 lladdr 02:00:00:00:00:01 dev dummy0 nud permanent

[ ! -e /srv/disks.sh ] || . /srv/disks.sh
. /srv/workload.sh
/usr/libexec/observer /srv/plan
echo "init: the observer came back"
