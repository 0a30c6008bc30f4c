# A zoo of links, rules, routes and sockets; sourced by srv/workload.sh of a network guest. What a kernel lacks is left out.
try() { "$@" || echo "network: cannot: $*"; }
link() { try ip link add "$@"; }
link zoo0 type dummy
link zoo1 type dummy
link zoo2 type dummy
link zoo3 type dummy
link zoo4 type dummy
ip link set zoo0 address 02:00:00:00:0a:01 alias 'uplink of the "zoo"' group 7
ip link property add dev zoo0 altname zoo-uplink altname a-second-name-that-is-longer
ip link set zoo0 up; ip link set zoo1 up; ip link set zoo3 up; ip link set zoo4 up
ip addr add 10.4.0.1/16 dev zoo0
ip addr add 10.4.1.1 peer 10.4.1.2 dev zoo1 metric 40
ip addr add 2001:db8:4::1/64 dev zoo0 nodad
for last in 8 9 99; do ip neigh add 10.4.0.$last lladdr 02:00:00:00:0a:$last dev zoo0 nud permanent; done
ip neigh add proxy 10.4.0.50 dev zoo0
link br1 type bridge vlan_filtering 1 ageing_time 12300
link vetha type veth peer name vethb
try ip link set vetha master br1; try ip link set vetha up; try ip link set vethb up; try ip link set br1 up
link link zoo0 name zoo0.7 type vlan id 7 protocol 802.1ad reorder_hdr off
link link zoo0 name zoo0.8 type vlan id 8 gvrp on
link vx0 type vxlan id 42 local 10.4.0.1 remote 10.4.0.9 dstport 4789 dev zoo0 ttl 5
link vx1 type vxlan external dstport 4790
link gnv0 type geneve id 7 remote 10.4.0.9
link mac0 link zoo1 type macvlan mode private
link mvt0 link zoo1 type macvtap mode bridge
link ipv0 link zoo3 type ipvlan mode l3
link bond7 type bond mode active-backup
link bondport type dummy
try ip link set bondport master bond7
link team0 type team
link gre7 type gre local 10.4.0.1 remote 10.4.0.9 ttl 64 key 5
link gretap7 type gretap local 10.4.0.1 remote 10.4.0.9
link ipip7 type ipip local 10.4.0.1 remote 10.4.0.9
link sit7 type sit local 10.4.0.1 remote 10.4.0.9 ttl 17
link tnl67 type ip6tnl local 2001:db8:4::1 remote 2001:db8:4::9 hoplimit 33
link gre67 type ip6gre local 2001:db8:4::1 remote 2001:db8:4::9
link wg0 type wireguard
link vti7 type vti local 10.4.0.1 remote 10.4.0.9 key 12
link vrf7 type vrf table 77
try ip link set zoo2 master vrf7
link ifb7 type ifb
link nlmon7 type nlmon
link link zoo4 name macsec7 type macsec port 11 encrypt on
link xfrm7 type xfrm dev zoo0 if_id 42
try ip tuntap add mode tun name tun7
try ip tuntap add mode tap name tap7
for name in vx0 vx1 gnv0 wg0 gre7 ipip7 sit7 tun7 vrf7 zoo2 mac0 zoo0.7 nlmon7; do try ip link set $name up; done
mkfifo /run/elsewhere
unshare --net sh -c 'echo $$ > /run/elsewhere; exec sleep 70000' &
read -r pid < /run/elsewhere
link veth-in type veth peer name inside netns $pid
try ip link set zoo1 allmulticast on
try ip link set zoo3 promisc on

rule() { try ip $family rule add "$@"; }
for family in -4 -6; do
    case $family in -4) net=10.4.0.0/16; to=10.5.0.0/16;; *) net=2001:db8:4::/64; to=2001:db8:5::/64;; esac
    rule priority 1100 not from $net tos 0x10 lookup 77
    rule priority 1101 fwmark 0x10/0xf0 lookup 77
    rule priority 1102 uidrange 1000-1999 lookup 77
    rule priority 1103 ipproto 6 sport 1000-2000 dport 443 lookup 77
    rule priority 1104 iif zoo0 oif zoo1 lookup main suppress_prefixlength 3
    rule priority 1105 to $to blackhole
    rule priority 1106 goto 2000
    rule priority 1107 from all tun_id 7 lookup 77 protocol static
    rule priority 1108 lookup main suppress_ifgroup 9
    rule priority 1109 iif nowhere0 fwmark 5 prohibit
    rule priority 2000 nop
done
ip rule add priority 2001 from 10.6.0.0/16 lookup 77 realms 3/4

route() { try ip route add "$@"; }
route 10.20.0.0/16 via 10.4.0.9 dev zoo0 mtu lock 1400 advmss 1360 initcwnd 20 rtt 300ms quickack 1 features ecn congctl reno window 5000
route 10.21.0.0/16 encap ip id 42 dst 10.4.0.8 ttl 9 dev vx1
route 10.22.0.0/16 nexthop via 10.4.0.9 dev zoo0 weight 2 nexthop via 10.4.0.8 dev zoo0 weight 3 onlink
try ip nexthop add id 7 via 10.4.0.9 dev zoo0
try ip nexthop add id 8 via 10.4.0.8 dev zoo0
try ip nexthop add id 9 group 7,3/8
route 10.23.0.0/16 nhid 7
route 10.23.0.0/17 nhid 9
route 10.24.0.0/16 tos 0x10 via 10.4.0.9
route 10.25.0.0/16 via inet6 fe80::9 dev zoo0
route 10.26.0.0/16 via 10.4.0.9 realm 5 src 10.4.0.1 metric 77 protocol 99
route unreachable 10.27.0.0/16
route prohibit 10.27.1.0/24 table 77
route blackhole 10.27.2.0/24
route throw 10.27.3.0/24 table 78
route default dev zoo2 table 77
route 10.28.0.0/16 encap mpls 100/200 via 10.4.0.9 dev zoo0
try ip -6 route add default from 2001:db8:1::/64 via fe80::9 dev zoo0
try ip -6 route add 2001:db8:9::/48 encap seg6 mode encap segs 2001:db8::a,2001:db8::b dev zoo0
try ip -6 route add 2001:db8:a::/48 via fe80::9 dev zoo0 pref high mtu 1400 hoplimit 9
try ip -6 route add 2001:db8:b::/48 nexthop via fe80::9 dev zoo0 weight 1 nexthop via fe80::a dev zoo0 weight 4
try ip -6 route add 2001:db8:c::/48 via fe80::9 dev zoo0 expires 86400
number=0
while [ $number -lt $routes ]; do
    echo "route add 10.$((64 + number / 256)).$((number % 256)).0/24 via 10.4.0.9 dev zoo0 table 99"
    number=$((number + 1))
done | ip -batch -
try ip fou add port 5555 ipproto 47

mkfifo /run/network
/usr/libexec/network > /run/network &
read -r _ < /run/network
