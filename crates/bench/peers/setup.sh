#!/usr/bin/env bash
# Installs the peers that Crewcast is compared with: a Python environment, Node packages, nginx with nchan, and NATS.
# Uses target/bench/peers and the packages of the system. Prints which peers are ready and, for the others, what to
# install; the comparison skips those. Usage: setup.sh [folder]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."

# Debian installs servers here, outside the PATH of users.
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
  # Install the package without starting its server.
  apt_install "$1" RUNLEVEL=1
}

# need <peer> <test> <apt package>
need() {
  "$2" && return
  install "$3" || true
  "$2" && return
  say "$1 is skipped: the package $3 is missing. On Debian or Ubuntu, run: sudo apt-get install $3"
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
  # Debian has the files that the module venv needs in a package of their own.
  python3 -m venv "$venv" >/dev/null 2>&1 || { install python3-venv && python3 -m venv "$venv"; }
}

fastapi() {
  need fastapi has_python python3 || return
  local requirements=$here/fastapi/requirements.txt
  if ! cmp -s "$requirements" "$venv/installed.txt"; then
    say "installing FastAPI and uvicorn into $venv"
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check)
    if ! { make_venv && "${pip[@]}" install --quiet -r "$requirements" >&2; }; then
      say "fastapi is skipped: its installation failed. To see why, run:"
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
    # Only bufferutil has a script, and its package already contains the result.
    if ! (cd "$folder" && npm ci --no-progress --no-audit --no-fund --ignore-scripts >&2); then
      say "socketio is skipped: its installation failed. To see why, run: cd $folder && npm ci"
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
