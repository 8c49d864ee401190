#!/bin/sh
# Prints where a Chromium is, to try HTML reports in; CHROMIUM names one that is not on the path.
# Where there is none, it is installed if we are root on Debian, and named if we are not.
set -eu
find_one() {
  for candidate in "${CHROMIUM:-}" chromium chromium-browser google-chrome-stable google-chrome; do
    if [ -n "$candidate" ] && command -v "$candidate"; then exit 0; fi
  done
}
find_one
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  exec 9>/tmp/chromium-install.lock  # tests run side by side
  flock 9
  find_one
  echo "Installing chromium ..." >&2
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >&2
  find_one
fi
echo "Chromium is missing: HTML reports are tried in it. On Debian: sudo apt-get install chromium;" >&2
echo "elsewhere, CHROMIUM=PATH names one." >&2
exit 1
