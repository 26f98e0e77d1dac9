#!/usr/bin/env bash
# Fetches and builds what bench/fingerprints measures, into $PIE_TEST_CACHE/fingerprints:
#
#   release/NAME/RELEASE~VERSION   one library or program as Debian 11, 12, 13 and unstable (14)
#                                  have it, with their security archives: gcc 10, 12, 14, 15
#   held/NAME/RELEASE~VERSION      the same, of programs that no gate was set by: the file held
#   fresh/NAME/RELEASE~VERSION     the same, of programs that were asked once, when all gates stood: the file fresh
#   exam/NAME/RELEASE~VERSION      the same, of programs that were asked once, when fingerprints could carry builds whole: the file exam
#   second/NAME/RELEASE~VERSION    the same, of programs that were asked once, in November 2026: the file second
#   source/NAME/BUILD              one source built by gcc 12, gcc 11 and clang 14 at several levels
#   held-source/NAME/BUILD         the same, of sources that no gate was set by: the file sources; gcc 11 to
#                                  14, clang 14 and 19
#   fresh-source/NAME/BUILD        the same, of sources that were asked once, when all gates stood: the file fresh-sources
#
#   last-source/NAME/BUILD         the same, of sources that were asked once, when functions were executed too: the file last-sources
#
#   bench/fingerprints/corpus.sh [release] [held] [fresh] [exam] [second] [source] [held-source] [fresh-source] [last-source]     all when none is named
#
# Only Debian's packages are used, and the sources that test/e2e/servers.sh unpacks.
# The compilers are unpacked, not installed; those of Debian 13 run in a chroot, which takes
# root. Nothing is fetched or built twice. Of each build there is BUILD.stripped too.
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

# wanted FOLDER LIST: lines "TARGET FILE PACKAGE VERSION", for every version that any
# suite has and that is not there yet. A package may be named differently from
# release to release.
wanted() {
	awk '{ for (i = 3; i <= NF; i++) print $i }' "$2" | sort -u | xargs apt-cache madison 2>/dev/null |
		awk -v dir="$corpus/$1" -v list="$2" '
			BEGIN {
				split("bullseye 11 bookworm 12 trixie 13 forky 14 sid 14", d, " ")
				for (i = 1; i in d; i += 2) debian[d[i]] = d[i + 1]
				while ((getline <list) > 0)
					for (i = 3; i <= NF; i++) users[$i] = users[$i] " " $1 " " $2
			}
			{
				suite = $6
				sub("/.*", "", suite)
				sub("-security", "", suite)
				version = $3
				gsub("[:/]", "_", version)
				n = split(users[$1], u, " ")
				for (i = 1; i < n; i += 2)
					print dir "/" u[i] "/" debian[suite] "~" version, u[i + 1], $1, $3
			}' | sort -u | while read -r to rest; do
			[ -e "$to" ] || echo "$to $rest"
		done
}

