# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool watch, in the background."""

from .process import Process
from .programs import program
from .waiting import wait_until


class Watch:
    """With options as mosquitto_sub has them, and no configuration file."""

    def __init__(self, bed, *options, certificate="consumer", broker=None, name="watch"):
        broker = broker or bed.broker
        self.out, self.log = bed.directory / f"{name}.out", bed.directory / f"{name}.log"
        command = [program("virtspool"), "watch", "-h", broker.host, "-p", broker.port]
        if broker.tls:
            command += ["--cafile", bed.certs.ca]
            command += ["--cert", bed.certs.pem(certificate), "--key", bed.certs.key(certificate)]
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **bed.spool.environment}
        with open(self.out, "wb") as out:
            self.process = Process([*map(str, command), *map(str, options)], self.log, environment, stdout=out)

    def watching(self):
        self.process.wait_output("watching")
        return self

    def lines(self):
        return self.out.read_text().splitlines()

    def wait_for(self, *words):
        wait_until(lambda: any(all(w in line for w in words) for line in self.lines()), 15, lambda: f"{words}: {self.lines()}")
        return self.lines()

    def fails(self):
        assert self.process.wait(20) == 1
        return self.process.output()
