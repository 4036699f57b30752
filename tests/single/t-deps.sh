#!/usr/bin/env bash
# What finds missing packages must find one that dpkg has never heard of, under set -e too: so it is on a
# new machine, where csvlab is the first thing that is run.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/lib"
cp "$root/tests/lib/deps.sh" "$dir/lib/"
printf '%s\n' '# a comment' bash no-such-package-csvfs 'coreutils # another' >"$dir/deps"
missing=$(bash -euo pipefail -c ". '$dir/lib/deps.sh'; mapfile -t m < <(deps_missing); echo \"\${m[*]}\"")
[ "$missing" = no-such-package-csvfs ] || {
	echo "FAILED: '$missing' is missing"
	exit 1
}
