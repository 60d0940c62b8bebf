# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Signed events are verified by the recipes, which know nothing but virtspool-events(7) and share no code with the project.

    verify(payload, pem)                    by etc/recipes/verify-event.py
    verify_in_javascript(payloads, file)    by verify-event.js: a list of booleans
"""

import runpy
import subprocess

from .programs import ROOT, tool

_recipe = runpy.run_path(str(ROOT / "etc/recipes/verify-event.py"))
verify, digest = _recipe["verify"], _recipe["digest"]


def verify_in_javascript(payloads, certificate_file):
    command = [tool("node"), ROOT / "etc/recipes/verify-event.js", certificate_file]
    done = subprocess.run(command, input=b"\n".join(payloads), capture_output=True, timeout=60, check=True)
    return [line == "verified" for line in done.stdout.decode().splitlines()]
