# SPDX-License-Identifier: LGPL-2.1-or-later
"""scripts/demo: a loss is seen, an interruption leaves nothing behind, --keep leaves it running."""

import os
import pty
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from lib import BUILD, ROOT, program, wait_until
from lib.programs import missing


class Demo:
    """The demo on a terminal of its own, as its user sees it."""

    def __init__(self, *arguments):
        if os.geteuid() != 0:
            missing("the demo needs root")
        for name in ("virtspool-hook", "virtspoold", "virtspool"):
            program(name)
        self.tmp = Path(tempfile.mkdtemp(prefix="demo-"))
        self.text = ""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ.update(TMPDIR=str(self.tmp), VIRTSPOOL_BUILD=str(BUILD), TERM="xterm")
            os.environ.pop("NO_COLOR", None)
            os.execv(ROOT / "scripts/demo", ["demo", "--no-setup", *arguments])
        self.status = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while True:
            try:
                data = os.read(self.terminal, 65536)
            except OSError:  # EIO: nobody holds the other end any more
                data = b""
            if not data:
                break
            self.text += data.decode(errors="replace")
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def wait_text(self, text, deadline=60):
        wait_until(lambda: text in self.text or self.status is not None, deadline, lambda: f"'{text}' in:\n{self.text}")
        assert text in self.text, self.text

    def type(self, characters):
        os.write(self.terminal, characters)

    def wait(self, deadline=90):
        wait_until(lambda: self.status is not None, deadline, lambda: f"the demo ends:\n{self.text}")
        return self.status

    @property
    def directory(self):
        return next(self.tmp.glob("virtspool-demo.*"), None)

    def processes(self):
        """What has our directory in its command line."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if str(self.tmp).encode() in command:
                found.append((int(pid), command.replace(b"\0", b" ").decode(errors="replace")))
        return found

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
        self._reader.join(10)
        os.close(self.terminal)
        for pid, _ in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.tmp, ignore_errors=True)


@pytest.fixture
def demo():
    started = []

    def start(*arguments):
        started.append(Demo(*arguments))
        return started[-1]

    yield start
    for d in started:
        d.close()


def nothing_left(demo):
    wait_until(lambda: not demo.processes(), 5, lambda: f"nothing runs: {demo.processes()}")
    assert list(demo.tmp.iterdir()) == []


@pytest.mark.parametrize("moment", ["certificates", "virtspoold", "libvirtd", "virsh save", "broker is gone"])
def test_ctrl_c_leaves_nothing(demo, moment):
    d = demo()
    d.wait_text(moment)
    d.type(b"\x03")
    assert d.wait(20) == 130, d.text
    assert "interrupted" in d.text
    nothing_left(d)


def test_sigterm_leaves_nothing(demo):
    d = demo()
    d.wait_text("virsh restore")
    os.kill(d.pid, signal.SIGTERM)
    assert d.wait(20) == 130
    nothing_left(d)


def test_killed_it_takes_its_processes_along(demo):
    d = demo()
    d.wait_text("virsh restore")
    os.kill(d.pid, signal.SIGKILL)
    wait_until(lambda: not d.processes(), 5, lambda: f"nothing runs: {d.processes()}")


def test_a_loss_is_seen(demo):
    d = demo()
    d.wait_text("broker is gone")
    new = d.directory / "spool/new"
    name = wait_until(lambda: next(iter(os.listdir(new)), None), 20, "an event waits")
    (new / name).unlink()
    assert d.wait() == 1, d.text
    assert "events were lost" in d.text
    nothing_left(d)


def test_keep_leaves_it_running(demo):
    d = demo("--keep")
    assert d.wait() == 0, d.text
    assert "every event arrived" in d.text
    assert len(d.processes()) >= 5
    virsh = [ROOT / "tests/lib/node.sh", "virsh", d.directory / "node", "-q"]
    subprocess.run([*virsh, "start", "demo"], check=True, timeout=30, stdin=subprocess.DEVNULL)
    watched = d.directory / "watch.out"
    shown = lambda: [line for line in watched.read_text().splitlines() if " demo " in line]  # noqa: E731 - without statuses
    wait_until(lambda: len(shown()) == 35, 15, lambda: f"three more events are shown: {watched.read_text()}")
    subprocess.run([d.directory / "end"], check=True, timeout=30)
    nothing_left(d)
