#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Man pages are well formed, name the same problems as the program, and every option of the tools; and
# with the programs they are installed where mount(8) and man(1) look.
# usage: t-man.sh [BUILD]
set -eu
build=${1:-${CSVFS_BUILD:-build}}
src=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$build" && pwd)
bad=0

shopt -s nullglob
for page in "$src"/tools/man/*.[58] "$src"/csvfs/man/*.[58]; do
	if command -v groff >/dev/null; then
		warnings=$(groff -ww -man -Tutf8 "$page" 2>&1 >/dev/null)
		[ -z "$warnings" ] || { echo "$page: $warnings"; bad=1; }
	fi
	grep -q '^\.TH ' "$page" || { echo "$page: no title"; bad=1; }
done

inside=$(sed -n '/^\.\\" problems begin/,/^\.\\" problems end/p' "$src/tools/man/fsck.csvfs.8" | sed '1d;$d')
[ "$inside" = "$("$src/tools/man/problems.sh" "$src")" ] ||
	{ echo "fsck.csvfs.8: the problems are not those of problems.def: run tools/man/problems.sh"; bad=1; }

for tool in mkfs.csvfs fsck.csvfs csvdb; do
	for option in $("$build/$tool" -h | grep -oE '(^|[ ,[])--?[a-zA-Z-]+' | tr -d ' ,['); do
		sed 's/\\-/-/g' "$src/tools/man/$tool.8" | grep -qF -- "$option" ||
			{ echo "$tool.8: $option is not explained"; bad=1; }
	done
done

to=$(mktemp -d)
DESTDIR=$to cmake --install "$build" --prefix /usr >"$to/log" || { cat "$to/log"; bad=1; }
for name in csvfs mount.csvfs mkfs.csvfs fsck.csvfs csvctl csvdb; do
	"$to/usr/sbin/$name" -V >/dev/null || { echo "$name is not installed"; bad=1; }
	[ -s "$to/usr/share/man/man8/$name.8" ] || { echo "$name.8 is not installed"; bad=1; }
done
rm -rf "$to"
exit $bad
