# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The calls of the hook that libvirt documents, for every driver: CALLS = {driver: [(operation, sub-operation[, extra]), ...]}, and
what_the_hook_gets(driver): the object's name and the document on stdin.
"""

from .documents import domain_xml

START = [("prepare", "begin"), ("start", "begin"), ("started", "begin")]
STOP = [("stopped", "end"), ("release", "end")]
REASONS = (
    *("-", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "daemon", "unknown"),
    "from snapshot",  # one argument with a blank
)
RELEASES = [("release", "end", reason) for reason in REASONS]  # since libvirt 10.5.0
DOMAIN = [*START, ("reconnect", "begin"), *STOP, *RELEASES]
# "attach" was called until 5.10, "plugged" and "unplugged" are what network ports were until 5.5.
CALLS = {
    "qemu": [*DOMAIN, ("restore", "begin"), ("migrate", "begin"), ("attach", "begin")],
    "lxc": DOMAIN,
    "libxl": [*DOMAIN, ("restore", "begin"), ("migrate", "begin")],
    "bhyve": DOMAIN,
    "network": [
        *(("start", "begin"), ("started", "begin"), ("updated", "begin"), ("stopped", "end")),
        *(("port-created", "begin"), ("port-deleted", "begin"), ("plugged", "begin"), ("unplugged", "begin")),
    ],
    "daemon": [("start", "-", "start"), ("shutdown", "-", "shutdown"), ("reload", "begin", "SIGHUP")],
}
NETWORK = b"<hookData><network><name>net1</name><uuid>8b2a40a2-7d06-4f2b-9b38-f1a6e7aa6a40</uuid></network></hookData>"



def what_the_hook_gets(driver):
    if driver == "daemon":
        return "-", b""
    return ("net1", NETWORK) if driver == "network" else ("vm1", domain_xml("vm1"))
