#!/bin/sh
# The commands of /srv/in-container, run in the namespaces of the workload's container. The output is "==== COMMAND" and what the
# command printed, for each of them.
if [ "$1" != inside ]; then
	pid=$(pgrep -f '^sleep 60000$')
	exec nsenter --target "$pid" --mount --uts --ipc --net --pid "$0" inside
fi
set -f
while read -r line; do
	printf '==== %s\n' "$line"
	$line 2>/dev/null </dev/null
done </srv/in-container
