#!/usr/bin/env bash
# Installs reconciler, as it is at the commit of this action, into a place of its own; packages are pinned by hash.
set -euo pipefail
# -I everywhere: a venv.py in the root of a pull request must not be what Python runs.
root=$(cd "$(dirname "$0")/../.." && pwd)
venv=$RUNNER_TEMP/reconciler-venv
python3 -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "::error::Python 3.11 or newer is needed: runs-on: ubuntu-24.04, or actions/setup-python before this step"
  exit 1
}
python3 -I -m venv "$venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1
"$venv/bin/pip" install --quiet --require-hashes -r "$root/integrations/requirements.lock"
"$venv/bin/pip" install --quiet --no-deps --no-build-isolation --no-index "$root"
echo "$venv/bin" >> "$GITHUB_PATH"
