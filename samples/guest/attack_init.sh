#!/bin/sh
# PID 1 of a guest whose kernel is attacked: start the victims, load the rootkit, let the observer record what the guest
# still sees, and stop the machine. Without /srv/attacks the same machine is left alone.
set -e
trap 'echo "init: gave up"; sleep 1; echo b > /proc/sysrq-trigger; sleep 9' EXIT
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o mode=755 devtmpfs /dev
mount -t tmpfs -o size=4m,mode=755 tmpfs /run
while read -r module may_fail; do
    insmod "/lib/modules/$module.ko" || [ "$may_fail" ]
done < /lib/modules/order
exec 4<> /dev/ttyS0

user_of() { # PID
    while read -r key uid _; do
        [ "$key" != Uid: ] || echo "$uid"
    done < "/proc/$1/status"
}

user() { # NAME UID [listen | knock]
    /usr/libexec/victim "$@" 3<&- 4<&- < /dev/null > /dev/null 2>&1 &
    until [ "$(cat "/proc/$!/comm")" = "$1" ]; do :; done
    echo "$! $1" >> /run/victims
}
user v_hidden 1000
user v_listens 1000 listen
user v_thread 1000
user v_steals 1000
user v_forges 1000
user v_escalates 1000 knock
door=$!
user v_left_alone 1000
user v_root_daemon 0
user v_reads 1000 5< /proc/modules

mount -t tracefs tracefs /sys/kernel/tracing
echo 'a note of an intruder' > /sys/kernel/tracing/trace_marker
umount /sys/kernel/tracing

if [ -e /srv/attacks ]; then
    while read -r module attacks; do
        insmod "/srv/$module.ko" "attacks=$attacks"
    done < /srv/attacks
    until [ "$(user_of $door)" = 0 ]; do sleep 0.1; done
fi
/usr/libexec/observer /srv/plan
echo "init: the observer came back"
