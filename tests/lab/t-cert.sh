#!/usr/bin/env bash
# A node whose certificate is of another CA is not let in: its mount fails and says why, so does its peer's
# log; it harms nobody and leaves nothing. With a certificate of the cluster it works.
# timeout: 240
# beside: yes
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 2 --size 1G >/dev/null
PATH=$CSVFS_BUILD:$PATH
echo hello >"$(lab mnt n1)/a"
sync "$(lab mnt n1)/a"

lab stop n2
within 20 coordinator_is n1 n1 || fail "n1 does not coordinate"
dir=$CSVLAB_DIR
mv "$dir/n2/pki" "$dir/n2/pki.right"
csvctl pki init "$TMPDIR/other" --cluster "$(openssl x509 -in "$dir/pki/ca.crt" -noout -subject | sed 's/.*CN *= *//;s/ .*//')" >/dev/null
csvctl pki node "$TMPDIR/other" n2 "$dir/n2/pki" >/dev/null
before=$(wc -l <"$dir/n1/csvfs.log")

echo "# n2 comes with a certificate of another CA"
rc=0
timeout 40 "$LAB" start n2 >"$TMPDIR/start.out" 2>&1 || rc=$?
[ $rc != 124 ] || fail "the mount hangs"
[ $rc != 0 ] || fail "n2 was let in"
grep -q 'certificate.* is not signed by' "$TMPDIR/start.out" || {
	cat "$TMPDIR/start.out"
	fail "the mount does not say why it failed"
}
grep 'certificate' "$TMPDIR/start.out" | head -n 2 | sed 's/^/# /'
tail -n +$((before + 1)) "$dir/n1/csvfs.log" >"$TMPDIR/n1.said"
grep -hE 'not signed by' "$TMPDIR/n1.said" "$dir/n2/csvfs.log" >"$TMPDIR/said" || fail "no log says why"
sort -u -k4 "$TMPDIR/said" | head -n 4 | sed 's/^/# /'
[ "$(cat "$(lab mnt n1)/a")" = hello ] || fail "n1 does not work"
[ "$(state n1 .mode)" = direct ] || fail "n1 is $(state n1 .mode)"
[ "$(state n1 .coordinator)" = n1 ] || fail "n1 does not coordinate"

echo "# n2 comes with its right certificate"
rm -rf "$dir/n2/pki"
mv "$dir/n2/pki.right" "$dir/n2/pki"
lab start n2
within 20 mode_is n2 direct || fail "n2 is $(state n2 .mode)"
[ "$(cat "$(lab mnt n2)/a")" = hello ] || fail "n2 sees something else"
rm -rf "$TMPDIR/other"
unmount_and_check n1 n2
