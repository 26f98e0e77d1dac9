#!/usr/bin/env bash
# Fetches and builds what bench/fingerprints measures, into $PIE_TEST_CACHE/fingerprints:
#
#   patch/NAME/1 2 …   one library as several security releases of Debian 12 have it
#   source/NAME/BUILD  one source built by gcc 12, gcc 11 and clang 14 at several levels
#
# Only Debian's packages are used, and the sources that test/e2e/servers.sh unpacks.
# The compilers are unpacked, not installed. Nothing is built twice.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/environment.sh
corpus=$PIE_TEST_CACHE/fingerprints
tools=$corpus/tools
mkdir -p "$corpus/debs" "$tools"
export APT_CONFIG=$PIE_TEST_CACHE/apt/apt.conf # test/e2e/servers.sh makes it
[ -e "$APT_CONFIG" ] || test/e2e/servers.sh redis nginx

# unpack PACKAGE=VERSION FOLDER
unpack() {
	[ ! -e "$2" ] || return 0
	rm -rf "$corpus/debs/one" && mkdir -p "$corpus/debs/one"
	(cd "$corpus/debs/one" && quietly apt-get download "$1")
	mkdir -p "$2.part" && quietly dpkg -x "$corpus"/debs/one/*.deb "$2.part" && mv "$2.part" "$2"
}

# patch NAME PACKAGE FILE: every version apt offers, oldest first.
patch() {
	local n=0 version
	for version in $(apt-cache madison "$2" | awk '/Packages/ {print $3}' | sort -uV); do
		n=$((n + 1))
		[ ! -e "$corpus/patch/$1/$n" ] || continue
		unpack "$2=$version" "$corpus/debs/$2-$version"
		mkdir -p "$corpus/patch/$1"
		find "$corpus/debs/$2-$version" -type f -name "$3" -exec cp {} "$corpus/patch/$1/$n" \;
		rm -rf "${corpus:?}/debs/$2-$version"
	done
}

compilers() {
	local p
	for p in gcc-11 cpp-11 libgcc-11-dev clang-14 libclang-cpp14 libllvm14 libclang-common-14-dev libz3-4 libedit2 libbsd0 libxml2 libicu72 libgomp1; do
		unpack "$p" "$corpus/debs/$p"
		cp -a "$corpus/debs/$p/." "$tools/"
	done
}

# compile NAME LEVEL BUILD CC...: builds one source into $corpus/source/NAME/BUILD.
compile() {
	local name=$1 level=$2 out=$corpus/source/$1/$3
	shift 3
	[ ! -e "$out" ] || return 0
	mkdir -p "$corpus/source/$name"
	"build_$name" "$level" "$out.part" "$@" && mv "$out.part" "$out"
}

build_lua() {
	local level=$1 out=$2 redis=$PIE_TEST_CACHE/work/redis
	shift 2
	(cd "$redis/deps/lua/src" && quietly "$@" "-$level" -g -w -I. -I"$redis/src" -o "$out" $(ls ./*.c | grep -v -e luac.c -e print.c) -lm)
}

build_redis() {
	local level=$1 out=$2 tree=$corpus/build/redis
	shift 2
	mkdir -p "$corpus/build"
	[ -e "$tree" ] || cp -r "$PIE_TEST_CACHE/work/redis" "$tree"
	(cd "$tree/src" && quietly make clean && quietly make -j2 MALLOC=libc BUILD_TLS=no OPTIMIZATION="-$level" CC="$*" redis-server && cp redis-server "$out")
}

build_nginx() {
	local level=$1 out=$2 tree=$corpus/build/nginx
	shift 2
	mkdir -p "$corpus/build"
	[ -e "$tree" ] || cp -r "$PIE_TEST_CACHE/work/nginx" "$tree"
	(cd "$tree" && quietly ./configure --with-http_mp4_module --with-threads --with-cc="$*" --with-cc-opt="-g -$level -w" && quietly make -j2 && cp objs/nginx "$out")
}

patch xml2 libxml2 'libxml2.so.2.*'
patch expat libexpat1 'libexpat.so.1.*'
patch curl libcurl4 'libcurl.so.4.*'
patch ssl libssl3 libssl.so.3
patch crypto libssl3 libcrypto.so.3
patch glib libglib2.0-0 'libglib-2.0.so.0.*'
patch gnutls libgnutls30 'libgnutls.so.30.*'
patch postgres postgresql-15 postgres

compilers
clang=(env "LD_LIBRARY_PATH=$tools/usr/lib/x86_64-linux-gnu:$tools/usr/lib/llvm-14/lib" "$tools/usr/bin/clang-14")
gcc11=("$tools/usr/bin/x86_64-linux-gnu-gcc-11")
for name in lua nginx redis; do
	for level in O2 O1 O3 Os; do
		compile $name $level gcc12-$level gcc
	done
	compile $name O2 gcc11-O2 "${gcc11[@]}"
	compile $name O2 clang14-O2 "${clang[@]}"
done
compile lua O2 gcc12-O2-lto gcc -flto
