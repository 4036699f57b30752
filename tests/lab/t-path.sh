#!/usr/bin/env bash
# Paths: a coordinator that loses its own hands over to a node that has one; if nobody has one,
# everybody holds, and goes on when they are back. No application sees an error (invariant 12).
# timeout: 180
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 3 --size 1G >/dev/null
for n in n1 n2 n3; do probe $n data && probe $n meta; done

hit=$(state n1 .coordinator)
echo "# $hit, the coordinator, loses its path"
lab san "$hit" drop
for n in n1 n2 n3; do
	within 20 coordinator_is_other $n "$hit" || fail "$n follows $(state $n .coordinator)"
done
within 20 mode_is "$hit" '*redirected' || fail "$hit is $(state "$hit" .mode)"
for n in n1 n2 n3; do goes_on $n; done
for n in n1 n2 n3; do
	[ "$(longest $n meta)" -lt 10000 ] || fail "$n: metadata waited $(longest $n meta) ms"
done

echo "# nobody has a path"
for n in n1 n2 n3; do lab san $n drop; done
sleep 10
for n in n1 n2 n3; do
	! moves $n data 1 || fail "$n reads and writes without any path"
done

echo "# the paths are back"
for n in n1 n2 n3; do lab san $n up; done
for n in n1 n2 n3; do
	goes_on $n 40
done
echo "# again and again: while nobody else has a path, one that comes back is used at once, and the outage is not held against it"
for _ in 1 2 3; do
	for n in n1 n2 n3; do lab san $n reject; done
	sleep 2
	for n in n1 n2 n3; do lab san $n up; done
	for n in n1 n2 n3; do goes_on $n 10; done
done
for n in n1 n2 n3; do within 10 mode_is $n direct || fail "$n is $(state $n .mode)"; done

# Of this node alone: "lab state" asks all of them, and waits 5 s for one that hangs.
asked() { lab exec "$1" -- csvctl -s "$CSVLAB_DIR/$1/csvfs.sock" state --json 2>/dev/null | jq -r "$2"; }
is_redirected() { [[ $(asked "$1" .mode) == *redirected ]]; }
came_back() { [[ $(asked "$1" '.mode + " " + .path') =~ ^direct|settle$ ]]; }
settles() { [ "$(asked "$1" .path)" = settle ]; }
all_settle() {
	local n
	for n in $others; do settles $n || return 1; done
}
follows_other() { [[ $(asked "$1" .coordinator) == n* && $(asked "$1" .coordinator) != "$2" ]]; }

hit=$(state n1 .coordinator)
others=$(echo n1 n2 n3 | tr ' ' '\n' | grep -vx "$hit")
echo "# the paths of all but $hit, the coordinator, come and go; it hangs while they wait before they use theirs again"
for _ in {1..6}; do
	for n in $others; do lab san $n reject; done
	for n in $others; do within 20 is_redirected $n || fail "$n is $(asked $n .mode)"; done
	for n in $others; do lab san $n up; done
	for n in $others; do within 20 came_back $n || fail "$n is $(asked $n .mode), its path $(asked $n .path)"; done
	all_settle || continue
	sleep 6 # the first time they wait for 5 s, the next time for 30 s
	if all_settle; then break; fi
done
all_settle || fail "they do not wait"
lab kill "$hit" STOP
for n in $others; do
	within 12 follows_other $n "$hit" || fail "$n follows $(asked $n .coordinator), its path $(asked $n .path)"
done
for n in $others; do goes_on $n; done
lab kill "$hit" CONT
for n in n1 n2 n3; do goes_on $n 20; done
for n in n1 n2 n3; do probe_ended $n data && probe_ended $n meta; done
unmount_and_check n1 n2 n3
