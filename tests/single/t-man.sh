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

# Options: what the program accepts, what its help lists and what its page explains are the same.
wrong() { echo "$*"; bad=1; }
words() { grep -oE '(^|[^a-zA-Z0-9-])--?[a-zA-Z][a-zA-Z-]*' | grep -oE -- '--?[a-zA-Z][a-zA-Z-]*' | sort -u; }
# An option of a page is in the line behind .TP.
explained() { sed 's/\\-/-/g; s/\\f[A-Z]//g' "$src/tools/man/$1.8" | awk '/^\.TP/ {getline; print}' | words; }
helped() { "$build/$1" -h | words; }
accepted() { # given alone they do nothing, for there is no volume
	local option
	for option in $(printf -- '-%s ' {a..z} {A..Z}) \
		$(grep -oE '\{"[a-z-]+", (no|required|optional)_argument' "$src/tools/$1.c" | sed 's/{"/--/; s/".*//'); do
		"$build/$1" "$option" </dev/null 2>&1 | grep -qE 'invalid option|unrecognized option' ||
			printf '%s\n' "$option"
	done | sort -u
}
for tool in mkfs.csvfs fsck.csvfs csvdb; do
	taken=$(accepted "$tool") page=$(explained "$tool") help=$(helped "$tool")
	[ -n "$taken" ] && [ -n "$page" ] && [ -n "$help" ] || wrong "$tool: no options are found"
	for option in $taken; do
		grep -qxe "$option" <<<"$page" || wrong "$tool.8: $option is accepted, but not explained"
		grep -qxe "$option" <<<"$help" || wrong "$tool -h: $option is accepted, but not listed"
	done
	for option in $page $help; do
		grep -qxe "$option" <<<"$taken" || wrong "$tool: $option is explained, but not accepted"
	done
done

# Mount options: those of the tables in csvfs/config.c.
page=$(sed 's/\\-/-/g; s/\\f[A-Z]//g' "$src/tools/man/csvfs.8")
table=$(grep -oE '\{"[a-z_]+", (("[a-z_]+"|NULL), )?&c->|strcmp\(name, "[a-z_]+"\)' "$src/csvfs/config.c" |
	sed -E 's/^[^"]*"([a-z_]+)".*/\1/' | sort -u)
[ "$(wc -w <<<"$table")" -gt 15 ] || wrong "csvfs/config.c: no options are found"
for option in $table; do
	grep -qE "^\.(BI|B|BR) .*\b$option(=|\$| )" <<<"$page" || wrong "csvfs.8: $option is not explained"
	"$build/csvfs/csvfs" -h | grep -qE "\b$option\b" || wrong "csvfs -h: $option is not listed"
done
for option in $(awk '/^\.TP/ {getline; print}' <<<"$page" | grep -oE '[a-z_]+=' | sort -u) \
	$("$build/csvfs/csvfs" -h | grep -oE '[a-z_]+=' | grep -vE '^(user|secret)=' | sort -u); do
	rc=0
	"$build/csvfs/csvfs" "$src/none" "$src" -o "$option" >/dev/null 2>"$build/t-man.out" || rc=$?
	! grep -q 'unknown option' "$build/t-man.out" || wrong "csvfs: $option is explained, but not accepted"
done
rm -f "$build/t-man.out"

# csvctl has commands.
for word in $("$build/csvctl" -h | grep -oE '^ *(usage: )?csvctl.*' | grep -oE '\b(state|move|pause|resume|redirect|grow|scrub|pki)\b|--[a-z]+|-[a-z]\b' | sort -u); do
	sed 's/\\-/-/g' "$src/tools/man/csvctl.8" | grep -qF -- "$word" || wrong "csvctl.8: $word is not explained"
done
for word in $(sed -n 's/.*"\(--[a-z]*\)".*/\1/p; s/.*argv\[i\], "\([a-z]*\)").*/\1/p' "$src/tools/csvctl.c" | sort -u); do
	case $word in --help | --version) continue ;; esac
	sed 's/\\-/-/g' "$src/tools/man/csvctl.8" | grep -qF -- "$word" || wrong "csvctl.8: $word is accepted, but not explained"
	"$build/csvctl" -h | grep -qF -- "$word" || wrong "csvctl -h: $word is accepted, but not listed"
done

to=$(mktemp -d)
DESTDIR=$to cmake --install "$build" --prefix /usr >"$to/log" || { cat "$to/log"; bad=1; }
for name in csvfs mount.csvfs umount.fuse.csvfs mkfs.csvfs fsck.csvfs csvctl csvdb; do
	"$to/usr/sbin/$name" -V >/dev/null || { echo "$name is not installed"; bad=1; }
	[ -s "$to/usr/share/man/man8/$name.8" ] || { echo "$name.8 is not installed"; bad=1; }
done
rm -rf "$to"
exit $bad
