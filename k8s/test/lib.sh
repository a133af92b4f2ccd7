# What the scripts of this folder share: namespaces of their own, and an end that leaves nothing behind.
# To be read by bash, after `set -euo pipefail`.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export KUBECONFIG=/dev/null

# What is the script's own. One that must reach a mirror leaves out the network.
namespaces=(--net --mount --pid)

# Runs this script again in namespaces of its own, unless it is there already. When its first process ends,
# however it ends, the kernel ends all others; networks and mounts go with the last of them.
enter_namespaces() {
    [ -z "${STEADING_INSIDE:-}" ] || return 0
    [ "$(id -u)" = 0 ] || { echo "please run it as root: it makes networks and containers" >&2; exit 1; }
    work=$(mktemp -d /var/tmp/steading-test.XXXXXX)
    export STEADING_INSIDE=$work
    remember_sysctls >"$work/sysctls"
    local code=0
    unshare "${namespaces[@]}" --fork --kill-child --mount-proc -- "$PWD/$(basename "$0")" "$@" || code=$?
    restore_sysctls <"$work/sysctls"
    remove_cgroups "$(basename "$work")"
    if [ "$code" = 0 ] && [ -z "${KEEP:-}" ]; then
        rm -rf "$work"
    else
        echo "exit code $code; what was logged is in $work/log" >&2
    fi
    exit "$code"
}

# Inside: a loopback, and a /run and /var/run of our own, so that nothing meets what runs outside.
prepare_namespaces() {
    work=$STEADING_INSIDE
    mkdir -p "$work/log"
    mount -t tmpfs -o mode=755 tmpfs /run
    ip link set lo up
}

# Kubelet and dockerd set some of the whole machine.
sysctls=(vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes)

remember_sysctls() {
    local name
    for name in "${sysctls[@]}"; do
        [ ! -r "/proc/sys/$name" ] || echo "$name $(cat "/proc/sys/$name")"
    done
}

restore_sysctls() {
    local name value
    while read -r name value; do
        [ "$(cat "/proc/sys/$name")" = "$value" ] || echo "$value" >"/proc/sys/$name"
    done
}

# Control groups outlive the processes in them.
remove_cgroups() {
    local folder
    find /sys/fs/cgroup -mindepth 2 -maxdepth 3 -type d -name "$1" 2>/dev/null | while read -r folder; do
        find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}

# Starts a program in the background, with its output in a file. Its number is in `pid_of[NAME]`.
declare -A pid_of
start() {
    local name=$1
    shift
    "$@" >"$work/log/$name" 2>&1 &
    pid_of[$name]=$!
}

# Waits until a command succeeds; so many seconds at most.
wait_for() {
    local goal=$1 seconds=$2 end
    shift 2
    end=$((SECONDS + seconds))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { echo "never reached: $goal" >&2; return 1; }
        sleep 0.1
    done
}

now_ms() { date +%s%3N; }

say() { printf '%-58s %s\n' "$1" "${2:-ok}"; }

# The programs that go into images: those of a profile of cargo.
profile=${PROFILE:-debug}
programs=${PROGRAMS:-$root/target/$profile}
