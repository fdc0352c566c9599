# shellcheck shell=bash
# Installing with apt-get, for the scripts that see to what tests and comparisons need. Whoever sources it has `say`.

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
# apt_install <package> [VARIABLE=value …], where there is an apt-get
apt_install() {
  local package=$1
  shift
  say "installing $package with apt-get"
  if [ "$apt_updated" = no ]; then
    as_root apt-get update -qq >&2 || say "apt-get update failed, going on with the lists that are there"
    apt_updated=yes
  fi
  # Without what is only recommended: nobody here needs any of it.
  as_root env DEBIAN_FRONTEND=noninteractive "$@" apt-get install -y -qq --no-install-recommends "$package" >&2
}
