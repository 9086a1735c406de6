#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds, tests and shows taipy-tunnel. On Debian or Ubuntu with Go and Python it needs nothing else:
# what is missing it installs, programs by apt and Python packages into .venv of this checkout.
# Without root it names the programs to install.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"

STATICCHECK=honnef.co/go/tools/cmd/staticcheck@v0.8.2
GLIBC=2.17
ARCH=$(uname -m)
VERSION=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' python/taipy_tunnel/__init__.py)
LIBRARY=python/taipy_tunnel/libtaipy_tunnel.so
TOOLS=.venv/tools       # what builds and lints
NOTEBOOK=.venv/notebook # where the wheel is installed and run
ROOTS=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/taipy-tunnel/roots # fresh Debians
export GOFLAGS=-mod=readonly

usage() {
	cat <<-END
		./build.sh lib     builds $LIBRARY for this machine's architecture (glibc $GLIBC)
		./build.sh wheel   builds dist/*.whl with it
		./build.sh program builds dist/taipy-tunnel-*, the command without Python, for Linux, macOS and Windows
		./build.sh test    tests everything: test go, fuzz 2s, test python [pytest's arguments]; as root, test roots
		                   too. A part that fails does not end the others; what failed is named at the end.
		                   test long: what links that go silent do to requests, and what the engine must hold, often,
		                   under the largest loads and as long as it takes: 80 minutes
		./build.sh compat  the notebook's side on older Taipys, on Databricks' kernels, and on the oldest and
		                   newest Python there is; apps of Streamlit, Gradio, Dash and Bokeh
		                   compat table: the tests that try what people have; writes docs/compatibility.md
		./build.sh roots   the script that makes a proxy machine, and attacks on what it makes, in fresh Debian
		                   12 and 13 roots; as root
		./build.sh bench   what is measured: gil, gate, taipy; bench gate: that alone
		./build.sh faults  what visitors see of each fault, through the installed wheel, autossh and ssh -R; writes
		                   docs/reliability.md. A repetition that has a result is not run again. As root: hours
		                   faults [PART OF A ROW'S NAME …] [--repeat N] [--again] [--systems plain,prepared,autossh,ssh]
		                   [--list] [--write]; faults --soak 10m [--seed N] [--systems …]: random faults
		./build.sh busy    each Go package's tests ten times, three at a time, beside four loops that keep the machine busy:
		                   an hour and more; busy 2: twice
		./build.sh simulate  a million stories of tunnels, links, visitors and a proxy, in virtual time: 10 minutes; simulate 7 traces
		                   the one of that seed, simulate 0-5000 plays those
		./build.sh fuzz    fuzzes every parser of untrusted text for a minute; fuzz 1h: for an hour each;
		                   fuzz 1h FuzzX: one of them
		./build.sh lint    formats, vet, staticcheck, go.mod, ruff, mypy
		./build.sh demo    a proxy, a notebook and the chain between them on this machine; prints the URL
		                   and stays until Ctrl-C. demo --check drives it with a browser and times each step.
		                   As root the proxy is a prepared one, with an account for as long as it lasts;
		                   otherwise, and with demo --plain, a plain one
		./build.sh clean   removes what these made
	END
}

say() { printf '\n==> %s\n' "$*"; }
die() {
	printf 'build.sh: %s\n' "$*" >&2
	exit 1
}

# need PROGRAM=PACKAGE …: installs the packages of programs that are missing.
need() {
	local pair program missing=()
	for pair; do
		program=${pair%%=*}
		PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || missing+=("${pair#*=}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || die "please install: ${missing[*]}"
	[ "$(id -u)" = 0 ] || die "please install, as root: apt-get install ${missing[*]}"
	say "installing ${missing[*]}"
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; }
}

need_languages() {
	command -v go >/dev/null || die "please install Go $(sed -n 's/^go //p' go.mod) or newer: https://go.dev/dl/"
	command -v python3 >/dev/null || need python3=python3
	python3 -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' ||
		die "please put a Python from 3.10 to 3.12 first in PATH (Taipy 4.1 runs on these); python3 is $(python3 -V)"
	need gcc=gcc
	[ -e /usr/include/stdlib.h ] || need no-such-program=libc6-dev
	python3 -c 'import ensurepip, venv' 2>/dev/null || need no-such-program=python3-venv
}

# environment DIR FILE: a virtual environment with the packages of a requirements file.
environment() {
	local stamp
	stamp="$(python3 -V) $(cat "$2")"
	[ "$(cat "$1/stamp" 2>/dev/null)" != "$stamp" ] || return 0
	say "Python packages for $1"
	rm -rf "$1"
	python3 -m venv "$1"
	"$1/bin/python" -m pip install -q --disable-pip-version-check -r "$2"
	printf '%s' "$stamp" >"$1/stamp"
}

tools() { environment "$TOOLS" python/requirements-build.txt; }

lib() {
	need_languages
	tools
	say "$LIBRARY ($VERSION, $ARCH, glibc $GLIBC)"
	CGO_ENABLED=1 CC="$PWD/$TOOLS/bin/python -m ziglang cc -target $ARCH-linux-gnu.$GLIBC" \
		go build -buildmode=c-shared -trimpath -buildvcs=false -tags netgo,osusergo \
		-ldflags "-s -w -buildid= -X main.version=$VERSION" -o "$LIBRARY" ./cshared
	rm -f "${LIBRARY%.so}.h" # cgo's own; ours is cshared/taipy_tunnel.h
}

wheel() {
	lib
	say "wheel"
	rm -rf dist/*.whl python/build python/*.egg-info
	"$TOOLS/bin/python" -m build --wheel --no-isolation --outdir dist python/ >/dev/null
	rm -rf python/build python/*.egg-info
	ls -l dist/*.whl
}

# program: the command for admins who have no Python; the wheel's has the same words.
program() {
	local system name
	command -v go >/dev/null || die "please install Go $(sed -n 's/^go //p' go.mod) or newer: https://go.dev/dl/"
	for system in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64; do
		name=dist/taipy-tunnel-${system/\//-}
		[ "${system%/*}" != windows ] || name=$name.exe
		say "$name"
		CGO_ENABLED=0 GOOS=${system%/*} GOARCH=${system#*/} go build -trimpath -buildvcs=false \
			-ldflags "-s -w -buildid= -X main.version=$VERSION" -o "$name" ./cmd/taipy-tunnel
	done
}

