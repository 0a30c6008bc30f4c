#!/bin/sh
# PID 1 of a guest with accounts, logins, things that start by themselves, and what containers leave: made with Debian's own tools
# where these can be run, by hand in the form of the programs' own documents where they cannot; then the machine is stopped.
set -e
trap 'echo "init: gave up"; sleep 1; echo b > /proc/sysrq-trigger; sleep 9' EXIT
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C TZ=UTC
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o mode=755 devtmpfs /dev
mkdir -p /dev/shm
mount -t tmpfs -o size=4m,mode=1777 tmpfs /dev/shm
mount -t tmpfs -o size=16m,mode=755 tmpfs /run
mount -t tmpfs -o size=48m,mode=755 tmpfs /var/lib/machines
chmod 1777 /tmp
hostname people
while read -r module may_fail; do
    insmod "/lib/modules/$module.ko" || [ "$may_fail" ]
done < /lib/modules/order

. /srv/accounts.sh
. /srv/logins.sh
. /srv/persistence.sh
. /srv/containers.sh
/usr/libexec/observer /srv/plan
echo "init: the observer came back"
