#!/usr/bin/env bash
# Fetches and builds what bench/fingerprints measures, into $PIE_TEST_CACHE/fingerprints:
#
#   release/NAME/RELEASE~VERSION   one library or program as Debian 11, 12, 13 and unstable (14)
#                                  have it, with their security archives: gcc 10, 12, 14, 15
#   source/NAME/BUILD              one source built by gcc 12, gcc 11, clang 14 and clang 16 at several levels
#
#   bench/fingerprints/corpus.sh [release] [source]     both when none is named
#
# Only Debian's packages are used, and the sources that test/e2e/servers.sh unpacks.
# The compilers are unpacked, not installed. Nothing is fetched or built twice.
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

# use_suites SUITE…: a private apt that knows these suites of Debian.
use_suites() {
	local apt=$corpus/apt suite archive
	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/sources"
	for suite; do
		archive=debian
		[[ $suite != *-security ]] || archive=debian-security
		printf 'Types: deb\nURIs: %s/%s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
			"$mirror" $archive "$suite" /usr/share/keyrings/debian-archive-keyring.gpg >"$apt/sources/$suite.sources"
	done
	cat >"$apt/apt.conf" <<-CONF
		Dir::Etc::sourcelist "/dev/null";
		Dir::Etc::sourceparts "$apt/sources";
		Dir::State::lists "$apt/lists";
		Dir::Cache "$apt/cache";
		APT::Sandbox::User "root";
		Acquire::Languages "none";
	CONF
	export APT_CONFIG=$apt/apt.conf
	quietly apt-get update
}

# mirror is where this machine's own apt gets Debian from.
mirror=$(sed '/^#/d' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -oE 'https?://[^ ]+/debian( |/|$)' | sed -E 's,/debian[ /]*$,,;q' || true)

declare -A debian=([bullseye]=11 [bookworm]=12 [trixie]=13 [sid]=14)

# release NAME FILE PACKAGE…: the file as every suite has it. A package may be named
# differently from release to release.
release() {
	local name=$1 file=$2 package version suite to
	shift 2
	for package; do
		apt-cache madison "$package" 2>/dev/null | while IFS='| ' read -r _ version _ suite _; do
			suite=${suite%%/*}
			to=$corpus/release/$name/${debian[${suite%-security}]}~${version//[:\/]/_}
			[ ! -e "$to" ] || continue
			rm -rf "$corpus/debs/one" && mkdir -p "$corpus/debs/one/x" "$corpus/release/$name"
			(cd "$corpus/debs/one" && quietly apt-get download "$package=$version" && quietly dpkg -x ./*.deb x) </dev/null || continue
			find "$corpus/debs/one/x" -type f -name "$file" -exec cp {} "$to.part" \;
			[ ! -e "$to.part" ] || mv "$to.part" "$to"
		done
	done
}

releases() {
	use_suites bullseye bullseye-security bookworm bookworm-security trixie trixie-security sid
	local name file packages
	while read -r name file packages; do
		[ -z "$name" ] || release "$name" "$file" $packages
	done <bench/fingerprints/packages
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
