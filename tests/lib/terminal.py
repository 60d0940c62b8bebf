# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real terminal to type at and to look at: the fixture `terminal` makes as many as a test wants, and closes them."""

import os
import subprocess
import time

from .programs import program, tool
from .waiting import wait_until


class Terminal:
    """tmux, on a socket of its own. `$V` is virtspool; bash is the shell unless another one is named."""

    def __init__(self, bed, environment=None, columns=160, rows=50, shell="bash --norc --noprofile -i"):
        self.tmux = [tool("tmux"), "-f", "/dev/null", "-S", f"/tmp/virtspool-tmux-{os.getpid()}-{time.monotonic_ns()}"]
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "V": program("virtspool"),
            "TERM": "xterm-256color",
            "LC_ALL": "C.UTF-8",
            **bed.spool.environment,
            **(environment or {}),
        }
        self.environment = environment
        self.run("new-session", "-d", "-x", str(columns), "-y", str(rows), shell)
        if shell.startswith("bash"):
            self.wait("bash-")

    def run(self, *arguments):
        return subprocess.run(
            [*self.tmux, *arguments], capture_output=True, text=True, timeout=10, check=True, env=self.environment
        ).stdout

    def type(self, line):
        self.run("send-keys", "-l", line)
        self.run("send-keys", "Enter")

    def press(self, *keys):
        """Keys by tmux's names: Tab, Enter, C-c, or text."""
        self.run("send-keys", *keys)

    def screen(self, *options):
        return self.run("capture-pane", "-p", *options)

    def wait(self, text):
        return wait_until(lambda: (s := self.screen()) and text in s and s, 20, what=lambda: f"'{text}' on the screen:\n{self.screen()}")

    def close(self):
        subprocess.run([*self.tmux, "kill-server"], capture_output=True, timeout=10, check=False)
        if os.path.exists(self.tmux[-1]):
            os.unlink(self.tmux[-1])
