#!/bin/sh
# PID 1 of a guest with pseudo file systems of every kind: mount them, put something into each, let the observer read
# them, unmount some, and stop the machine. A second process, in a container of its own, has others mounted than PID 1.
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

T=/sys/kernel/tracing
mount -t tracefs tracefs $T
mount -t debugfs debugfs /sys/kernel/debug
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
mount -t pstore pstore /sys/fs/pstore
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
mount -t configfs configfs /sys/kernel/config
mkdir /dev/mqueue
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs cgroup /sys/fs/cgroup
mkdir /sys/fs/cgroup/pids /sys/fs/cgroup/unified
mount -t cgroup -o pids cgroup /sys/fs/cgroup/pids || : # Linux 6.19 may have no such hierarchies any more
mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified

# a probe that was hit, a message in the trace buffer, a filter, a pinned folder, a handler, queues, groups
echo 'p:spy/name __x64_sys_sethostname name=+112(%di):x64' > $T/kprobe_events
echo 1 > $T/events/spy/name/enable
echo pseudo > /proc/sys/kernel/hostname
hostname pseudo
echo 'a note of an intruder' > $T/trace_marker
echo 'common_pid > 7' > $T/events/sched/sched_switch/filter
mkdir /sys/fs/bpf/pinned
echo ':spied:M::SPYX::/usr/bin/cat:' > /proc/sys/fs/binfmt_misc/register
mkdir /sys/kernel/config/nullb/spied || :
: > /dev/mqueue/outer
mkdir /sys/fs/cgroup/pids/spied /sys/fs/cgroup/unified/spied || :
echo ':inherits:E::spied::/dev/shm/.run:C' > /proc/sys/fs/binfmt_misc/register
[ ! -e /sys/fs/cgroup/pids/release_agent ] || echo /dev/shm/.agent > /sys/fs/cgroup/pids/release_agent
auditctl -R /srv/audit.rules

unshare --mount --ipc sh -c '
umount /sys/kernel/tracing /dev/mqueue /proc/sys/fs/binfmt_misc /sys/kernel/config
mount -t mqueue mqueue /dev/mqueue
: > /dev/mqueue/inner
umount /dev/mqueue
: > /run/ready
exec sleep 1000000' &
[ ! -d /sys/fs/cgroup/pids/spied ] || echo $! > /sys/fs/cgroup/pids/spied/cgroup.procs
until [ -e /run/ready ]; do sleep 0.1; done
chown 1000 /srv/jail/note
chroot /srv/jail /bin/jailed idle < /dev/null > /dev/null 2>&1 &
until [ "$(cat "/proc/$!/comm")" = jailed ]; do :; done
/usr/libexec/observer /srv/plan
echo "init: the observer came back"
