# File systems of every kind on disks of their own, filled, mounted anew and read in part; two containers on overlays.
# guest/init.sh sources it. /run/hashes gets the SHA-256 of every file as it was written.
export DM_DISABLE_UDEV=1
KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f

# A name of 255 bytes: every byte that a name may have, and one more.
ANY_NAME=$(
    byte=1
    while [ "$byte" -le 255 ]; do
        [ "$byte" = 47 ] || printf "\\$(printf %03o "$byte")"
        byte=$((byte + 1))
    done
)z

# A tree of files. $2: whether the file system has names of any bytes, links, owners and holes.
fill() {
    mkdir -p "$1/text" "$1/many" "$1/a folder/deep/deeper" "$1/cold"
    cp /etc/passwd "$1/text/passwd"
    echo hello > "$1/text/tiny"
    : > "$1/text/empty"
    head -c 3145728 /dev/urandom > "$1/big"
    head -c 100000 /dev/urandom > "$1/unread"
    head -c 65536 /dev/urandom > "$1/sparse"
    head -c 5000 /dev/urandom | dd of="$1/sparse" bs=4096 seek=400 conv=notrunc 2> /dev/null
    for number in 0 1 2 3 4 5 6 7; do
        head -c "${number}777" /dev/urandom > "$1/many/$number"
    done
    echo below > "$1/a folder/deep/deeper/file"
    echo nobody looked at this > "$1/cold/unseen"
    [ "$2" ] || return 0
    echo odd > "$1/a folder/$(printf 'new\nline \377\t')"
    echo long > "$1/$(printf '%0255d' 7)"
    echo any > "$1/$ANY_NAME"
    ln -s ../text/passwd "$1/many/link"
    ln "$1/text/tiny" "$1/text/same"
    mkfifo "$1/pipe"
    cp /usr/bin/env "$1/program"
    chmod 4755 "$1/program"
    chown alice "$1/text/passwd"
    setfattr -n user.origin -v 'a guest' "$1/text/passwd" || :
}

# What is in the page cache then: whole files, a part of one, and nothing of the rest.
read_again() {
    cat "$1"/text/* "$1"/many/[0-4] "$1/sparse" > /dev/null
    dd if="$1/big" of=/dev/null bs=65536 skip=16 count=4 2> /dev/null
}

hashes() {
    find "$1" -type f -exec sha256sum {} + >> /run/hashes
}

put() { # NAME TYPE DEVICE FULL: an empty file system becomes a filled one
    mkdir -p "/mnt/$1"
    mount -t "$2" "$3" "/mnt/$1"
    fill "/mnt/$1" "$4"
    hashes "/mnt/$1"
}

mkdir -p /run/tree /mnt/squashfs /mnt/one /mnt/two /run/upper
mke2fs -q -F -t ext4 -O ^orphan_file,^metadata_csum_seed /dev/vda
mkfs.xfs -q -f /dev/vdb
mkfs.btrfs -q -f /dev/vdc
mkfs.fat -F 32 /dev/vdd > /dev/null
dmsetup create secret --table "0 65536 crypt aes-xts-plain64 $KEY 0 /dev/vdf 0"
mke2fs -q -F -t ext4 -O encrypt,^orphan_file,^metadata_csum_seed /dev/mapper/secret
put ext4 ext4 /dev/vda full
put xfs xfs /dev/vdb full
put btrfs btrfs /dev/vdc full
put vfat vfat /dev/vdd ''
put secret ext4 /dev/mapper/secret full
fill /run/tree full
mksquashfs /run/tree /dev/vde -noappend -quiet -no-progress -processors 1 > /dev/null
(cd /run/tree && find . -type f -exec sha256sum {} +) >> /run/hashes # there "./" stands for /mnt/squashfs/
rm -r /run/tree

mkdir /mnt/ext4/covered
head -c 70000 /dev/urandom > /mnt/ext4/covered/kept
hashes /mnt/ext4/covered

sync
umount /mnt/ext4 /mnt/xfs /mnt/btrfs /mnt/vfat /mnt/secret
mount -t ext4 /dev/vda /mnt/ext4
mount -t xfs /dev/vdb /mnt/xfs
mount -t btrfs /dev/vdc /mnt/btrfs
mount -t vfat /dev/vdd /mnt/vfat
mount -t ext4 /dev/mapper/secret /mnt/secret
mount -t squashfs /dev/vde /mnt/squashfs

# A file in memory that no path leads to: a file system is mounted over its folder.
cat /mnt/ext4/covered/kept > /dev/null
mount -t tmpfs tmpfs /mnt/ext4/covered

for name in ext4 xfs btrfs vfat secret squashfs; do
    read_again /mnt/$name
done

# Two encrypted directories, by keys of their own, with a file in each.
/usr/libexec/encrypt /mnt/secret/locked-1 /mnt/secret/locked-2 > /run/locked
for number in 1 2; do
    echo "locked away $number" > "/mnt/secret/locked-$number/a rather long name"
    hashes "/mnt/secret/locked-$number"
done

# Two containers: one writes to a disk, the other to memory.
container() { # NAME LOWER UPPER
    mkdir -p "$3/upper" "$3/work"
    mount -t overlay -o "lowerdir=$2,upperdir=$3/upper,workdir=$3/work" overlay "/mnt/$1"
    mkdir -p "/mnt/$1/bin" "/mnt/$1/proc"
    cp /usr/libexec/actor "/mnt/$1/bin/$1"
    echo "$1" > "/mnt/$1/own"
    echo more >> "/mnt/$1/text/passwd"
    rm "/mnt/$1/text/empty"
    rm -r "/mnt/$1/a folder"
    mkdir "/mnt/$1/a folder"
    echo opaque > "/mnt/$1/a folder/new"
    hashes "/mnt/$1/own"
    hashes "/mnt/$1/text/passwd"
    hashes "/mnt/$1/a folder/new"
    hashes "/mnt/$1/bin"
    unshare --mount --pid --fork chroot "/mnt/$1" "/bin/$1" idle < /dev/null > /dev/null 2>&1 &
    until pgrep -x "$1" > /dev/null; do :; done
}
# many_files=N on the kernel's command line, which init gets as a variable: so many small files in memory, and a large one.
if [ "${many_files:-}" ]; then
    mkdir /many
    mount -t tmpfs -o size=60% tmpfs /many
    head -c 134217728 /dev/urandom > /many/large
    mkdir /many/small
    head -c "$((many_files * 4096))" /dev/urandom | split -b 4096 -a 4 - /many/small/
fi

container one /mnt/ext4:/mnt/squashfs /mnt/xfs/containers
container two /mnt/squashfs /run/upper
sync
