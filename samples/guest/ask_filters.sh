# What the tools say whose arguments are only known in the guest, each behind a line with its command.
# The kernel writes /proc/kallsyms anew for every program that is shown, which takes it a second: a copy stands there meanwhile.
[ "$1" = inside ] || exec unshare --mount --propagation private sh "$0" inside
sed -n '/ [tT] /p' /proc/kallsyms > /run/kallsyms
mount --bind /run/kallsyms /proc/kallsyms
rm /run/kallsyms
ask() { echo "==== $*"; "$@" 2> /run/errors || echo "failed: $(cat /run/errors)"; echo; }
ids() { bpftool -j "$1" show | sed -n 's/{"id":/\n/gp' | sed -n 's/^\([0-9]*\),.*/\1/p'; }
for id in $(ids map); do
    ask bpftool -j map dump id $id
done
for id in $(ids prog); do
    ask bpftool prog dump xlated id $id opcodes
done
elsewhere=$(cat /run/elsewhere.pid)
for words in "nft list ruleset" "nft -j list ruleset" "iptables-legacy-save -c" "conntrack -L"; do
    echo "==== elsewhere $words"
    nsenter --net=/proc/$elsewhere/ns/net $words 2> /dev/null
done
