#!/bin/sh
# PID 1 of a guest with eBPF programs, packet filters of both kinds, tracked connections, queueing disciplines and tunnels:
# set them up, let the observer ask their own tools, and stop the machine. What a kernel lacks is left out.
set -e
trap 'echo "init: gave up"; sleep 1; echo b > /proc/sysrq-trigger; sleep 9' EXIT
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o mode=755 devtmpfs /dev
mount -t tmpfs -o size=4m,mode=755 tmpfs /run
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
while read -r module may_fail; do
    insmod "/lib/modules/$module.ko" || [ "$may_fail" ]
done < /lib/modules/order
echo 1 > /proc/sys/net/core/devconf_inherit_init_net
for conf in /proc/sys/net/ipv6/conf/all /proc/sys/net/ipv6/conf/default; do
    echo 0 > $conf/router_solicitations
    echo 1 > $conf/addr_gen_mode
done
try() { "$@" || echo "filters: cannot: $*"; }
echo 1 > /proc/sys/net/netfilter/nf_conntrack_acct
echo 1 > /proc/sys/net/netfilter/nf_conntrack_timestamp
echo 1 > /proc/sys/net/ipv4/ip_forward

ip link set lo up
ip link add out0 type dummy
ip link add out1 type dummy
ip link add inner0 type veth peer name inner1
ip link set out0 up; ip link set out1 up; ip link set inner0 up
ip addr add 10.4.0.1/16 dev out0
ip addr add 10.5.0.1/16 dev inner0
ip addr add 2001:db8:4::1/64 dev out0 nodad
for last in 8 9; do ip neigh add 10.4.0.$last lladdr 02:00:00:00:0a:0$last dev out0 nud permanent; done
mkfifo /run/elsewhere
unshare --net sh -c 'echo $$ > /run/elsewhere; exec sleep 70000' &
read -r pid < /run/elsewhere
echo $pid > /run/elsewhere.pid
ip link set inner1 netns $pid
nsenter --net=/proc/$pid/ns/net sh -c 'ip link set lo up; ip addr add 10.5.0.2/16 dev inner1; ip link set inner1 up'