# releases FOLDER LIST: each file of the list as every suite has it.
releases() {
	local to file package version pool=$corpus/debs/pool-$1 x=$corpus/debs/one-$1
	use_suites bullseye bullseye-security bookworm bookworm-security trixie trixie-security forky sid
	mkdir -p "$pool"
	wanted "$1" "$2" >"$pool.list"
	awk '{ print $3 "=" $4 }' "$pool.list" | sort -u | (cd "$pool" && xargs -r -n 40 apt-get -qq download) || true
	while read -r to file package version; do
		rm -rf "$x" && mkdir -p "$x" "${to%/*}"
		dpkg -x "$pool/${package}_${version//:/%3a}"_*.deb "$x" || continue
		find "$x" -type f -name "$file" -exec cp {} "$to.part" \;
		[ ! -e "$to.part" ] || mv "$to.part" "$to"
	done <"$pool.list"
	rm -rf "$x" "$pool"
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
	"build_$name" "$level" "$out.part" "$@" && strip -o "$out.stripped" "$out.part" && mv "$out.part" "$out"
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

sources() {
	compilers
	local name level
	local clang=(env "LD_LIBRARY_PATH=$tools/usr/lib/x86_64-linux-gnu:$tools/usr/lib/llvm-14/lib" "$tools/usr/bin/clang-14")
	local gcc11=("$tools/usr/bin/x86_64-linux-gnu-gcc-11")
	for name in lua nginx redis; do
		for level in O2 O1 O3 Os; do
			compile $name $level gcc12-$level gcc
		done
		compile $name O2 gcc11-O2 "${gcc11[@]}"
		compile $name O2 clang14-O2 "${clang[@]}"
	done
	compile lua O2 gcc12-O2-lto gcc -flto
}

# trixie unpacks the compilers of Debian 13 with all that they need.
trixie() {
	local root=$corpus/trixie apt=$corpus/apt-trixie deb
	[ ! -e "$root" ] || return 0
	use_suites trixie
	mkdir -p "$apt/archives/partial" "$root.part"
	quietly apt-get -y -o Dir::State::status=/dev/null -o Dir::Cache::archives="$apt/archives" --download-only --no-install-recommends \
		install base-files gcc-13 gcc-14 g++-13 g++-14 clang-19 libc6-dev libc-bin bash coreutils
	dpkg -x "$apt"/archives/base-files_*.deb "$root.part" # makes /lib a link
	for deb in "$apt"/archives/*.deb; do dpkg -x "$deb" "$root.part"; done
	mv "$root.part" "$root"
}

# use_sources: a private apt that knows the sources of Debian 12.
use_sources() {
	[ ! -e "$corpus/apt-sources/apt.conf" ] || { export APT_CONFIG=$corpus/apt-sources/apt.conf && return 0; }
	use_suites bookworm
	mkdir -p "$corpus/apt-sources"
	cp -r "$corpus/apt/." "$corpus/apt-sources/"
	rm -f "$corpus"/apt-sources/sources/*
	printf 'Types: deb-src\nURIs: %s/debian\nSuites: bookworm\nComponents: main\nSigned-By: %s\n' \
		"$mirror" /usr/share/keyrings/debian-archive-keyring.gpg >"$corpus/apt-sources/sources/src.sources"
	sed -i "s,$corpus/apt/,$corpus/apt-sources/,; s,\"$corpus/apt\",\"$corpus/apt-sources\"," "$corpus/apt-sources/apt.conf"
	export APT_CONFIG=$corpus/apt-sources/apt.conf
	quietly apt-get update
}

# held_sources FOLDER LIST: builds each source of the list by every compiler, as a shared
# library with its static functions in the symbol table.
held_sources() {
	compilers
	trixie
	local folder=$1 list=$2 name files flags level tree lib=$tools/usr/lib
	local clang14=(env "LD_LIBRARY_PATH=$lib/x86_64-linux-gnu:$lib/llvm-14/lib" "$tools/usr/bin/clang-14")
	while IFS='|' read -r name files flags; do
		tree=$corpus/trixie/src/$name
		if [ ! -e "$tree" ]; then
			use_sources
			rm -rf "$corpus/debs/src" && mkdir -p "$corpus/debs/src" "$corpus/trixie/src"
			(cd "$corpus/debs/src" && quietly apt-get --download-only source "$name" && quietly dpkg-source --no-check -x ./*.dsc "$tree")
		fi
		for level in O2 O1 O3 Os; do held $level gcc12-$level gcc; done
		held O2 gcc12-O2-lto gcc -flto
		held O2 gcc11-O2 "$tools/usr/bin/x86_64-linux-gnu-gcc-11"
		for level in O2 O3 Os; do held $level clang14-$level "${clang14[@]}"; done
		held O2 gcc13-O2 chroot "$corpus/trixie" gcc-13
		held Os gcc13-Os chroot "$corpus/trixie" gcc-13
		held O2 gcc14-O2 chroot "$corpus/trixie" gcc-14
		held O2 clang19-O2 chroot "$corpus/trixie" clang-19
	done <"$list"
}

# held LEVEL BUILD CC...: builds $name; a build that the compiler cannot make is left out.
held() {
	local level=$1 out=$corpus/$folder/$name/$2
	shift 2
	[ ! -e "$out" ] || return 0
	mkdir -p "${out%/*}"
	local in=$tree cc="$*"
	[[ $1 != chroot ]] || in=/src/$name cc=$3 # gcc-11 knows no C++
	[[ $cc != *gcc-11 || $files != *.cpp ]] || return 0
	local build="cd $in && $cc -$level -g -w -fPIC -shared ${flags//\"/\\\"} -o $in/out.so $files"
	if [[ $1 == chroot ]]; then
		quietly chroot "$2" /bin/bash -c "$build" || return 0
	else
		quietly bash -c "$build" || return 0
	fi
	strip -o "$out.stripped" "$tree/out.so" && mv "$tree/out.so" "$out"
}

[ $# -gt 0 ] || set -- release held fresh exam second source held-source fresh-source last-source
for part; do
	case $part in
	release) releases release bench/fingerprints/packages ;;
	held | fresh | exam | second) releases "$part" "bench/fingerprints/$part" ;;
	source) sources ;;
	held-source) held_sources held-source bench/fingerprints/sources ;;
	fresh-source) held_sources fresh-source bench/fingerprints/fresh-sources ;;
	last-source) held_sources last-source bench/fingerprints/last-sources ;;
	*)
		echo "$0: $part is none of release, held, fresh, exam, second, source, held-source, fresh-source, last-source" >&2
		exit 2
		;;
	esac
done
