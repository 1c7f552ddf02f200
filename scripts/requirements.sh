# shellcheck shell=bash
# What scripts/test and scripts/demo need of a machine; sourced by both.

# need_node WHO: exits 4 where there is no Node.js that is new enough.
need_node() {
  local found
  found=$(node --version 2>/dev/null) && command -v npm >/dev/null || found=none
  if ! [[ $found =~ ^v([0-9]+)\.([0-9]+)\. ]] || ((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] < 20019)); then
    printf '%s needs Node.js 20.19 or newer with npm; found: %s\n' "$1" "$found" >&2
    exit 4
  fi
}

# install_missing WHO PROGRAM:PACKAGE…: installs the packages of the programs that are not there; Debian and Ubuntu.
install_missing() {
  local who=$1 missing=() pair
  shift
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    printf '%s needs: %s\nInstall them, as root on Debian or Ubuntu: apt-get install %s\n' "$who" "${missing[*]}" "${missing[*]}" >&2
    exit 4
  fi
  printf 'installing %s\n' "${missing[*]}" >&2
  # A package with a service (etcd-server) must not start it: the tests start their own.
  local policy=/usr/sbin/policy-rc.d added='' status=0
  [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && added=1; }
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null || status=$?
  [ -z "$added" ] || rm -f "$policy"
  return "$status"
}
