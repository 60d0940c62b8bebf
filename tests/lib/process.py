# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A program that a test runs in the background.

It dies with us: setpriv asks the kernel to kill it when its parent (the thread that started it) is gone, and
stop_all(), called after each test, stops what that test left. What it writes goes to a file, so no pipe can fill.
"""

import os
import signal
import subprocess

from .programs import tool
from .waiting import PATIENCE, wait_until

_running = []


class Process:
    """arguments: the command; log: the file that gets its stdout and stderr, appended; environment: complete."""

    def __init__(self, arguments, log, environment=None, stdout=None, cwd=None, pass_fds=()):
        self.arguments = [str(a) for a in arguments]
        self.log = log
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(
                [tool("setpriv"), "--pdeathsig", "KILL", "--", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout or out,
                stderr=out,
                env=environment,
                cwd=cwd,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        self.pid = self.popen.pid
        _running.append(self)

    @property
    def running(self):
        return self.popen.poll() is None

    @property
    def returncode(self):
        return self.popen.poll()

    def signal(self, number):
        if self.running:
            os.kill(self.pid, number)

    def wait(self, deadline=10.0):
        """Waits for the end; returns the exit status (negative: the signal)."""
        try:
            status = self.popen.wait(deadline * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.arguments[0]} did not end within {deadline:g} s\n{self.output()}") from None
        self._forget()
        return status

    def stop(self, deadline=10.0):
        """SIGTERM, and an error if that does not end it in time."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(deadline)
        finally:
            self.kill()

    def kill(self):
        """SIGKILL, to its whole session as far as that is still in its process group."""
        if self.running:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.kill(self.pid, signal.SIGKILL)
            self.popen.wait()
        self._forget()

    def pause(self):
        """SIGSTOP; returns when it stands."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: self.state() in "TtX", what=f"{self.arguments[0]} stopped")

    def resume(self):
        self.signal(signal.SIGCONT)

    def state(self):
        """The kernel's letter: R, S, D, T, Z, or X if gone."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as f:
                return f.read().rpartition(")")[2].split()[0]
        except OSError:
            return "X"

    def memory_kib(self, field="VmRSS"):
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as f:
            return next(int(line.split()[1]) for line in f if line.startswith(field + ":"))

    def switches(self):
        """How often it was given a processor."""
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as f:
            return sum(int(line.split()[1]) for line in f if "ctxt_switches" in line)

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def output(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def wait_output(self, text, deadline=10.0):
        """Waits until `text` stands in the log."""
        wait_until(
            lambda: text in self.output() or not self.running and "ended",
            deadline,
            lambda: f"'{text}' in the output of {self.arguments[0]}:\n{self.output()}",
        )
        assert text in self.output(), f"{self.arguments[0]} ended without '{text}':\n{self.output()}"

    def _forget(self):
        if self in _running:
            _running.remove(self)


def stop_all():
    """Kills what is left; returns the names of what it was."""
    left = [p for p in _running if p.running]
    for p in list(reversed(_running)):
        p.kill()
    return [p.arguments[0] for p in left]
