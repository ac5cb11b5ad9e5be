#!/usr/bin/env bash
# Make .venv with a Python of at least 3.11 and put uv into it. Usage: tools/setup_venv.sh FOLDER
# $PYTHON names another interpreter than the first suitable one on PATH.
set -euo pipefail

folder=$1
root=$(cd "$(dirname "$0")/.." && pwd)
is_suitable='import sys; sys.exit(sys.version_info < (3, 11))'

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
        if "$candidate" -c "$is_suitable" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "setup: Python 3.11 or newer is missing. Install it, or name one: make setup PYTHON=/path/to/python3" >&2
    return 1
}

python=$(find_python)
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    # Debian and its relatives ship Python without the module that puts pip into an environment.
    package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing $package"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null
    else
        echo "setup: $python cannot create environments. Install the system package $package and run again." >&2
        exit 1
    fi
fi

echo "setup: $folder with $("$python" --version)"
"$python" -m venv --clear "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
    --requirement "$root/requirements-bootstrap.lock"
