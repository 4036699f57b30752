# csvlab: the networks of a lab.
#
# In the hub stand two bridges, cl0 and san0, and one port for each node on each: nK-cl, nK-san.
# In the node they are called cl0 (10.77.0.K) and san0 (10.78.0.K).  tgtd is 10.78.0.254.
#
# How a way is cut (measured on this kernel):
#   drop    by a rule on the bridge, in the middle of the way: IP goes nowhere, in both directions,
#           and nobody is told. ARP passes, so that no error comes from that side either: the
#           hardest case. (A drop in the node's own output chain would answer sendmsg with EPERM.)
#   reject  by rules in the node, since the bridge's family has no reject here: each packet to
#           port 3260 is answered by a reset, and each one from it sends a reset to the target.

lab_id() {
	printf '%s' "$DIR" | sha256sum | cut -c1-8
}

cluster_ip() { echo "10.77.0.${1#n}"; }
san_ip() { echo "10.78.0.${1#n}"; }
SAN_TARGET_IP=10.78.0.254

in_hub() { nsenter --net="$DIR/ns/hub" -- "$@"; }

ns_make() {
	: >"$DIR/ns/$1"
	# IPv6 would only add neighbours' chatter to the bytes that are measured.
	unshare --net="$DIR/ns/$1" sh -c '
		ip link set lo up
		echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
		echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6' 2>/dev/null ||
		die "cannot make a network namespace"
}

ns_remove() {
	lazy_umount "$DIR/ns/$1"
	rm -f "$DIR/ns/$1"
}

net_up() {
	mkdir -p "$DIR/ns"
	ns_make hub
	ns_make san
	in_hub ip -batch - <<-BATCH
		link add cl0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
		link add san0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
		link set cl0 up
		link set san0 up
		link add san-san type veth peer name san0 netns $DIR/ns/san
		link set san-san master san0 up
	BATCH
	if [ -n "${LIO:-}" ]; then
		# The address is the guest's.
		nsenter --net="$DIR/ns/san" -- ip -batch - <<-BATCH
			tuntap add dev tap0 mode tap
			link add guest type bridge stp_state 0 forward_delay 0 mcast_snooping 0
			link set san0 master guest up
			link set tap0 master guest up
			link set guest up
		BATCH
	else
		nsenter --net="$DIR/ns/san" -- ip -batch - <<-BATCH
			addr add $SAN_TARGET_IP/24 dev san0
			link set san0 up
		BATCH
	fi
	local node
	for node in $(all_nodes); do
		mkdir -p "$DIR/$node"
		net_attach "$node"
	done
}

# Give a node its namespace and its two links, nothing cut. The addresses of the cards stay the
# same over a crash, as a machine's do.
net_attach() {
	local node=$1 card
	card=$(printf '%02x' "${node#n}")
	ns_make "$node"
	in_hub ip -batch - <<-BATCH
		link add $node-cl type veth peer name cl0 address 02:77:00:00:00:$card netns $DIR/ns/$node
		link add $node-san type veth peer name san0 address 02:78:00:00:00:$card netns $DIR/ns/$node
		link set $node-cl master cl0 up
		link set $node-san master san0 up
	BATCH
	nsenter --net="$DIR/ns/$node" -- ip -batch - <<-BATCH
		addr add $(cluster_ip "$node")/24 dev cl0
		addr add $(san_ip "$node")/24 dev san0
		link set cl0 up
		link set san0 up
	BATCH
	echo up >"$DIR/$node/cut.san"
	echo up >"$DIR/$node/cut.net"
	hub_rules
}

net_unplug() {
	in_hub ip -batch - <<-BATCH
		link set $1-cl down
		link set $1-san down
	BATCH
}

net_detach() {
	in_hub ip -batch - <<-BATCH
		link del $1-cl
		link del $1-san
	BATCH
	ns_remove "$1"
}

# net_cut NODE san|net HOW: the cuts are files, and the rules are made from them as a whole in one
# transaction, so that a cut is repeatable and never half there.
net_cut() {
	local node=$1 which=$2 how=$3
	[ ! -e "$DIR/$node/off" ] || die "$node is off"
	echo "$how" >"$DIR/$node/cut.$which"
	hub_rules
	[ "$which" = san ] || return 0
	{
		# "add" before "delete", for a table that is not there yet.
		echo "add table inet csvlab"
		echo "delete table inet csvlab"
		if [ "$how" = reject ]; then
			cat <<-NFT
				table inet csvlab {
					chain out {
						type filter hook output priority 0;
						oifname san0 tcp flags rst accept
						oifname san0 tcp dport 3260 reject with tcp reset
					}
					chain in {
						type filter hook input priority 0;
						iifname san0 tcp flags rst accept
						iifname san0 tcp sport 3260 reject with tcp reset
					}
				}
			NFT
		fi
	} | nsenter --net="$DIR/ns/$node" -- nft -f -
}

hub_rules() {
	local node
	{
		echo "add table bridge csvlab"
		echo "delete table bridge csvlab"
		echo "table bridge csvlab { chain cuts { type filter hook forward priority 0;"
		for node in $(all_nodes); do
			if [ "$(cat "$DIR/$node/cut.net" 2>/dev/null)" = drop ]; then
				echo "iifname $node-cl ether type != arp counter drop"
				echo "oifname $node-cl ether type != arp counter drop"
			fi
			if [ "$(cat "$DIR/$node/cut.san" 2>/dev/null)" = drop ]; then
				echo "iifname $node-san ether type != arp counter drop"
				echo "oifname $node-san ether type != arp counter drop"
			fi
		done
		echo "}"
		echo "}"
	} | in_hub nft -f -
}

net_dropped() { # of a port of the hub, both ways
	in_hub nft list chain bridge csvlab cuts | awk -v port="\"$1\"" '
		$2 == port {for (i = 3; i < NF; i++) if ($i == "packets") n += $(i + 1)}
		END {print n + 0}'
}
