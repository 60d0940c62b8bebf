#!/bin/sh
# Makes configure from configure.ac, after a clone.
set -e
cd "$(dirname "$0")"
exec autoreconf --install --force "$@"
