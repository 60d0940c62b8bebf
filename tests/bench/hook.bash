#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The hook that one writes in an afternoon, in bash: whole or not at all, and durable.
name=$(date +%s%N)-$$
cat >"$VIRTSPOOL_SPOOLDIR/tmp/$name"
sync "$VIRTSPOOL_SPOOLDIR/tmp/$name"
mv "$VIRTSPOOL_SPOOLDIR/tmp/$name" "$VIRTSPOOL_SPOOLDIR/new/$name"
sync "$VIRTSPOOL_SPOOLDIR/new"
