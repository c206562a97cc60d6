#!/bin/sh
# Trains the digits example, with all set-up on the first call. Arguments go to examples/digits.py.
# FLATGRAD_VENV: the virtual environment to make or reuse; PYTHON: the Python to make it with.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=${FLATGRAD_VENV:-.venv}
stamp=$venv/flatgrad-examples-installed

if [ ! "$stamp" -nt pyproject.toml ]; then
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "flatgrad needs Python 3.11")'
        "$python" -m venv "$venv"
    fi
    "$venv/bin/python" -m pip install --quiet --editable '.[examples]'
    touch "$stamp"
fi
exec "$venv/bin/python" examples/digits.py "$@"
