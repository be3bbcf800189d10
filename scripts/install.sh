#!/bin/sh
# install.sh PYTHON VENV EXTRAS: make the environment if need be and put livetoon with its extras into it.
set -eu
python=$1 venv=$2 extras=$3
[ -n "$python" ] || exit 1
if [ ! -x "$venv/bin/python" ]; then
	echo "making $venv with $("$python" --version)"
	# Debian's python3 without python3-venv has no ensurepip: then the machine's own pip fills the environment.
	"$python" -m venv "$venv" >/dev/null 2>&1 || "$python" -m venv --without-pip "$venv"
fi
pip() {
	if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
		"$venv/bin/python" -m pip "$@"
	else
		"$python" -m pip --python "$venv/bin/python" "$@"
	fi
}
echo "installing livetoon[$extras]: some minutes the first time"
pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable ".[$extras]" || {
	echo "installation failed: is the package index within reach? Run the same command again to go on." >&2
	exit 1
}
