#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that building and testing need: only those that are missing, and without touching the
# network when none is. More names may be given as arguments (.ci/run adds the fuzzing compiler).
set -eu

packages="build-essential cmake ninja-build pkg-config libncurses-dev libcjson-dev libzip-dev libcmocka-dev libpcre2-dev
	libutf8proc-dev libopenblas-dev libyaml-dev libssl-dev zlib1g-dev tmux python3 $*"

if ! command -v dpkg-query >/dev/null 2>&1; then
	echo "deps: not a Debian system; these packages (or what they hold) are needed:" $packages
	exit 0
fi

missing=
for p in $packages; do
	state=$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
	as_root=
elif command -v sudo >/dev/null 2>&1; then
	as_root="sudo"
else
	echo "deps: missing:$missing" >&2
	echo "deps: run this as root, or install sudo, or install them yourself: apt-get install$missing" >&2
	exit 1
fi

echo "deps: installing$missing"
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
