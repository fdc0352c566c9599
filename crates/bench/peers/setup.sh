#!/usr/bin/env bash
# Sees to what the peers need that Crewcast is compared with: a Python environment, Node packages, nginx with nchan, NATS.
# Installs what is missing into target/bench/peers and with the system's packages, or says what to install. Prints which
# peers are there; the others are skipped by the comparison. Usage: setup.sh [folder]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."

# Where Debian puts servers; the PATH of users leaves it out.
PATH=$PATH:/usr/sbin

peers=${1:-target/bench/peers}
venv=$peers/venv
ready=()

say() { printf 'peers: %s\n' "$*" >&2; }

# shellcheck source=tests/apt.sh
. tests/apt.sh

# install <apt package>
install() {
  command -v apt-get >/dev/null || return 1
  # Without starting what is only to be measured.
  apt_install "$1" RUNLEVEL=1
}

# need <peer> <test> <apt package>
need() {
  "$2" && return
  install "$3" || true
  "$2" && return
  say "$1 is skipped: it needs the package $3. Debian, Ubuntu: sudo apt-get install $3"
  return 1
}

has_python() { command -v python3 >/dev/null; }
has_node() { command -v node >/dev/null && command -v npm >/dev/null; }
has_nginx() { command -v nginx >/dev/null; }
has_nats() { command -v nats-server >/dev/null; }
has_nchan() {
  for place in /usr/lib/nginx/modules /usr/lib64/nginx/modules /usr/share/nginx/modules /usr/local/lib/nginx; do
    [ -e "$place/ngx_nchan_module.so" ] && return
  done
  return 1
}

make_venv() {
  rm -rf "$venv"
  # Debian has the module venv without what it needs, in a package of its own.
  python3 -m venv "$venv" >/dev/null 2>&1 || { install python3-venv && python3 -m venv "$venv"; }
}

fastapi() {
  need fastapi has_python python3 || return
  local requirements=$here/fastapi/requirements.txt
  if ! cmp -s "$requirements" "$venv/installed.txt"; then
    say "installing FastAPI and uvicorn into $venv"
    if ! { make_venv && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2; }; then
      say "fastapi is skipped. Please see why this fails:"
      say "  python3 -m venv $venv && $venv/bin/python -m pip install -r $requirements"
      return
    fi
    cp "$requirements" "$venv/installed.txt"
  fi
  ready+=(fastapi)
}

socketio() {
  need socketio has_node npm || return
  local lock=$here/socketio/package-lock.json folder=$peers/socketio
  if ! cmp -s "$lock" "$folder/node_modules/installed.json"; then
    say "installing Socket.IO into $folder"
    mkdir -p "$folder"
    cp "$here/socketio/package.json" "$lock" "$folder"
    # Without scripts: bufferutil, the only one with any, brings what it would build.
    if ! (cd "$folder" && npm ci --no-progress --no-audit --no-fund --ignore-scripts >&2); then
      say "socketio is skipped. Please see why this fails: cd $folder && npm ci"
      return
    fi
    cp "$lock" "$folder/node_modules/installed.json"
  fi
  ready+=(socketio)
}

nchan() {
  need nchan has_nginx nginx || return
  need nchan has_nchan libnginx-mod-nchan || return
  ready+=(nchan)
}

nats() {
  need nats has_nats nats-server || return
  ready+=(nats)
}

mkdir -p "$peers"
fastapi || true
socketio || true
nchan || true
nats || true
echo "${ready[*]}"