# machines: what tests run in the place of other machines.
machines() {
	need sshd=openssh-server ssh=openssh-client nginx=nginx-light shellcheck=shellcheck openssl=openssl tinyproxy=tinyproxy-bin microsocks=microsocks puttygen=putty-tools
	[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || need no-such-program=libnginx-mod-stream
	[ "$(id -u)" = 0 ] || return 0
	need useradd=passwd ss=iproute2 # the account of a prepared proxy, and what ends its stale links
	need fish=fish tcsh=tcsh zsh=zsh git=git busybox=busybox dropbear=dropbear-bin tinysshd=tinysshd unshare=util-linux # accounts and servers as people have them
	mkdir -p /run/sshd  # where sshd wants to separate its privileges
}

# notebook: the environment of a user: Taipy, a Jupyter kernel, and our wheel.
notebook() {
	need ssh=openssh-client curl=curl openssl=openssl
	machines
	command -v chromium chromium-browser google-chrome >/dev/null || need chromium=chromium
	wheel
	environment "$NOTEBOOK" python/requirements-test.txt
	"$NOTEBOOK/bin/python" -m pip install -q --disable-pip-version-check --no-deps --force-reinstall dist/*.whl
}

lint() {
	need_languages
	tools
	say "gofmt"
	local unformatted
	unformatted=$(gofmt -l .)
	[ -z "$unformatted" ] || die "run gofmt -w on: $unformatted"
	say "go vet"
	go vet ./...
	go vet -tags roots ./pkg/internal/roottest
	go vet -tags faults ./pkg/internal/faulttest
	say "staticcheck"
	go run "$STATICCHECK" ./...
	go run "$STATICCHECK" -tags faults ./pkg/internal/faulttest
	say "go mod tidy"
	go mod tidy -diff
	say "ruff"
	"$TOOLS/bin/ruff" check --config python/pyproject.toml python examples pkg
	"$TOOLS/bin/ruff" format --check --config python/pyproject.toml python examples pkg
	say "mypy"
	(cd python && "../$TOOLS/bin/mypy" taipy_tunnel tests/chain)
}

# parts COMMAND…: runs each as a process of its own, where errexit holds; also after one that failed.
parts() {
	local part failed=() said
	said=$(mktemp)
	trap 'exit 130' INT # or the next one would begin
	# shellcheck disable=SC2064 # now: at the exit the name is out of scope
	trap "rm -f $said" EXIT
	for part; do
		$part 2>&1 | tee -a "$said" || failed+=("$part")
	done
	[ ${#failed[@]} -gt 0 ] || return 0
	say "failed"
	printf '    %s\n' "${failed[@]}"
	# As Go and pytest name a test that failed, and Go those that ran when the time was over.
	grep -aE '^ *--- FAIL|^FAILED |^ERROR |^FAIL\s+\S+/|^fatal error: |^panic: test timed out|^\s+Test\S+ \([0-9hms.]+\)$' "$said" || true
	return 1
}

# abreast COMMAND…: runs all at the same time, or as many as JOBS says, and shows what each has said when it has ended;
# where a test's time was over, the stacks of those goroutines that are in our code, of thousands.
abreast() {
	# By xargs, since the shell's own jobs would outlive Ctrl-C.
	# shellcheck disable=SC2016 # expanded there
	printf '%s\0' "$@" | xargs -0 -n 1 -P "${JOBS:-0}" bash -c 'said=$($0 2>&1) && echo "$said" && exit
		awk -v RS= -v ORS="\n\n" "!/^goroutine / || /taipy-tunnel\/(pkg|cshared)/" <<<"$said"
		printf "==> failed: %s\n" "$0"
		exit 1'
}

# faults [ROW…] [options]: in namespaces of its own, so that no fault meets another program, and nothing is left of it.
faults() {
	wheel
	[ "$(id -u)" = 0 ] || die "faults are made as root"
	machines
	need autossh=autossh nft=nftables ip=iproute2 ss=iproute2 unshare=util-linux
	[ "${CI:-}" = true ] || unshare --net --mount --pid --fork true 2>/dev/null || die "this machine gives its root no namespaces (a container?)"
	python3 -m venv --clear .venv/faults
	.venv/faults/bin/python -m pip install -q --disable-pip-version-check --no-deps dist/*.whl
	go test -c -tags faults -o .venv/faults.test ./pkg/internal/faulttest
	FAULTS_DIR=$(mktemp -d) && chmod 755 "$FAULTS_DIR" # sshd's accounts look into it
	trap 'rm -rf "$FAULTS_DIR"' EXIT
	say "faults"
	# shellcheck disable=SC2016
	TMPDIR=$FAULTS_DIR unshare --net --mount --pid --fork --mount-proc --kill-child sh -c '
		ip link set lo up && mount -t tmpfs -o mode=755 none /run && mkdir /run/sshd && cd pkg/internal/faulttest && "$@"' sh \
		"$PWD/.venv/faults.test" -test.timeout 0 --python "$PWD/.venv/faults/bin/python" --commit "$(git describe --always --dirty 2>/dev/null)" "$@"
}

# simulate [SEED | FROM-TO]
simulate() {
	need_languages
	say "which link serves which slot"
	TAIPY_TUNNEL_SEEDS=${1:-0-1000000} go test -count=1 -v -timeout 60m -run TestSlotsSimulated ./pkg/slots
}

test_long() {
	need_languages
	machines
	say "silent links, and what must hold"
	TAIPY_TUNNEL_LONG=1 go test -count=1 -v -timeout 150m -run 'TestSilentLinks|TestLivingEnds|TestPromise|TestMemory|TestVisitors|TestRenderedProxyCarries' ./pkg/tunnel | grep -vE '^=== '
}

# test_all: installs first, so that a missing program is the only message.
test_all() {
	local all
	need_languages
	machines
	mapfile -t all < <(fuzz_parts 2s)
	all=("./build.sh test go" "${all[@]}")
	[ "$(id -u)" != 0 ] || all+=("./build.sh test roots")
	all+=("./build.sh test python")
	parts "${all[@]}"
}

# test_go: what pkg/tunnel's tests take is waits for sshd and nginx, so they are three processes beside the others, of
# which the longest come first. The rules are one goroutine; with the race detector they took five times as much.
test_go() {
	local tunnel others
	need_languages
	machines
	say "Go tests"
	go build -race ./... # once, and not by each of those
	mapfile -t tunnel < <(tunnel_parts)
	others="./pkg/sshlink ./pkg/gate $(go list ./... | grep -vE '/pkg/(tunnel|internal/rules)$')"
	JOBS=${JOBS:-2} abreast "${tunnel[@]}" "go test -race -timeout 30m $others" "go test ./pkg/internal/rules"
}

tunnel_parts() {
	local promises='^TestPromise' machines='^Test(Rendered|Memory|Prepared|Silent|Stale|Living)'
	printf 'go test -race -count=1 -timeout 30m %s ./pkg/tunnel\n' "-skip $promises|$machines" "-run $machines" "-run $promises"
}

# busy [ROUNDS]: what fails then waits for a time, not for an event.
busy() {
	local rounds=${1:-10} parts all=() loops=() n
	need_languages
	machines
	say "each package $rounds times, beside four busy loops"
	mapfile -t parts < <(
		tunnel_parts
		go list -f '{{if or .TestGoFiles .XTestGoFiles}}go test -race -count=1 -timeout 30m {{.ImportPath}}{{end}}' ./... | grep -vE '/pkg/(tunnel|internal/rules)$'
		echo "go test -count=1 ./pkg/internal/rules"
	)
	for ((n = 0; n < rounds; n++)); do all+=("${parts[@]}"); done
	for n in 1 2 3 4; do
		while :; do :; done &
		loops+=($!)
	done
	# shellcheck disable=SC2064 # now: at the exit the list is out of scope
	trap "kill ${loops[*]}" EXIT
	JOBS=${JOBS:-3} abreast "${all[@]}"
}

# fuzz [TIME [TARGET]]
fuzz() {
	local all package
	if [ $# -lt 2 ]; then
		mapfile -t all < <(fuzz_parts "${1:-1m}")
		parts "${all[@]}"
		return
	fi
	need_languages
	package=./$(dirname "$(grep -rlE --include='*_test.go' "^func $2\(" pkg cshared)")
	say "$2, $1"
	fuzz_one "$2" "$1" "$package" || fuzz_one "$2" "$1" "$package" again
}

fuzz_parts() { grep -rhoE --include='*_test.go' '^func Fuzz\w+' pkg cshared | sort | sed "s/^func/.\/build.sh fuzz $1/"; }

# fuzz_one TARGET TIME PACKAGE [again]: fails for good, unless the fuzzer only failed to end in time, which
# Go before 1.27 does on a busy machine (golang/go#75804); it has found nothing then, and is run again.
fuzz_one() {
	local said
	said=$(go test -run '^$' -fuzz "^$1\$" -fuzztime "$2" "$3" 2>&1) && grep -v '^fuzz: ' <<<"$said" && return
	grep -v '^fuzz: ' <<<"$said"
	[ -z "${4:-}" ] && grep -qx ' *context deadline exceeded' <<<"$said" && ! grep -q 'Failing input' <<<"$said" || exit 1
	return 1
}

test_python() {
	notebook
	say "Python tests"
	# Not from python/: what is tested is the wheel, not the folder beside it. Three processes on two cores, for one
	# uses 0.7 of a core.
	[ $# -gt 0 ] || set -- --numprocesses 3 --dist worksteal python/tests
	"$NOTEBOOK/bin/pytest" -c python/pyproject.toml "$@"
}

# debians: two that nothing was done to, which TAIPY_TUNNEL_ROOTS names. They are entered by way of an overlay and stay
# as they are, so all checkouts share them. Where they cannot be entered it names none.
debians() {
	local release dir roots=() packages=openssh-server,nginx-light,openssl,sudo,certbot,python3-cffi-backend,pebble,systemd
	need debootstrap=debootstrap unshare=util-linux ip=iproute2 ssh-keygen=openssh-client sshd=openssh-server
	if [ "${CI:-}" != true ] && ! unshare --mount --pid --fork --net true 2>/dev/null; then
		say "no fresh Debians: this machine gives its root no namespaces (a container?)" && return
	fi
	for release in bookworm trixie; do
		dir=$ROOTS/$release
		if [ "$(cat "$dir.made" 2>/dev/null)" != "$packages" ]; then
			say "$dir"
			rm -rf "$dir" && mkdir -p "$dir"
			debootstrap --variant=minbase --include="$packages" "$release" "$dir" >"$dir.log" || die "see $dir.log"
			echo "$packages" >"$dir.made"
		fi
		roots+=("$dir")
	done
	TAIPY_TUNNEL_ROOTS=$(IFS=: && echo "${roots[*]}")
	export TAIPY_TUNNEL_ROOTS
}

# roots [attacks]
roots() {
	local attacks=
	need_languages
	[ "$(id -u)" = 0 ] || die "roots are made, and entered, as root"
	debians
	[ -n "${TAIPY_TUNNEL_ROOTS:-}" ] || return 0
	if [ "${1:-}" = attacks ]; then
		attacks=$PWD/.venv/attacks.test
		CGO_ENABLED=0 go test -c -o "$attacks" ./pkg/proxyhost/attacks
	fi
	say "OpenSSH 10"
	go test -count=1 -run '^(TestServersAndAccounts|TestTakenFromAFrozenTunnel|TestDirectoryOfKeysAwayForAMoment)$/.*OpenSSH_10' ./pkg/tunnel ./pkg/lease
	say "the script in ${TAIPY_TUNNEL_ROOTS//:/ }"
	CI=true TAIPY_TUNNEL_ATTACKS=$attacks go test -count=1 -tags roots -run TestRoots ./pkg/internal/roottest
}

bench() {
	notebook
	PYTHONPATH=python/tests "$NOTEBOOK/bin/python" -m chain.bench "$@"
}

demo() {
	notebook
	PYTHONPATH=python/tests exec "$NOTEBOOK/bin/python" -m chain "$@"
}

clean() { rm -rf .venv "$ROOTS" dist "$LIBRARY" python/build python/*.egg-info python/.*_cache .ruff_cache; }

# shellcheck source=compat.sh
. ./compat.sh

case "${1:-help}" in
lib | wheel | program | lint | clean) "$1" ;;
compat)
	case "${2:-all}" in
	all) compat ;;
	table) compat_table ;;
	*) usage && exit 2 ;;
	esac
	;;
roots) roots attacks ;;
demo | fuzz | bench | busy | faults | simulate) "$1" "${@:2}" ;;
test)
	case "${2:-all}" in
	all) test_all ;;
	go) test_go ;;
	python) test_python "${@:3}" ;;
	roots) roots ;;
	long) test_long ;;
	*) usage && exit 2 ;;
	esac
	;;
help | -h | --help) usage ;;
*) usage && exit 2 ;;
esac
