# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A PKCS#11 token (SoftHSM) with one key and its certificate; the PIN is 1234.

    token = Token(bed.directory, bed.certs.key("host"), bed.certs.pem("host"))
    daemon.environment |= token.environment
    token.certificate, token.key        URIs
"""

import os
import subprocess

from .programs import missing, tool

MODULE = "/usr/share/p11-kit/modules/softhsm2.module"
PIN = "1234"


class Token:
    URI = "pkcs11:token=virtspool;object=host;type="
    certificate, key = URI + "cert", URI + "private"

    def __init__(self, directory, key, certificate):
        util = tool("softhsm2-util")
        if not os.path.exists(MODULE):
            missing(f"{MODULE} is not there (softhsm2)")
        (directory / "tokens").mkdir()
        config = directory / "softhsm2.conf"
        config.write_text(f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.environment = {"SOFTHSM2_CONF": str(config)}
        p8 = directory / "token.p8"
        self._run(tool("openssl"), "pkcs8", "-topk8", "-nocrypt", "-in", key, "-out", p8)
        self._run(util, "--init-token", "--free", "--label", "virtspool", "--pin", PIN, "--so-pin", "5678")
        self._run(util, "--import", p8, "--token", "virtspool", "--label", "host", "--id", "01", "--pin", PIN)
        login = ["--login", f"--set-pin={PIN}", "pkcs11:token=virtspool"]
        self._run(tool("p11tool"), "--write", "--id=01", "--label=host", f"--load-certificate={certificate}", *login)

    def _run(self, *command):
        environment = {**os.environ, **self.environment}
        subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
