#!/bin/sh
# gpu_check.sh [STAGE[:SECONDS]]...: check and measure livetoon on a machine with an NVIDIA GPU and PyTorch, offline.
#
#   wheels         an environment beside PYTHON's packages, filled from the folder WHEELS (left out without one)
#   look           which GPU, driver and libraries there are
#   tests          every test marked gpu
#   latency        benchmarks/latency.py: every backend that is there, the live generator
#   photo2cartoon  the same, photo2cartoon's
#   frames         benchmarks/frames.py: a frame decoded to pasted
#   training       benchmarks/training.py: a step beside the public order
#
# Every stage has a time limit and fails alone. OUT gets what was found: STAGE.log, JSON, plots, summary.json.
# PYTHON: has torch; without it .venv-gpu (once `wheels` filled it), .venv, or the machine's own.
# WHEELS: a folder of wheels; OUT: build/gpu-check; QUICK=1: a look in place of figures.
set -u
cd "$(dirname "$0")/.." || exit 1
self=$PWD/scripts/gpu_check.sh
OUT=${OUT:-build/gpu-check} WHEELS=${WHEELS:-} QUICK=${QUICK:-} VENV=.venv-gpu
known="wheels look tests latency photo2cartoon frames training"
[ $# -gt 0 ] || set -- wheels:120 look:20 tests:100 latency:150 photo2cartoon:150 frames:40 training:100

refuse() { echo "gpu_check.sh: $1" >&2 && exit 2; }
for stage in "$@"; do
	case " $known " in
	*" ${stage%%:*} "*) ;;
	*) refuse "no stage ${stage%%:*}: choose of $known" ;;
	esac
	case $stage in
	*:*[!0-9]* | *: | *:0*) refuse "$stage: a limit is whole seconds from 1 up, as tests:60" ;;
	esac
done
[ -z "$WHEELS" ] || [ -d "$WHEELS" ] || refuse "WHEELS=$WHEELS is no folder: fill it with pip download (docs/engines.md)"
command -v timeout >/dev/null || refuse "it needs the command timeout (GNU coreutils)"

# What each stage runs; its log is what it says.
wheels() { "$PYTHON" -m venv --system-site-packages "$VENV" && filled; }
filled() {
	"$VENV/bin/python" -m pip install --no-index --find-links "$WHEELS" --editable '.[stream,train,dev]' &&
		touch "$VENV/.filled"
}
look() {
	nvidia-smi || echo "nvidia-smi does not answer"
	"$PYTHON" -m benchmarks.devices --json "$OUT/look.json"
}
tests() { "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider tests/engine tests/benchmarks --junit-xml "$OUT/tests.xml"; }
latency() { "$PYTHON" -m benchmarks.latency $quick --model live --json "$OUT/latency.json" --plot "$OUT/latency.png"; }
photo2cartoon() {
	"$PYTHON" -m benchmarks.latency $quick --model photo2cartoon-light --precisions fp32,fp16 \
		--json "$OUT/photo2cartoon.json" --plot "$OUT/photo2cartoon.png"
}
frames() { "$PYTHON" -m benchmarks.frames $quick --json "$OUT/frames.json"; }
training() {
	"$PYTHON" -m benchmarks.training --presets photo2cartoon,ugatit-light --precision fp32,bf16 --face-id random \
		--steps "${quick:+2}${full:+5}" --json "$OUT/training.json"
}
quick=${QUICK:+--quick} full=
[ -n "$QUICK" ] || full=1

# In a shell of its own, so that `timeout` ends a stage with all that it started.
if [ -n "${GPU_CHECK_STAGE:-}" ]; then
	"$GPU_CHECK_STAGE"
	exit
fi

PYTHON=${PYTHON:-}
[ -n "$PYTHON" ] || [ ! -e "$VENV/.filled" ] || PYTHON=$PWD/$VENV/bin/python
[ -n "$PYTHON" ] || [ ! -x .venv/bin/python ] || PYTHON=$PWD/.venv/bin/python
[ -n "$PYTHON" ] || PYTHON=$(scripts/find-python.sh) || exit 1
mkdir -p "$OUT" || exit 1
OUT=$(cd "$OUT" && pwd)
export OUT WHEELS QUICK PYTHON

# One line of plain characters, whatever a log ends with: it goes into JSON.
last_words() { tail -n 1 "$1" | tr '\r' '\n' | tail -n 1 | LC_ALL=C tr -cd '\040\041\043-\133\135-\176' | cut -c1-200; }

running=
trap '[ -z "$running" ] || kill "$running" 2>/dev/null; echo "stopped; what was found so far: $OUT" >&2; exit 130' INT TERM
failed=0 rows=""
for stage in "$@"; do
	name=${stage%%:*} limit=${stage##*:}
	[ "$limit" = "$stage" ] && limit=300
	began=$(date +%s)
	if [ "$name" = wheels ] && [ -z "$WHEELS" ]; then
		code=0
	else
		GPU_CHECK_STAGE=$name timeout --kill-after=10 "$limit" "$self" >"$OUT/$name.log" 2>&1 &
		running=$!
		wait "$running"
		code=$? running=
	fi
	took=$(($(date +%s) - began))
	case $code in
	0) said=passed ;;
	124) said="stopped after $limit s" failed=1 ;;
	137) said="killed: by its limit of $limit s, or for memory" failed=1 ;;
	*) said="failed: $(last_words "$OUT/$name.log")" failed=1 ;;
	esac
	[ "$name" = wheels ] && [ -z "$WHEELS" ] && said="left out: no WHEELS given, the packages of $PYTHON are used"
	[ "$name$code" = wheels0 ] && [ -n "$WHEELS" ] && PYTHON=$PWD/$VENV/bin/python
	printf '%-14s %4d s  %s\n' "$name" "$took" "$said"
	rows="$rows${rows:+,
 }{\"stage\": \"$name\", \"exit\": $code, \"seconds\": $took, \"said\": \"$said\"}"
	printf '[%s]\n' "$rows" >"$OUT/summary.json.part" && mv "$OUT/summary.json.part" "$OUT/summary.json"
done
echo "results: $OUT"
exit $failed
