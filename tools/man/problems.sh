#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Prints the part PROBLEMS of fsck.csvfs.8 from metadata/problems.def.  usage: problems.sh SOURCE
# To bring the page up to date: put the output between the two marks in it.
set -eu
{
	echo '#define PROBLEM(code, name, severity, text) @ name @ severity @ text'
	cat "$1/metadata/problems.def"
} | "${CC:-cc}" -E -P -x c - | awk -F' @ |^@ ' '
	/^@/ {
		name = $2; text = $4
		gsub(/^ *"|" *$/, "", name); gsub(/^ *"|" *$/, "", text)
		gsub(/\\"/, "\\(dq", text); gsub(/"/, "", name); gsub(/-/, "\\-", name)
		gsub(/\\\\/, "\\", text)
		printf ".TP\n.B %s\n(%s) %s\n", name, tolower($3), text
	}'
