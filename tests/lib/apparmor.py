# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What an AppArmor profile allows, against what a program does, on a kernel without AppArmor.

    profile = Profile(path)                 # apparmor_parser reads it, with all that it includes, and must accept it
    profile.allows("/etc/shadow", "r")      # r, w, k (lock), m (map to execute), l (link), x (execute, confined as before)
    profile.capabilities                    # ["chown", ...]
    accesses(path, {"/tmp/x/spool": "/var/spool/virtspool"})      # {(path, access)} of a trace by lib.trace.tracing()

The kernel's rules as of Linux 6.1: what a name is looked up for is not mediated, nor is a descriptor of O_PATH; a
directory's name ends in a slash; a rename reads, writes and creates. `owner` is taken for granted.
"""

import re
import subprocess

from .programs import tool

RULE = re.compile(r"(?:audit\s+)?(deny\s+)?(?:owner\s+)?([/@]\S*)\s+([a-zA-Z]+)(?:\s*->.*)?,")
VARIABLE = re.compile(r"@\{(\w+)\}\s*\+?=\s*(.*)")


class Profile:
    def __init__(self, path, include=None):
        """include: one more directory in which to look for <...>."""
        command = [tool("apparmor_parser"), "--skip-kernel-load", "--skip-cache"]
        command += ["--Include", str(include)] if include else []
        subprocess.run([*command, str(path)], check=True, capture_output=True, timeout=60)
        done = subprocess.run([*command, "-p", str(path)], check=True, capture_output=True, text=True, timeout=60)
        self.variables, self.allowed, self.denied, self.capabilities = {}, [], [], []
        inside = False
        for line in done.stdout.splitlines():
            line = line.partition("#")[0].strip()
            if line.startswith("profile ") and inside:
                break  # another one within it
            inside = inside or line.startswith("profile ")
            self._take(line)

    def _take(self, line):
        if match := VARIABLE.fullmatch(line):
            self.variables.setdefault(match[1], []).extend(v.strip('"') for v in match[2].split())
        elif match := re.fullmatch(r"capability (\w+),", line):
            self.capabilities.append(match[1])
        elif match := RULE.fullmatch(line):
            (self.denied if match[1] else self.allowed).append((re.compile(self._regex(match[2])), match[3]))

    def _expand(self, text):
        def values(match):
            slash = match[2]  # of "@{PROC}/self", where the value ends in one, too
            return "{" + ",".join(v.rstrip("/") if slash else v for v in self.variables[match[1]]) + "}" + slash

        while "@{" in text:
            text = re.sub(r"@\{(\w+)\}(/?)", values, text)
        return text

    def _regex(self, glob):
        token = re.compile(r"\*\*|\*|\?|\{|\}|,|\[[^]]*\]|\\.|.")
        out, depth = "", 0
        for t in token.findall(self._expand(glob)):
            some = "+" if out.endswith("/") else "*"
            depth += (t == "{") - (t == "}")
            out += {
                "**": "." + some,
                "*": "[^/]" + some,
                "?": "[^/]",
                "{": "(?:",
                "}": ")",
                ",": "|" if depth else ",",
            }.get(t, t if t[0] in "[\\" else re.escape(t))
        return out

    def allows(self, path, access):
        wanted = "ix" if access == "x" else access
        return any(wanted in given and rule.fullmatch(path) for rule, given in self.allowed) and not any(
            access in given and rule.fullmatch(path) for rule, given in self.denied
        )


AT = r'(?:(?:AT_FDCWD|\d+)(?:<([^>]*)>)?, )?"((?:[^"\\]|\\.)*)"'
LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>)?(.*)")


def whole_calls(path):
    """(name, arguments and result), with what strace tells in two halves put together; only those that succeeded."""
    begun = {}
    with open(path, encoding="utf-8", errors="replace") as f:
        for line in f:
            thread, resumed, text = LINE.match(line.rstrip("\n")).groups()
            if resumed:
                text = begun.pop(thread) + text
            if text.endswith(" <unfinished ...>"):
                begun[thread] = text.removesuffix(" <unfinished ...>")
            elif (match := re.match(r"(\w+)\((.*)", text)) and not re.search(r"\) += -1 E", text):
                yield match.groups()


def of_call(name, text):
    """[(path, access)] of one call."""
    names = [f"{at}/{p}" if at and not p.startswith("/") else p for at, p in re.findall(AT, text)]
    opened = re.search(r"= \d+<([^>]*)>", text)
    held = re.match(r"\d+<(/[^>]*)>", text)
    if name in ("open", "openat", "creat") and opened and "O_PATH" not in text:
        target = opened[1] + ("/" if "O_DIRECTORY" in text else "")
        both = "O_RDWR" in text
        return [(target, a) for a, does in (("r", both or "O_WRONLY" not in text), ("w", both or "O_WRONLY" in text)) if does]
    if name == "mmap" and "PROT_EXEC" in text and (mapped := re.search(r"\d+<(/[^>]*)>", text)):
        return [(mapped[1], "m")]
    if name.startswith("rename"):
        return [(names[0], "r"), (names[0], "w"), (names[1], "w")]
    if name in ("mkdir", "mkdirat", "rmdir") or "AT_REMOVEDIR" in text:
        return [(names[0] + "/", "w")]
    if name in ("unlink", "unlinkat", "chmod", "fchmodat", "chown", "fchownat", "truncate") and names[0]:
        return [(names[0], "w")]
    if name in ("fchmod", "fchown", "ftruncate") and held:
        return [(held[1], "w")]
    if name.startswith("link"):
        return [(names[1], "l")]
    if name == "flock" and held and "LOCK_UN" not in text:
        return [(held[1], "k")]
    if name == "execve":
        return [(names[0], "x")]
    if name in ("bind", "connect", "sendto", "sendmsg") and (
        there := re.search(r'sun_path="(/(?!proc/self/fd/)[^"]*)"', text)  # which leads to what was bound
    ):
        return [(there[1], "w")]
    return []


def accesses(trace, places):
    """places: what a test's directories stand for, {directory: where it is in an installed system}."""
    found = set()
    for name, text in whole_calls(trace):
        for path, access in of_call(name, text):
            place = next((p for p in places if path == p or path.startswith(p + "/")), None)
            found.add((places[place] + path[len(place) :] if place else path, access))
    return found
