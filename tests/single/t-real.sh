#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 600
# Real work on one machine: a source tree of thousands of files is unpacked and compared, git makes a
# repository of it and checks it, sqlite3 writes transactions; then it is all there after another mount,
# and fsck finds nothing.
# usage: t-real.sh [BUILD [FILES]]	(2000; 800 with sanitizers, which make each call slow: the same calls on fewer files)
. "${0%/*}/lib.sh"
files=${2:-2000}
[ -n "${2:-}" ] || [[ $build != */sanitize ]] || files=800
[ "${CSVFS_QUICK:-0}" = 0 ] || files=600
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
step() { # step TEXT: what has been done, and how long it took
	printf '%6.1f s  %s\n' "$(awk -v a="$since" -v b="$EPOCHREALTIME" 'BEGIN {print b - a}')" "$1"
	since=$EPOCHREALTIME
}
# What every machine that can build csvfs has: headers, documents, scripts; links, and some larger files.
since=$EPOCHREALTIME
find /usr/include /usr/share/doc /usr/share/perl* /usr/share/cmake* /usr/share/zoneinfo /usr/lib/git-core -xdev \
	\( -type l -o -type f -size -48k -perm -444 \) 2>/dev/null | head -n "$files" >list || true
find /usr/bin -xdev -type f -size +1000k -size -9000k -perm -444 | head -n 6 >>list
tar -cf tree.tar -T list 2>/dev/null || fail "cannot make the tree"
mkdir src
tar -xf tree.tar -C src
count=$(find src ! -type d | wc -l)
[ "$count" -ge $((files * 9 / 10)) ] || fail "only $count files on this machine to work with"
step "$count files, $(du -sm --apparent-size src | cut -f1) MiB: the tree to work with"

mkfs.csvfs -q -s 4G v.img
mount_it
mkdir mnt/w
tar -xf tree.tar -C mnt/w || fail "tar"
step "unpacked"
diff -r --no-dereference src mnt/w >out 2>&1 || fail "another tree: $(head out)"
attributes() { (cd "$1" && find . -mindepth 1 -printf '%P %y %m %U %G %l ' \( -type f -printf '%s %T@\n' -o -printf '\n' \)) | sort; }
attributes src >src.list
attributes mnt/w >w.list
diff src.list w.list >out || fail "other attributes: $(head out)"
step "compared, with modes, owners and times"

# git
git_() { git -C mnt/w -c user.name=t -c user.email=t@example.org -c core.autocrlf=false "$@" >out 2>&1 || fail "git $*: $(tail out)"; }
git_ init -q
git_ add -f .
step "git add"
git_ commit -q -m one
git_ fsck --full --strict
step "git commit, git fsck"
[ -z "$(git -C mnt/w status --porcelain)" ] || fail "git status: $(git -C mnt/w status --porcelain | head)"
(cd mnt/w && find . -path ./.git -prune -o -type f -size -4k -print | head -n 100) >some
while read -r f; do [ -w "mnt/w/$f" ] && echo "# changed" >>"mnt/w/$f"; done <some
git_ commit -q -a -m two
git_ repack -a -d -q
git_ clone -q . ../clone
git_ checkout -q -b old HEAD~1
diff -r --no-dereference -x .git src mnt/w >out 2>&1 || fail "git checkout: another tree: $(head out)"
git_ checkout -q -
git_ fsck --full
step "git: second commit, repack, clone, checkout, fsck"

# sqlite: transactions in each way it keeps its journal, one of them undone; two writers at once
sql() { sqlite3 -bail -cmd '.timeout 60000' "$@" >out 2>&1 || fail "sqlite3: $(cat out)"; }
sql mnt/db 'create table t(n integer primary key, text text); create index i on t(text);'
for mode in delete truncate persist memory; do
	for i in $(seq 10); do
		sql mnt/db "pragma journal_mode=$mode; begin;
			insert into t(text) select '$mode $i ' || hex(randomblob(200)) from generate_series(1, 50);
			update t set text = text || '+' where n % 7 = $i % 7; commit;
			begin; delete from t; rollback;"
	done
done
for w in 1 2; do
	(for i in $(seq 20); do
		sqlite3 -bail -cmd '.timeout 60000' mnt/db "insert into t(text) values ('writer $w $i');" || exit 1
	done) &
done
wait -n && wait -n || fail "one of two writers at once failed"
[ "$(sqlite3 mnt/db 'pragma integrity_check')" = ok ] || fail "integrity_check: $(sqlite3 mnt/db 'pragma integrity_check')"
rows=$(sqlite3 mnt/db 'select count(*) from t')
[ "$rows" = 2040 ] || fail "$rows rows, not 2040"
sum=$(sqlite3 mnt/db 'select n, text from t order by n' | sha256sum)
step "sqlite3: 121 transactions, $rows rows, integrity_check ok"

unmount
clean "after the first mount"
step "unmounted, fsck clean"

# all of it is on the disk
mount_it
[ "$(sqlite3 mnt/db 'pragma integrity_check')" = ok ] || fail "integrity_check after another mount"
[ "$(sqlite3 mnt/db 'select n, text from t order by n' | sha256sum)" = "$sum" ] || fail "other rows after another mount"
git_ fsck --full
git_ checkout -q old
diff -r --no-dereference -x .git src mnt/w >out 2>&1 || fail "another tree after another mount: $(head out)"
step "mounted again: the same"
rm -rf mnt/w mnt/clone
[ "$(find mnt -mindepth 1 -maxdepth 1 -printf '%f ')" = "db " ] || fail "left: $(ls -la mnt)"
unmount
clean "after all was removed"
step "all removed, fsck clean"
echo ok
