# Sourced by the scripts: where Go is, where test inputs are cached, pinned versions.
# shellcheck shell=bash
command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin:/usr/lib/go/bin
command -v go >/dev/null || {
	echo "$0: go is missing: install Go 1.26 or newer (https://go.dev/doc/install)" >&2
	exit 1
}
export HOME=${HOME:-/root}
export PIE_TEST_CACHE=${PIE_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pie-test}
export STATICCHECK=v0.8.2
mkdir -p "$PIE_TEST_CACHE/bin" "$PIE_TEST_CACHE/log"

# quietly COMMAND...: its output goes to a log, shown when it ends badly.
quietly() {
	local log=$PIE_TEST_CACHE/log/${1##*/}
	if ! "$@" >"$log" 2>&1 </dev/null; then
		tail -n 20 "$log" >&2
		echo "$0: '$*' ended badly; the whole output is in $log" >&2
		return 1
	fi
}
