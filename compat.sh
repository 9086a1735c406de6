# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # build.sh reads it, and has the names
#
# What people have: ./build.sh compat and compat table.

# compat: other versions of Taipy, and other Pythons (in PATH, or pyenv's).
compat() {
	local version dir wheel python tests pins pythons=()
	notebook
	wheel=$(ls dist/*.whl)
	for version in 3.1.1 4.0.3; do
		dir=.venv/taipy-$version
		mkdir -p .venv
		pins=("taipy==$version" 'setuptools<81')
		tests=(test_taipy.py test_resync.py test_relied.py)
		case $version in
		3.*) tests+=(compat_jobs.py) ;; # its standalone jobs fork
		# Its Flask-SocketIO (< 5.5) sets RequestContext.session, which cannot be set from Flask 3.1.3 on: no
		# page gets an answer to its socket.io CONNECT, and stays empty.
		4.0.*) pins+=('flask<3.1.3') ;;
		esac
		{ grep -v '^taipy' python/requirements-test.txt && printf '%s\n' "${pins[@]}"; } >"$dir.txt"
		environment "$dir" "$dir.txt"
		"$dir/bin/python" -m pip install -q --no-deps --force-reinstall "$wheel"
		say "Taipy $version"
		"$dir/bin/pytest" -c python/pyproject.toml "${tests[@]/#/python/tests/}"
	done
	pythons=()
	for version in 6.17.1 6.29.5; do # of Databricks' runtimes 13.3 to 17.3, the oldest and the newest
		dir=.venv/ipykernel-$version
		pins=("ipykernel==$version" 'ipython<8.30')
		{ grep '^taipy' python/requirements-test.txt && printf '%s\n' "${pins[@]}"; } >"$dir.txt"
		environment "$dir" "$dir.txt"
		"$dir/bin/python" -m pip install -q --no-deps --force-reinstall "$wheel"
		pythons+=("$PWD/$dir/bin/python")
	done
	say "ipykernel 6.17 and 6.29"
	COMPAT_PYTHONS=$(IFS=: && echo "${pythons[*]}") "$NOTEBOOK/bin/pytest" -c python/pyproject.toml \
		python/tests/test_{databricks,examples}.py
	pythons=()
	frameworks
	.venv/apps/bin/pytest -c python/pyproject.toml python/tests/compat_apps.py
	for version in 3.9 3.13; do
		python=$(ls -d ~/.pyenv/versions/"$version".*/bin/python 2>/dev/null | tail -n 1)
		python=${python:-$(command -v "python$version")} || die "no Python $version on this machine"
		rm -rf ".venv/python$version" && "$python" -m venv ".venv/python$version"
		".venv/python$version/bin/python" -m pip install -q --disable-pip-version-check "$wheel" joblib==1.5.2
		pythons+=("$PWD/.venv/python$version/bin/python")
	done
	say "Python 3.9 and 3.13"
	COMPAT_PYTHONS=$(IFS=: && echo "${pythons[*]}") "$NOTEBOOK/bin/pytest" -c python/pyproject.toml \
		python/tests/test_{fork,signals,interrupt,ends,interpreter,endurance}.py
}

# frameworks: an environment with those that compat_apps.py has apps of, and our wheel.
frameworks() {
	local dir=.venv/apps pins=(streamlit==1.65.0 gradio==6.31.0 dash==4.4.1 bokeh==3.8.2 'tornado<6.6') # the newest for Python 3.10
	{ grep -E '^(playwright|pytest)=' python/requirements-test.txt && printf '%s\n' "${pins[@]}"; } >"$dir.txt"
	environment "$dir" "$dir.txt"
	"$dir/bin/python" -m pip install -q --no-deps --force-reinstall dist/*.whl
	say "${pins[*]}"
}

# compat_table: what the tests note that call compat.Row, or have the fixture of this name. As root the Debian of OpenSSH
# 10 is among the servers.
compat_table() {
	local go python tests
	notebook
	frameworks
	[ "$(id -u)" != 0 ] || debians
	rm -f .venv/rows
	export TAIPY_TUNNEL_COMPAT=$PWD/.venv/rows
	mapfile -t go < <(grep -rl --include='*_test.go' '\bcompat\.Row(' pkg cshared)
	mapfile -t python < <(grep -rlE 'compat: (compat\.)?Row\b' python/tests/test_*.py)
	say "what people have"
	tests=$(awk '/^func Test/ { test = $2; sub(/\(.*/, "", test) } /^}/ { test = "" } test && /compat\.Row\(/ { print test }' "${go[@]}" | sort -u | paste -sd '|')
	printf './%s\n' "${go[@]%/*}" | sort -u | xargs go test -count=1 -timeout 30m -run "^($tests)\$"
	"$NOTEBOOK/bin/pytest" -c python/pyproject.toml --numprocesses 3 --dist worksteal "${python[@]}"
	.venv/apps/bin/pytest -c python/pyproject.toml python/tests/compat_apps.py
	go test -count=1 ./pkg/internal/compat -write "$TAIPY_TUNNEL_COMPAT"
}
