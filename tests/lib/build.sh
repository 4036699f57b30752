# Build csvfs. Sourced, not run.
#
#   build_config CONFIG LOG     build/CONFIG is up to date on return; 1 if not, and LOG says why
#
#   default     what a user gets, with symbols
#   sanitize    the same under AddressSanitizer and UndefinedBehaviorSanitizer

build_config() {
	local config=$1 log=$2 root
	root=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
	local -a options=(-DCMAKE_BUILD_TYPE=RelWithDebInfo)
	case $config in
	default) ;;
	sanitize) options+=(-DCSVFS_SANITIZE=address,undefined) ;;
	*)
		echo "no build configuration '$config'" >"$log"
		return 1
		;;
	esac
	mkdir -p "$root/build/$config" || return 1
	(
		# Two labs started together must not build into one folder at once.
		flock 9
		cmake -S "$root" -B "$root/build/$config" "${options[@]}" 9>&- &&
			cmake --build "$root/build/$config" -j2 9>&-
	) 9>"$root/build/$config.lock" >"$log" 2>&1 </dev/null
}
