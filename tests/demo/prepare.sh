#!/bin/bash
# Prepares this machine for the tests and the demo; every step is skipped where nothing is to be done.
#   prepare.sh python    the virtual environment .venv with what requirements-dev.txt names
#   prepare.sh tools     compiler and package tools that the unit tests of the simulated library use
#   prepare.sh browser   a Chromium that the tests of the report's page look at it with
#   prepare.sh engine    a Docker Engine that answers: an existing one, else Debian's or Ubuntu's package
#   prepare.sh release   stops an engine that "engine" started by hand
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cache=${KUBEGPU_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kubegpu}

say() { echo "prepare: $*" >&2; }
fail() { echo "prepare: error: $*" >&2; exit 1; }

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
    may_install || fail "$* needed: install with your package manager, or run as root on Debian or Ubuntu"
    say "installing $*"
    local options=(-qq -o Acquire::Retries=5 -o Acquire::http::Timeout=20 -o DPkg::Lock::Timeout=300)
    apt-get "${options[@]}" update >/dev/null || say "apt-get update reported a problem; going on with what it has"
    DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get "${options[@]}" install -y --no-install-recommends "$@" >/dev/null
}

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

prepare_python() {
    local python stamp wanted
    python=$(find_python) || { apt_install python3 python3-venv; python=$(find_python) || fail "no Python >= 3.10"; }
    wanted=$(sha256sum "$root/requirements-dev.txt" | cut -d' ' -f1)
    stamp=$root/.venv/.requirements
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
        if ! "$python" -c 'import ensurepip' 2>/dev/null; then
            apt_install "$(basename "$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')")-venv"
        fi
        say "virtual environment .venv with Ansible, molecule and the test tools (a minute or two)"
        "$python" -m venv "$root/.venv"
        "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 5 \
            -r "$root/requirements-dev.txt"
        echo "$wanted" > "$stamp"
    fi
    # Ansible finds the checkout as a collection, and Python as a package, through this link.
    local collections=$root/.cache/collections/ansible_collections
    mkdir -p "$collections/kubegpu"
    touch "$collections/__init__.py" "$collections/kubegpu/__init__.py"
    ln -sfn ../../../.. "$collections/kubegpu/nvidia"
}

prepare_tools() {
    local missing=()
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    command -v make >/dev/null || missing+=(make)
    command -v apt-ftparchive >/dev/null || missing+=(apt-utils)
    command -v dpkg-deb >/dev/null || missing+=(dpkg)
    command -v gpg >/dev/null || missing+=(gnupg)
    if [ ${#missing[@]} -gt 0 ]; then
        if may_install; then apt_install "${missing[@]}"; else say "not installed, tests that need them are skipped: ${missing[*]}"; fi
    fi
}

prepare_browser() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" >/dev/null && return 0
    done
    # Ubuntu's package of that name is a snap, which cannot be driven from here.
    if may_install && ! grep -qi '^ID=ubuntu' /etc/os-release; then
        apt_install chromium || say "Chromium could not be installed, tests that need it are skipped"
    else
        say "no Chromium, tests that need it are skipped"
    fi
}

answers() { docker info >/dev/null 2>&1; }

wait_for_engine() {
    for _ in $(seq 60); do
        answers && return 0
        sleep 0.5
    done
    return 1
}

# dockerd that was killed leaves pid files; a number that another program has by now keeps a new one from starting.
forget_dead_engine() {
    local file pid
    for file in /var/run/docker.pid /var/run/docker/containerd/containerd.pid; do
        [ -f "$file" ] || continue
        pid=$(cat "$file")
        case $(cat "/proc/$pid/comm" 2>/dev/null) in
            dockerd | containerd) ;;
            *) rm -f "$file" ;;
        esac
    done
}

prepare_engine() {
    answers && return 0
    if command -v dockerd >/dev/null; then
        [ "$(id -u)" = 0 ] || fail "the Docker Engine does not answer: start it, or make it accessible to $(id -un)"
    else
        apt_install docker.io iptables
    fi
    answers && return 0
    if [ -d /run/systemd/system ]; then
        say "starting docker.service"
        systemctl start docker
    else
        say "no systemd here: starting dockerd by hand, log in $cache/dockerd.log"
        mkdir -p "$cache"
        forget_dead_engine
        setsid dockerd > "$cache/dockerd.log" 2>&1 < /dev/null &
        echo $! > "$cache/dockerd.pid"
    fi
    wait_for_engine || fail "the Docker Engine does not answer: $(tail -n 5 "$cache/dockerd.log" 2>/dev/null)"
}

release_engine() {
    local pid
    [ -f "$cache/dockerd.pid" ] || return 0
    pid=$(cat "$cache/dockerd.pid")
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]; then
        if [ -n "$(docker ps -q)" ]; then
            say "dockerd (pid $pid) still runs containers: left running"
            return 0
        fi
        say "stopping the dockerd that was started by hand (pid $pid)"
        kill "$pid"
    fi
    rm -f "$cache/dockerd.pid" "$cache/dockerd.log"
}

for step in "$@"; do
    case $step in
        python) prepare_python ;;
        tools) prepare_tools ;;
        browser) prepare_browser ;;
        engine) prepare_engine ;;
        release) release_engine ;;
        *) fail "unknown step $step" ;;
    esac
done
