#!/bin/sh
# Print the newest Python from 3.11 to 3.13 on this machine; say what is missing where there is none.
for python in python3.13 python3.12 python3.11 python3 python; do
	if "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
		echo "$python"
		exit 0
	fi
done
echo "livetoon needs Python 3.11, 3.12 or 3.13 and found none: install one, or name it with make PYTHON=/path/to/python" >&2
exit 1
