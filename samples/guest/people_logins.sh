# Login records, written by util-linux's utmpdump and shadow's lastlog; guest/people_init.sh sources it.
utmpdump -r > /var/log/wtmp 2> /dev/null << 'END'
[2] [00000] [~~  ] [reboot  ] [~           ] [6.1.0-58-cloud-amd64] [0.0.0.0        ] [2026-11-20T08:00:00,000000+00:00]
[1] [00053] [~~  ] [runlevel] [~           ] [6.1.0-58-cloud-amd64] [0.0.0.0        ] [2026-11-20T08:00:10,500000+00:00]
[7] [00500] [ts/0] [alice   ] [pts/0       ] [laptop.example.org  ] [192.0.2.44     ] [2026-11-20T09:00:00,000000+00:00]
[7] [00501] [ts/1] [bob     ] [pts/1       ] [2001:db8::7         ] [2001:db8::7    ] [2026-11-20T09:30:00,000000+00:00]
[8] [00500] [ts/0] [        ] [pts/0       ] [                    ] [0.0.0.0        ] [2026-11-20T10:15:30,000000+00:00]
[1] [00000] [~~  ] [shutdown] [~           ] [6.1.0-58-cloud-amd64] [0.0.0.0        ] [2026-11-20T18:00:00,000000+00:00]
[2] [00000] [~~  ] [reboot  ] [~           ] [6.1.0-58-cloud-amd64] [0.0.0.0        ] [2026-11-21T08:00:00,000000+00:00]
[7] [00600] [tty1] [root    ] [tty1        ] [                    ] [0.0.0.0        ] [2026-11-21T08:05:00,000000+00:00]
[2] [00000] [~~  ] [reboot  ] [~           ] [6.1.0-58-cloud-amd64] [0.0.0.0        ] [2026-11-22T08:00:00,000000+00:00]
[7] [00700] [ts/0] [toor    ] [pts/0       ] [203.0.113.9         ] [203.0.113.9    ] [2026-11-22T23:58:00,000000+00:00]
[8] [00700] [ts/0] [        ] [pts/0       ] [                    ] [0.0.0.0        ] [2026-11-24T00:02:01,000000+00:00]
[7] [00001] [ts/3] [alice   ] [pts/3       ] [laptop.example.org  ] [192.0.2.44     ] [2026-11-25T12:00:00,250000+00:00]
END
utmpdump -r > /var/log/btmp 2> /dev/null << 'END'
[6] [00801] [    ] [admin   ] [ssh:notty   ] [203.0.113.9         ] [203.0.113.9    ] [2026-11-22T23:50:00,000000+00:00]
[6] [00802] [    ] [root    ] [ssh:notty   ] [203.0.113.9         ] [203.0.113.9    ] [2026-11-22T23:51:00,000000+00:00]
END
utmpdump -r > /run/utmp 2> /dev/null << 'END'
[2] [00000] [~~  ] [reboot  ] [~           ] [6.1.0-58-cloud-amd64] [0.0.0.0        ] [2026-11-22T08:00:00,000000+00:00]
[1] [00053] [~~  ] [runlevel] [~           ] [6.1.0-58-cloud-amd64] [0.0.0.0        ] [2026-11-22T08:00:10,000000+00:00]
[6] [00001] [tty1] [LOGIN   ] [tty1        ] [                    ] [0.0.0.0        ] [2026-11-22T08:00:11,000000+00:00]
[7] [00001] [ts/3] [alice   ] [pts/3       ] [laptop.example.org  ] [192.0.2.44     ] [2026-11-25T12:00:00,000000+00:00]
[8] [00700] [ts/0] [        ] [pts/0       ] [                    ] [0.0.0.0        ] [2026-11-24T00:02:01,000000+00:00]
END
ln -s /run /var/run 2> /dev/null || :
: > /var/log/lastlog
lastlog -S -u alice
lastlog -S -u root
# by hand: a login long ago, from a place whose name would be a line of its own (struct lastlog: time, 32 and 256 bytes)
{
    printf '\200\103\155\070pts/9'
    head -c 27 /dev/zero
    printf '198.51.100.7\nroot pts/0'
    head -c 233 /dev/zero
} > /run/record
dd if=/run/record of=/var/log/lastlog bs=292 seek=1001 conv=notrunc 2> /dev/null
rm /run/record

mkdir -p /run/systemd/sessions /run/systemd/users
cat > /run/systemd/sessions/7 << 'END'
# This is private data. Do not parse.
UID=1000
USER=alice
ACTIVE=1
IS_DISPLAY=0
STATE=active
REMOTE=1
LEADER_FD_SAVED=0
TYPE=tty
ORIGINAL_TYPE=tty
CLASS=user
SCOPE=session-7.scope
FIFO=/run/systemd/sessions/7.ref
TTY=pts/3
REMOTE_HOST=192.0.2.44
SERVICE=sshd
LEADER=1
AUDIT=7
REALTIME=1795608000250000
MONOTONIC=273600250000
END
