#!/bin/sh
# Makes .venv with the pinned packages and the project itself; does nothing if that was done already.
# Usage: tools/setup.sh [VENV]
# A plain Debian has Python without venv and pip: then they are installed if we are root, and
# named if we are not.
set -eu
cd "$(dirname "$0")/.."
venv=${1:-.venv}
stamp="$venv/.installed"
want=$(cat requirements.lock pyproject.toml | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then exit 0; fi

python=
for candidate in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "Python 3.11 or newer is needed; none was found (set PYTHON to name one)." >&2
  exit 1
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing python3-venv ..." >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >&2
  else
    echo "Python's venv module is missing. On Debian and Ubuntu: sudo apt-get install python3-venv" >&2
    exit 1
  fi
fi

echo "Setting up $venv ..." >&2
rm -rf "$venv"
"$python" -m venv "$venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1
"$venv/bin/pip" install --quiet --require-hashes -r requirements.lock
"$venv/bin/pip" install --quiet --no-deps --no-build-isolation --no-index -e .
printf '%s' "$want" > "$stamp"
