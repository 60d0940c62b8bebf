# SPDX-License-Identifier: LGPL-2.1-or-later
"""
tests/faults/inject.c: runs a program and makes one of its system calls fail, or kills it there.

    injector = Injector(directory)                  # compiled into directory
    points = injector.trace(command, ...)           # [Point(process, n, number, name)]: what the program calls
    run = injector.run(command, "0.7:errno=28", ...)
    run.status, run.stdout, run.stderr, run.points
"""

import os
import re
import subprocess
from collections import namedtuple
from functools import cache

from .programs import ROOT, missing

Point = namedtuple("Point", "process n number name")
Run = namedtuple("Run", "status stdout stderr points")


@cache
def syscall_names():
    out = subprocess.run(
        ["cc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {int(number): name for name, number in re.findall(r"#define __NR_(\w+) (\d+)\n", out)}


class Injector:
    def __init__(self, directory):
        self.program = directory / "inject"
        self.report = directory / "inject.report"
        subprocess.run(
            [os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-o", self.program]
            + [ROOT / "tests/faults/inject.c"],
            check=True,
        )
        if subprocess.run([self.program], capture_output=True).returncode == 77:
            missing("inject knows x86_64 only")

    def run(self, command, injection=None, clock=None, stdin=b"", env=None, timeout=30):
        """clock: "+3600" shifts CLOCK_REALTIME, "1000" sets it."""
        options = ["-o", self.report]
        if injection:
            options += ["-i", injection]
        if clock is not None:
            options += ["-c" if clock[0] in "+-" else "-C", clock]
        done = subprocess.run(
            [self.program, *options, "--", *command],
            input=stdin,
            capture_output=True,
            env=env,
            timeout=timeout,
        )
        points, names = [], syscall_names()
        for line in self.report.read_text().splitlines():
            where, _, number = line.partition(" ")
            if where != "end":
                process, _, n = where.partition(".")
                points.append(Point(int(process), int(n), int(number), names.get(int(number), number)))
        return Run(done.returncode, done.stdout, done.stderr, points)
