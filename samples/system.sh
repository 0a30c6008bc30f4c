#!/bin/sh
# What making samples and a virtual environment needs of the system: installed if root, named if not.
need=""
command -v qemu-system-x86_64 >/dev/null 2>&1 || need="$need qemu-system-x86"
python3 -c 'import ensurepip, venv' 2>/dev/null || need="$need python3-venv"
command -v ps >/dev/null 2>&1 || need="$need procps" # tests compare with it
if [ -c /dev/fuse ] && ! command -v fusermount3 >/dev/null 2>&1; then need="$need fuse3"; fi # `hb mount` serves by it
[ -z "$need" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: please install:$need" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "setup: these packages are missing and only root may install them; run:" >&2
    echo "    sudo apt-get install --no-install-recommends$need" >&2
    exit 1
fi
echo "installing$need"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! apt-get install -qq -y --no-install-recommends $need >"$log" 2>&1; then
    if ! { apt-get update -qq && apt-get install -qq -y --no-install-recommends $need; } >"$log" 2>&1; then
        echo "setup: apt-get could not install$need:" >&2
        grep '^E:' "$log" >&2
        exit 1
    fi
fi
