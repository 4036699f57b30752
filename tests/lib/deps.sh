# Install the packages of tests/deps that are missing. Sourced, not run.
#
#   deps_install      quick and silent when everything is there; 1 with a message if it cannot be
#
# A test machine must not find itself running a corosync or a tgtd because a package was
# installed for its program only, so while packages are installed no service may start.

deps_missing() {
	local list="${BASH_SOURCE[0]%/*}/../deps" name
	local -a want
	mapfile -t want < <(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$list")
	local have
	# It fails when it does not know one of them, which is what is asked here; csvlab runs with set -e.
	have=" $(dpkg-query -W -f='${db:Status-Status}:${Package} ' "${want[@]}" 2>/dev/null || true)"
	for name in "${want[@]}"; do
		case "$have" in
		*" installed:$name "*) ;;
		*) printf '%s\n' "$name" ;;
		esac
	done
}

deps_install() {
	if ! command -v dpkg-query >/dev/null; then
		echo "not a Debian system: install what tests/deps names by hand" >&2
		return 0
	fi
	local -a missing
	mapfile -t missing < <(deps_missing)
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ]; then
		echo "missing packages: ${missing[*]}" >&2
		echo "install them, or run this once as root" >&2
		return 1
	fi
	echo "installing packages: ${missing[*]}"
	local log ok=0
	log=$(mktemp)
	(
		policy=/usr/sbin/policy-rc.d
		if [ ! -e $policy ]; then
			trap 'rm -f $policy' EXIT
			trap 'exit 1' INT TERM HUP
			printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy
		fi
		export DEBIAN_FRONTEND=noninteractive
		apt=(apt-get -q -y -o DPkg::Lock::Timeout=600)
		"${apt[@]}" update || true # an old list may do; if not, what is missing is named below
		"${apt[@]}" install --no-install-recommends "${missing[@]}"
	) </dev/null >"$log" 2>&1 || ok=1
	if [ $ok != 0 ] || [ -n "$(deps_missing)" ]; then
		tail -n 30 "$log" >&2
		echo "could not install: $(deps_missing | tr '\n' ' ')" >&2
		ok=1
	fi
	rm -f "$log"
	return $ok
}
