#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What FORMAT.md says of fields, and what the program knows of them, are the same places and sizes; and
# no field is left out.
# usage: t-format.sh [BUILD]
set -eu
build=$(cd "${1:-${CSVFS_BUILD:-build}}" && pwd)
cd "$(dirname "$0")/../.."

"$build/csvdb" --fields | awk -v format=metadata/FORMAT.md '
	# fields of the program: type name offset bytes count
	{ key = $1 " " $2; offset[key] = $3; bytes[key] = $4; count[key] = $5; types[$1] = 1 }
	END {
		while ((getline line < format) > 0) {
			if (match(line, /^<!-- fields of .* -->$/)) {
				n = split(line, w, " ")
				type = w[4]; base = n > 5 ? w[5] : 0; prefix = n > 6 ? w[6] : ""
				if (!(type in types)) fail("no such type: " type)
				next_row = 1
				continue
			}
			if (line ~ /^#/) type = ""
			if (type == "" || line !~ /^\| [0-9]+ \|/) continue
			split(line, col, / *\| */)
			at = base + col[2]; names = col[4]; size = col[3] + 0; sum = 0
			n = split(names, name, /, /)
			for (i = 1; i <= n; i++) {
				key = type " " prefix name[i]
				if (name[i] ~ /^(reserved|area|slot|image|entry)$/) { sum = size; continue }
				if (!(key in offset)) { fail("unknown: " key); continue }
				if (offset[key] != at + sum) fail(key " is at " offset[key] ", not at " at + sum)
				sum += count[key] > 1 && bytes[key] == 1 && size > 1 ? size : bytes[key]
				seen[key] = 1
			}
			if (sum != size) fail(names " of " type ": " sum " bytes, not " size)
		}
		for (key in offset) {
			split(key, w, " ")
			if (key in seen || w[1] == "value-block" || w[2] ~ /^(slot\.|image\.|e\.)/) continue
			# the common head is described once
			if (("superblock " w[2]) in seen && w[2] ~ /^(magic|crc|uuid|blkno|owner|lsn|epoch)$/) continue
			fail("not described: " key)
		}
		exit bad
	}
	function fail(text) { print "FORMAT.md: " text; bad = 1 }'
