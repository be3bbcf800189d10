#!/bin/sh
# The browser tests need Chromium: install it where that is possible without asking, else say what to install.
for browser in chromium chromium-browser google-chrome google-chrome-stable; do
	command -v "$browser" >/dev/null && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "installing Chromium for the browser tests"
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 && exit 0
fi
echo "no Chromium found: install the package chromium (or google-chrome) for the browser tests; the others run" >&2
exit 0
