#!/bin/sh
# Finds a Python and hands over to bootstrap.py with all arguments. PYTHON=... names one; otherwise it is
# the one .venv was made with, else the newest that fits. Each candidate is really run, because a version
# manager's shim can exist and fail.
cd "$(dirname "$0")/.." || exit 2

in_range='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
has_venv='import ensurepip, venv'

runs() { "$1" -c "$2" >/dev/null 2>&1; }

if [ -n "${PYTHON:-}" ]; then
    if ! runs "$PYTHON" 'import sys; sys.exit(sys.version_info < (3, 6))'; then
        echo "PYTHON=$PYTHON does not run as a Python 3 here; name another, such as PYTHON=python3.12." >&2
        exit 2
    fi
    exec "$PYTHON" install/bootstrap.py "$@"
fi

if runs .venv/bin/python "$in_range"; then
    exec .venv/bin/python install/bootstrap.py "$@"
fi
for need in "$in_range; $has_venv" "$in_range" 'import sys; sys.exit(sys.version_info < (3, 6))'; do
    for python in python3.13 python3.12 python3.11 python3 python; do
        if runs "$python" "$need"; then
            exec "$python" install/bootstrap.py "$@"
        fi
    done
done
echo "No Python found: install Python 3.11, 3.12 or 3.13, or name one, such as PYTHON=/opt/python/bin/python3." >&2
exit 2
