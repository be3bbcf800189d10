#!/bin/sh
# gpu_check.sh [STAGE[:SECONDS]]...: check and measure livetoon on a machine with an NVIDIA GPU and PyTorch, offline.
#
#   wheels    an environment beside this machine's PyTorch, filled from the folder WHEELS (left out without one)
#   look      which GPU, driver and libraries there are
#   tests     every test marked gpu
#   latency   benchmarks/latency.py: every backend that is there, the live generator, then photo2cartoon's
#   frames    benchmarks/frames.py: a frame decoded to pasted
#   training  benchmarks/training.py: a step beside the public order
#
# Every stage has a time limit and fails alone. OUT gets what was found: STAGE.log, JSON, plots, summary.json.
# PYTHON: with torch; WHEELS: a folder of wheels; OUT: build/gpu-check; QUICK=1: a look in place of figures.
set -u
cd "$(dirname "$0")/.." || exit 1
OUT=${OUT:-build/gpu-check} WHEELS=${WHEELS:-} QUICK=${QUICK:-} VENV=.venv-gpu
PYTHON=${PYTHON:-$(scripts/find-python.sh)} || exit 1
[ $# -gt 0 ] || set -- wheels:120 look:20 tests:120 latency:200 photo2cartoon:200 frames:60 training:120

for stage in "$@"; do
	case $stage in
	*:*[!0-9]* | *:) echo "gpu_check.sh: $stage: a limit is whole seconds, as tests:60" >&2 && exit 2 ;;
	esac
	case ${stage%%:*} in
	wheels | look | tests | latency | photo2cartoon | frames | training) ;;
	*) echo "gpu_check.sh: no stage ${stage%%:*}: choose of wheels look tests latency photo2cartoon frames training" >&2 && exit 2 ;;
	esac
done
if [ -n "$WHEELS" ] && [ ! -d "$WHEELS" ]; then
	echo "gpu_check.sh: WHEELS=$WHEELS is no folder: fill it with pip download (docs/engines.md)" >&2
	exit 2
fi
command -v timeout >/dev/null || { echo "gpu_check.sh needs the command timeout (GNU coreutils)" >&2 && exit 1; }
mkdir -p "$OUT" || exit 1
OUT=$(cd "$OUT" && pwd)
[ -x "$VENV/bin/python" ] && PYTHON=$PWD/$VENV/bin/python
quick=${QUICK:+--quick} steps=5
[ -n "$QUICK" ] && steps=2

# What each stage runs; its last line is what the summary says of it.
wheels() {
	[ -n "$WHEELS" ] || { echo "left out: no WHEELS given, the machine's own packages are used" && return 0; }
	"$PYTHON" -m venv --system-site-packages "$VENV" &&
		"$VENV/bin/python" -m pip install --no-index --find-links "$WHEELS" --editable '.[stream,train,dev]'
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
		--steps "$steps" --json "$OUT/training.json"
}

# In a shell of its own, so that `timeout` ends a stage with all that it started.
if [ "${GPU_CHECK_STAGE:-}" ]; then
	"$GPU_CHECK_STAGE"
	exit
fi
export OUT WHEELS QUICK PYTHON
failed=0 rows=""
for stage in "$@"; do
	name=${stage%%:*} limit=${stage##*:}
	[ "$limit" = "$stage" ] && limit=300
	began=$(date +%s)
	GPU_CHECK_STAGE=$name timeout --kill-after=10 "$limit" "$0" >"$OUT/$name.log" 2>&1
	code=$?
	[ "$name" = wheels ] && [ -x "$VENV/bin/python" ] && PYTHON=$PWD/$VENV/bin/python
	took=$(($(date +%s) - began))
	case $code in
	0) said=passed ;;
	124 | 137) said="stopped after $limit s" failed=1 ;;
	*) said="failed: $(tail -n 1 "$OUT/$name.log" | tr -d '"\\' | cut -c1-200)" failed=1 ;;
	esac
	printf '%-14s %4d s  %s\n' "$name" "$took" "$said"
	rows="$rows${rows:+,
 }{\"stage\": \"$name\", \"exit\": $code, \"seconds\": $took, \"said\": \"$said\"}"
	printf '[%s]\n' "$rows" >"$OUT/summary.json.part" && mv "$OUT/summary.json.part" "$OUT/summary.json"
done
echo "results: $OUT"
exit $failed
