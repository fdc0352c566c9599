# shellcheck shell=bash
# Installs packages with apt-get, for the setup scripts of tests and benchmarks. They must define `say`.

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    sudo "$@"
  else
    return 1
  fi
}

apt_updated=no
# apt_install <package> [VARIABLE=value …]. Needs apt-get.
apt_install() {
  local package=$1
  shift
  say "installing $package with apt-get"
  if [ "$apt_updated" = no ]; then
    as_root apt-get update -qq >&2 || say "apt-get update failed, continuing with the existing lists"
    apt_updated=yes
  fi
  # The recommended packages are not needed.
  as_root env DEBIAN_FRONTEND=noninteractive "$@" apt-get install -y -qq --no-install-recommends "$package" >&2
}
