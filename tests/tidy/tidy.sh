#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Rules of the tree that a compiler does not check.  usage: tidy.sh SOURCE BUILD [check...]
#
#   purity     the core needs nothing but the symbols in allowed-symbols.txt
#   state      the core has no variable that can change
#   includes   who may include whom; each library in one file
#   names      what a file exports starts with its module's prefix (exceptions: names.txt)
#   length     functions up to 70 lines, files up to 1000 (exceptions: long.txt, which only shrinks)
#   words      nothing that has no place in the project
set -u
src=$1 build=$2
shift 2
cd "$src" || exit 2
here=tests/tidy
bad=0
complain() { echo "tidy: $*"; bad=1; }

sources() { git ls-files -co --exclude-standard -- "$@" 2>/dev/null || find "$@" -type f; }

check_purity() {
	local lib=$build/libcsvcore.a
	[ -f "$lib" ] || { complain "no $lib: build first"; return; }
	local extra
	extra=$(comm -23 <(nm -u "$lib" 2>/dev/null | awk '$1=="U"{print $2}' | sort -u) \
		<( (nm --defined-only "$lib" 2>/dev/null | awk 'NF==3{print $3}'; \
		    grep -v '^#' $here/allowed-symbols.txt) | sort -u))
	# what a sanitizer or coverage build adds is not the source's
	extra=$(grep -vE '^(__asan|__ubsan|__tsan|__gcov|__sanitizer|_GLOBAL_OFFSET|__llvm)' <<<"$extra" | grep .)
	[ -z "$extra" ] || complain "the core needs: $(tr '\n' ' ' <<<"$extra")"
}

check_state() {
	local vars
	# .data.rel.ro: constant, but for the addresses in it that the loader fills in
	vars=$(objdump -t "$build/libcsvcore.a" 2>/dev/null |
		awk 'NF >= 5 && $(NF-2) ~ /^(\.data|\.bss|\.tdata|\.tbss|\*COM\*)/ && $(NF-2) !~ /^\.data\.rel\.ro/ {print $NF}' |
		grep -vE '^(__|_GLOBAL|llvm|\.|sse42)' | grep .)
	[ -z "$vars" ] || complain "variables in the core: $(tr '\n' ' ' <<<"$vars")"
}

# only_in PATTERN FILE...: no other shipped file includes it
only_in() {
	local pattern=$1 f allowed
	shift
	for f in $(grep -lE "^#include <$pattern" $(sources csvfs coordinator redirect metadata tools | grep '\.[ch]$')); do
		allowed=0
		for a in "$@"; do [ "$f" = "$a" ] && allowed=1; done
		[ $allowed = 1 ] || complain "$f includes <$pattern...>; only $* may"
	done
}

check_includes() {
	local a b hit
	for a in metadata coordinator redirect; do
		for b in metadata coordinator redirect csvfs; do
			[ $a = $b ] && continue
			hit=$(grep -nE "^#include \"$b/" $(sources $a | grep '\.[ch]$') | grep -vE '"csvfs/(base/|dbuf\.h)')
			[ -z "$hit" ] || complain "$a/ includes $b/: $hit"
		done
	done
	hit=$(grep -nE '^#include "' $(sources csvfs/base) | grep -v '"csvfs/base/')
	[ -z "$hit" ] || complain "csvfs/base includes outside itself: $hit"
	only_in corosync/ coordinator/cpg.c
	only_in iscsi/ csvfs/iscsi.c csvfs/iscsi_int.h csvfs/iscsi_login.c csvfs/iscsi_reinst.c csvfs/iscsi_sent.c csvfs/iscsi_status.c csvfs/iscsi_tas.c
	only_in openssl/ redirect/tls_conn.c redirect/tls_cert.c redirect/tls_cert.h redirect/pki.c
	only_in 'fuse' csvfs/fuse_ops.c csvfs/fuse_answer.c csvfs/datapath.c csvfs/fuse_mount.c csvfs/fuse_gone.c csvfs/fuse_kill.c csvfs/fuse_lock.c csvfs/fuse_more.c
	only_in blkid/ tools/mkfs.csvfs.c tools/probe.c
}

check_names() {
	local o f stem sym
	local tmp
	tmp=$(mktemp -d)
	(cd "$tmp" && ar x "$build/libcsvcore.a")
	for o in "$tmp"/*.o; do
		f=$(basename "$o" .c.o)
		for sym in $(nm --defined-only "$o" | awk '$2=="T"{print $3}'); do
			stem=${sym%%_*}
			case $sym in "$f"_*|"$f") continue ;; esac
			grep -qxE "$f $stem" $here/names.txt || complain "$f.c exports $sym (prefix ${f}_ or a line in names.txt)"
		done
	done
	rm -rf "$tmp"
}

check_length() {
	local f now
	now=$(for f in $(sources csvfs coordinator redirect metadata tools tests | grep '\.[ch]$'); do
		awk -v f="$f" '
			/^[A-Za-z_].*\(/ && !/;$/ { name = $0; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name) }
			/^\{/ { start = NR }
			/^\}/ { if (start && NR - start - 1 > 70) printf "function %s %s\n", f, name; start = 0 }
			END { if (NR > 1000) printf "file %s\n", f }' "$f"
	done | sort)
	local extra
	extra=$(comm -23 <(echo "$now" | grep .) <(grep -v '^#' $here/long.txt | sort))
	[ -z "$extra" ] || complain "longer than 70 lines (files: 1000): $extra"
	extra=$(comm -13 <(echo "$now" | grep .) <(grep -v '^#' $here/long.txt | grep . | sort))
	[ -z "$extra" ] || complain "no longer too long, take it out of $here/long.txt: $extra"
}

check_words() {
	local hit
	hit=$(grep -rnIE '/work/|TODO|FIXME|XXX|\bmaster\b' $(sources csvfs coordinator redirect metadata tools README.md CMakeLists.txt | grep -vE '\.(png|bin)$') 2>/dev/null)
	[ -z "$hit" ] || complain "words: $hit"
}

for c in "${@:-all}"; do
	if [ "$c" = all ]; then
		for x in purity state includes names length words; do "check_$x"; done
	else
		"check_$c"
	fi
done
exit $bad