for rules in /srv/nft/*.nft; do
    try nft -f "$rules"
done
try nsenter --net=/proc/$pid/ns/net nft -f /srv/elsewhere.nft
one_by_one() { # what of the rules this kernel can do
    while read -r line; do
        case $line in
            \**) table=${line#?} ;;
            COMMIT) ;;
            :*" - "*) chain=${line#:}; eval "try $1-legacy -w -t $table -N ${chain%% *}" ;;
            :*) ;;
            *) eval "try $1-legacy -w -t $table $line" ;;
        esac
    done < /srv/$2.rules
}
iptables-legacy-restore < /srv/ip.rules || one_by_one iptables ip
ip6tables-legacy-restore < /srv/ip6.rules || one_by_one ip6tables ip6
try nsenter --net=/proc/$pid/ns/net iptables-legacy -A INPUT -s 10.5.0.1 -p tcp --dport 7777 -j DROP

# connections: real ones, and others that only conntrack knows
try timeout 20 /usr/libexec/actor run -r /usr/libexec/actor server stream 0.0.0.0 8080
try timeout 20 /usr/libexec/actor run -r /usr/libexec/actor client stream 10.4.0.1 8080 100
for port in 8088 8090; do
    try timeout 20 /usr/libexec/actor run -r /usr/libexec/actor server stream 0.0.0.0 $port
done
try timeout 20 /usr/libexec/actor run -r /usr/libexec/actor client stream 127.0.0.1 8088 5
try timeout 20 /usr/libexec/actor run -r /usr/libexec/actor server dgram 127.0.0.1 5353
try timeout 20 /usr/libexec/actor run -r /usr/libexec/actor client dgram 127.0.0.1 5353 0
ping -c 2 -W 2 10.5.0.2 || :
try timeout 20 nsenter --net=/proc/$pid/ns/net /usr/libexec/actor run -r /usr/libexec/actor client stream 10.5.0.1 8090 7
try conntrack -I -p tcp -s 10.9.0.1 -d 10.9.0.2 --sport 1000 --dport 22 --state ESTABLISHED -u ASSURED -t 400000 -m 7
try conntrack -I -p tcp -s 10.9.0.1 -d 10.9.0.3 --sport 1001 --dport 22 --state SYN_SENT -t 100000
try conntrack -I -p tcp -s 10.9.0.1 -d 10.9.0.4 --sport 1002 --dport 80 --state TIME_WAIT -u ASSURED -t 300000
try conntrack -I -p tcp -s 10.9.0.1 -d 10.9.0.5 --dst-nat 10.9.9.5 --sport 1003 --dport 80 --state ESTABLISHED -u SEEN_REPLY,ASSURED -t 300000
try conntrack -I -p udp -s 10.9.0.1 -d 10.9.0.6 --sport 1004 --dport 53 -t 200000 -w 5
try conntrack -I -p udp -s 2001:db8::1 -d 2001:db8::2 --sport 1004 --dport 53 -t 200000
try conntrack -I -p icmp -s 10.9.0.1 -d 10.9.0.7 --icmp-type 8 --icmp-code 0 --icmp-id 77 -t 200000
try conntrack -I -p gre -s 10.9.0.1 -d 10.9.0.8 --srckey 1 --dstkey 2 -t 200000
try conntrack -I -p sctp -s 10.9.0.1 -d 10.9.0.9 --sport 1005 --dport 9 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2 -t 200000

mkdir -p /sys/fs/bpf/kept /sys/fs/cgroup/spied
mkfifo /run/bpf
/usr/libexec/bpf_programs /run/bpf /sys/fs/cgroup/spied out1 &
cat < /run/bpf

tc() { command tc "$@" || echo "filters: cannot: tc $*"; }
tc qdisc add dev out0 root handle 1: htb default 30 r2q 20
tc class add dev out0 parent 1: classid 1:1 htb rate 10mbit ceil 20mbit burst 15k
tc class add dev out0 parent 1:1 classid 1:10 htb rate 1mbit ceil 2mbit prio 1
tc class add dev out0 parent 1:1 classid 1:30 htb rate 3mbit
tc qdisc add dev out0 parent 1:10 handle 10: fq_codel limit 500 target 6ms interval 90ms noecn
tc qdisc add dev out0 parent 1:30 handle 30: netem delay 50ms 5ms 25% loss 1% duplicate 0.5%
tc filter add dev out0 parent 1: protocol ip prio 5 u32 match ip dst 10.4.0.9/32 match ip dport 80 0xffff flowid 1:10
tc filter add dev out0 parent 1: protocol ip prio 6 flower ip_proto tcp dst_port 443 src_ip 10.4.0.0/24 classid 1:30
tc filter add dev out0 parent 1: protocol all prio 7 handle 7 fw classid 1:30
tc qdisc add dev out0 clsact
tc filter add dev out0 ingress bpf direct-action object-pinned /sys/fs/bpf/kept/tc_mark
tc filter add dev out0 egress protocol ip matchall action mirred egress mirror dev out1 action gact drop
tc filter add dev out0 egress protocol ip prio 9 u32 match u32 0 0 police rate 1mbit burst 10k conform-exceed drop/ok
tc qdisc add dev out1 root prio bands 4 priomap 1 2 2 2 1 2 0 0 1 1 1 1 1 1 1 3
tc qdisc add dev out1 parent 8001:1 tbf rate 2mbit burst 10k latency 70ms
tc qdisc add dev inner0 root pfifo limit 77
tc filter add dev out1 parent 8001: protocol ip prio 1 u32 match ip src 10.0.0.0/8 action skbedit mark 7 priority 1:2 action pedit munge ip ttl set 9 pipe

for name in wg0 wg1; do try ip link add $name type wireguard; done
try wg setconf wg0 /srv/wg0.conf
try ip addr add 10.77.0.1/24 dev wg0

xfrm() { try ip xfrm "$@"; }
xfrm state add src 10.4.0.1 dst 10.4.0.9 proto esp spi 0x1000 reqid 7 mode tunnel auth-trunc 'hmac(sha256)' 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 128 enc 'cbc(aes)' 0x0102030405060708090a0b0c0d0e0f10 replay-window 32 sel src 10.4.0.0/16 dst 10.8.0.0/16
xfrm state add src 10.4.0.9 dst 10.4.0.1 proto esp spi 0x1001 mode transport aead 'rfc4106(gcm(aes))' 0x0102030405060708090a0b0c0d0e0f1011121314 128 flag esn replay-window 128 mark 5 mask 0xff
xfrm state add src 10.4.0.1 dst 10.4.0.8 proto ah spi 0x1002 mode transport auth 'hmac(sha1)' 0x0102030405060708090a0b0c0d0e0f1011121314 limit byte-soft 1000000 limit time-hard 86400
xfrm state add src 2001:db8:4::1 dst 2001:db8:4::9 proto esp spi 0x1003 mode tunnel enc 'cipher_null' '' auth 'hmac(sha1)' 0x0102030405060708090a0b0c0d0e0f1011121314 if_id 0x2a
xfrm state add src 10.4.0.1 dst 10.4.0.9 proto esp spi 0x1004 mode transport enc 'cbc(aes)' 0x0102030405060708090a0b0c0d0e0f10 auth 'hmac(sha1)' 0x0102030405060708090a0b0c0d0e0f1011121314 encap espinudp 4500 4500 0.0.0.0
xfrm policy add src 10.4.0.0/16 dst 10.8.0.0/16 dir out priority 100 tmpl src 10.4.0.1 dst 10.4.0.9 proto esp reqid 7 mode tunnel
xfrm policy add src 10.8.0.0/16 dst 10.4.0.0/16 proto tcp dport 22 dir in priority 200 mark 5 mask 0xff tmpl proto esp mode transport level use
xfrm policy add src 10.99.0.0/16 dst 0.0.0.0/0 dir fwd action block
xfrm policy add src ::/0 dst 2001:db8:99::/48 dir out if_id 0x2a tmpl src 2001:db8:4::1 dst 2001:db8:4::9 proto esp mode tunnel

sleep 3
/usr/libexec/observer /srv/plan
echo "init: the observer came back"
