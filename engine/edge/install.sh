#!/bin/sh
# install.sh [--install-only] [OPTIONS OF livetoon]
#   Checks this bundle, makes an environment of its wheels alone (no internet, no root) and starts the server.
#   A second call only starts. Nothing is written to the bundle.
#   LIVETOON_ENV  folder of the environment (~/.local/share/livetoon/env)
#   PYTHON        the interpreter (python@PYTHON@)
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd -P)
env=${LIVETOON_ENV:-$HOME/.local/share/livetoon/env}
python=${PYTHON:-python@PYTHON@}
only=no
if [ "${1:-}" = --install-only ]; then only=yes; shift; fi

fail() { echo "install.sh: $1" >&2; exit 1; }

if ! cmp -s "$here/manifest.json" "$env/bundle.json"; then
	command -v "$python" >/dev/null || fail "$python is not installed: install Python @PYTHON@, or set PYTHON to where it is"
	"$python" "$here/check.py"
	# Only what this script made is made anew.
	[ -z "$(ls -A "$env" 2>/dev/null)" ] || [ -e "$env/made-by-livetoon" ] || fail "$env is there already: set LIVETOON_ENV to another folder"
	mkdir -p "$env"
	: > "$env/made-by-livetoon"
	echo "making $env, about half a minute"
	# The wheels bring pip: Debian's Python without python3-venv has none.
	"$python" -m venv --clear --without-pip "$env"
	: > "$env/made-by-livetoon"
	for pip in "$here"/wheels/pip-*.whl; do :; done
	PIP_CONFIG_FILE=/dev/null "$env/bin/python" "$pip/pip" --isolated install --quiet --disable-pip-version-check \
		--no-cache-dir --no-index --find-links "$here/wheels" "livetoon[stream]"
	cp "$here/manifest.json" "$env/bundle.json"
fi
[ "$only" = yes ] || exec "$env/bin/livetoon" --bundle "$here" "$@"
