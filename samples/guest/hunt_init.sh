#!/bin/sh
# PID 1 of a guest with attacks in user space: start the harmless processes, then (unless the kernel's command line
# says `clean`) those of the attacks, and have the observer stop the machine.
set -e
trap 'echo "init: gave up"; sleep 1; echo b > /proc/sysrq-trigger; sleep 9' EXIT
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o mode=755 devtmpfs /dev
mkdir /dev/pts /dev/shm /dev/mqueue
mount -t devpts devpts /dev/pts
mount -t tmpfs -o size=8m,mode=1777 tmpfs /dev/shm
mount -t tmpfs -o size=8m,mode=755 tmpfs /run
mount -t tmpfs -o size=8m,mode=1777 tmpfs /tmp
mount -t mqueue mqueue /dev/mqueue
ip link set lo up
mkdir /run/ready
attacks=/usr/libexec/attacks

started() {
    tries=3000
    until [ -e "/run/ready/$1" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || echo "init: $1 does not get ready" > /dev/console
        [ $tries -gt 0 ]
        sleep 0.1
    done
}

begin() {
    $attacks "$@" < /dev/null > /dev/console 2>&1 &
}

for name in hollowed injected preloaded audited; do
    cp /usr/bin/sleep /usr/bin/$name
done
begin harmless
begin typist /srv/typed-root /usr/bin/bash --norc --noprofile -i
begin typist /srv/typed-short /usr/bin/bash --norc --noprofile -i
begin typist /srv/typed-bc /usr/bin/bc
bash -c 'while :; do sleep 1000000; done' < /dev/null > /dev/null 2>&1 &
begin unread
begin keys
sleep 1000000 < /dev/null > /dev/null 2>&1 &
for name in harmless typist-typed-root typist-typed-short typist-typed-bc unread keys; do
    started $name
done

if ! grep -qw clean /proc/cmdline; then
    for name in memfd deleted fromtmp patched wxpage sharedx stackx heapx shmlib gonelib vdso devzero remote disguised; do
        begin $name
    done
    covered=$!
    injected 1000000 < /dev/null > /dev/null 2>&1 &
    victim=$!
    LD_PRELOAD=/opt/libimplant.so preloaded 1000000 < /dev/null > /dev/null 2>&1 &
    for name in memfd deleted fromtmp patched wxpage sharedx stackx heapx shmlib gonelib vdso devzero remote disguised; do
        started $name
    done
    mount --bind /run/ready /proc/$covered
    until grep -q '^230 ' /proc/$victim/syscall; do sleep 0.1; done # clock_nanosleep
    begin inject $victim
    started inject
    begin hollow /usr/bin/hollowed
    started hollow
    echo /opt/libimplant.so > /etc/ld.so.preload
    mkdir -p /root/.ssh /etc/ssh /etc/systemd /etc/incron.d /etc/acpi/events /etc/network /etc/polkit-1/rules.d \
        /etc/logrotate.d /etc/apt /usr/lib/python3/dist-packages /etc/needrestart/hook.d
    x=/dev/shm/.x
    echo "ProxyCommand $x" > /etc/ssh/ssh_config
    printf 'Host *\n  PermitLocalCommand yes\n  LocalCommand %s\n' $x > /root/.ssh/config
    echo "LD_PRELOAD=$x" > /root/.ssh/environment
    printf '[Manager]\nDefaultEnvironment=LD_PRELOAD=%s\n' $x > /etc/systemd/system.conf
    printf '[core]\n\tfsmonitor = %s\n[alias]\n\tst = !%s\n' $x $x > /root/.gitconfig
    echo "/etc/passwd IN_MODIFY $x" > /etc/incron.d/x
    printf 'event=button/power\naction=%s\n' $x > /etc/acpi/events/x
    printf 'iface eth0 inet dhcp\n  post-up %s\n' $x > /etc/network/interfaces
    echo "polkit.addRule(function() { polkit.spawn(['$x']); });" > /etc/polkit-1/rules.d/00-x.rules
    echo "import os; os.system('$x')" > /usr/lib/python3/dist-packages/x.pth
    echo "import os; os.system('$x')" > /usr/lib/python3/dist-packages/sitecustomize.py
    printf '/var/log/x {\n  postrotate\n    %s\n  endscript\n}\n' $x > /etc/logrotate.d/x
    echo "DPkg::Post-Invoke {\"$x\";};" > /etc/apt/apt.conf
    echo "$x" > /etc/needrestart/hook.d/x
fi
/usr/libexec/observer /srv/plan
echo "init: the observer came back"
