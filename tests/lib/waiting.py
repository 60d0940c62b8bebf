# SPDX-License-Identifier: LGPL-2.1-or-later
"""Waiting for a condition, never for a time."""

import os
import random
import socket
import time

# Deadlines are for a machine that has nothing else to do; scripts/test, which fills it, is more patient.
PATIENCE = float(os.environ.get("VIRTSPOOL_PATIENCE") or 1)


def wait_until(condition, deadline=10.0, what=None, interval=0.01):
    """Returns the first true value of condition(); fails with `what` (a string or a callable) after `deadline` s."""
    deadline *= PATIENCE
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {deadline:g} s: {text or condition}")
        time.sleep(interval)
        interval = min(interval * 1.5, 0.1)


def free_port():
    """
    A TCP port of 127.0.0.1 that nobody uses now. It is none of those that the kernel gives to clients: one of them could
    take it while the broker that listens there is down for a moment.
    """
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
        end = int(f.read().split()[0])
    while True:
        port = random.SystemRandom().randrange(max(1024, end - 16384), max(1025, end))
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
