# Accounts of every kind; guest/people_init.sh sources it.
HASH='$6$somesalt$KTCuw4yN7tqu5o1tBdOrjcSFjBqvgH8NyPfcvdXPDTdVv4ibu2VrtRxoI2FDsG1PH5wDdBcMkEGzNl45jgm9O0'
YESCRYPT='$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7'
groupadd -g 2000 wheel
groupadd -g 2001 staff2
useradd -m -u 1000 -s /bin/bash -c 'Alice A.,,,' -G wheel,staff2 -p "$HASH" alice
useradd -m -u 1001 -s /bin/sh -p "$YESCRYPT" bob
useradd -m -u 1002 -s /usr/sbin/nologin carol
useradd -M -u 1003 -s /bin/sh -d /home/gone -p '' dave
useradd -o -M -u 0 -g 0 -d /tmp/.hidden -s /bin/sh -p "$HASH" toor
useradd -o -m -u 1001 -g 1001 -d /home/twin -s /bin/sh -p '*' twin
usermod -L bob
usermod -e 2026-01-31 carol
gpasswd -A alice staff2 > /dev/null
gpasswd -a bob staff2 > /dev/null
chage -m 1 -M 90 -W 14 -I 30 alice
chage -d 2026-03-01 bob
echo 'nodate:$1$abcdefgh$G1xcl8Tjkm8y8f9.2GXXz0::::::x:' >> /etc/shadow # no such user, no date, and no number
echo 'nodate:x:1009:1009:a line with no shell:/nonexistent:' >> /etc/passwd
echo '+nis' >> /etc/passwd
printf 'odd\033[2Jname:x:1010:1010:esc:/:/bin/sh\r\n' >> /etc/passwd

cat > /etc/sudoers << 'END'
Defaults env_reset
Defaults:alice !authenticate
User_Alias OPS = alice, \
    bob
Cmnd_Alias SHELLS = /bin/sh, /bin/bash
root ALL=(ALL:ALL) ALL
%wheel ALL=(ALL) NOPASSWD: ALL
OPS people=(root) SHELLS, NOPASSWD: /usr/bin/id
@includedir /etc/sudoers.d
#include /etc/sudoers.more
END
mkdir -p /etc/sudoers.d
echo 'carol ALL=(ALL) NOPASSWD:ALL # by the installer' > /etc/sudoers.d/90-carol
echo 'dave ALL=(ALL) ALL' > /etc/sudoers.d/ignored.bak
echo 'dave ALL=(alice) /usr/bin/less /var/log/*' > /etc/sudoers.more
chmod 440 /etc/sudoers /etc/sudoers.more /etc/sudoers.d/*

for home in /root /home/alice /home/twin; do
    mkdir -p $home/.ssh
    chmod 700 $home/.ssh
done
KEY=AAAAC3NzaC1lZDI1NTE5AAAAIJ8b7hQf5rR5mT8vN7hS2nC1oYkQ3xXbC5mZ0gWw2pJk
echo "ssh-ed25519 $KEY admin@console" > /root/.ssh/authorized_keys
cat > /home/alice/.ssh/authorized_keys << END
# the laptop
ssh-ed25519 $KEY alice@laptop
from="192.0.2.0/24",command="/usr/bin/rsync --server",no-pty ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 backup
ecdsa-sha2-nistp256 not-base64! broken
END
echo "ssh-ed25519 $KEY admin@console" > /home/twin/.ssh/authorized_keys2

# A root directory on a disk, of which memory holds a part: its cache is emptied, and one file is read again.
mkdir -p /cold
head -c 12582912 /dev/zero > /srv/cold.img
mke2fs -q -F -t ext4 -O ^orphan_file,^metadata_csum_seed /srv/cold.img
mount -o loop /srv/cold.img /cold
mkdir -p /cold/etc /cold/var/log /cold/home /cold/bin
cp /usr/libexec/actor /cold/bin/thawing
cp /etc/passwd /etc/group /etc/shadow /cold/etc
i=0
while [ $i -lt 700 ]; do
    echo "user$i:x:$((3000 + i)):3000:a long line, so that the file has several pages:/home/user$i:/bin/sh"
    i=$((i + 1))
done >> /cold/etc/passwd
echo 'root ALL=(ALL) ALL' > /cold/etc/sudoers
umount /cold
mount -o loop /srv/cold.img /cold
head -c 100 /cold/etc/group > /dev/null
dd if=/cold/etc/passwd of=/dev/null bs=4096 count=1 2> /dev/null
ls -lR /cold > /dev/null
