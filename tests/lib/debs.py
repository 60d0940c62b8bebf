# SPDX-License-Identifier: LGPL-2.1-or-later
"""Other versions of our Debian packages, made from those that were built."""

import re
import subprocess


def with_version(package, version, directory):
    """The same package as `version`, with its dependencies on ours, and another hook if it has one; in `directory`."""
    tree = directory / "tree"
    subprocess.run(["rm", "-rf", tree], check=True)
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True, timeout=60)
    control = tree / "DEBIAN/control"
    text = control.read_text()
    old = re.search("^Version: (.*)", text, re.M)[1]
    control.write_text(text.replace(f"Version: {old}", f"Version: {version}").replace(f"(= {old})", f"(= {version})"))
    hook = tree / "usr/libexec/virtspool/virtspool-hook"
    if hook.exists():
        with open(hook, "ab") as f:
            f.write(version.encode())
    result = directory / package.name.replace(f"_{old}_", f"_{version}_")
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, result], check=True, timeout=60, stdout=subprocess.DEVNULL)
    return result
