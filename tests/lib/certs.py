# SPDX-License-Identifier: LGPL-2.1-or-later
"""A throw-away certificate authority, made by scripts/make-certs."""

import subprocess
from pathlib import Path

from .programs import ROOT, tool


class Certs:
    """certs.ca, certs.pem("host"), certs.key("host"); names made at once: broker, host, consumer."""

    def __init__(self, directory):
        self.directory = Path(directory)
        tool("certtool")
        self._make()

    @property
    def ca(self):
        return self.directory / "ca.pem"

    def pem(self, name):
        return self.directory / f"{name}.pem"

    def key(self, name):
        return self.directory / f"{name}.key"

    def server(self, name, *names, ca="ca", expired=False):
        """One more server certificate, for these DNS names and IP addresses."""
        self._make("server", name, *names, ca=ca, expired=expired)
        return name

    def client(self, name, ca="ca", expired=False):
        self._make("client", name, ca=ca, expired=expired)
        return name

    def authority(self, name):
        self._make("authority", name)
        return name

    def _make(self, *arguments, ca="ca", expired=False):
        options = ["--ca", ca] + (["--expired"] if expired else [])
        subprocess.run(
            [ROOT / "scripts/make-certs", *options, self.directory, *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
