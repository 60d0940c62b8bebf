# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A second, independent reader of the record's format (hook/record.c), so that writer and parser cannot agree on an error.

    record = Record.parse(data)      raises Torn, with what is wrong
    record.id, .epoch, .sequence, .driver, .object, .operation, .suboperation, .extra, .arguments, .flags, .document
"""

from dataclasses import dataclass, field
from functools import cache


class Torn(Exception):
    pass


@cache
def _table():
    table = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
        table.append(i)
    return table


def crc32c(data, crc=0):
    table = _table()
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _unescape(value):
    head, *rest = value.split(b"%")
    return head + b"".join(bytes([int(part[:2], 16)]) + part[2:] for part in rest)


@dataclass
class Record:
    id: str
    epoch: str
    sequence: int
    recorded: str
    driver: bytes
    argc: int
    object: bytes | None
    operation: bytes | None
    suboperation: bytes | None
    extra: bytes | None
    arguments: list
    document: bytes
    flags: set = field(default_factory=set)
    redacted: int = 0

    @classmethod
    def parse(cls, data, check_sum=True):
        """check_sum=False: for documents of many MiB, over which this sum takes seconds."""
        header, blank, document = data.partition(b"\n\n")
        lines = header.split(b"\n")
        if not blank or lines[0] != b"virtspool-record 1":
            raise Torn(f"no header: {data[:80]!r}")
        if not lines[-1].startswith(b"crc32c: "):
            raise Torn("no checksum")
        values, arguments = {}, []
        for line in lines[1:]:
            key, _, value = line.partition(b": ")
            key = key.decode() if _ else line.rstrip(b":").decode()
            if key == "argument":
                arguments.append(_unescape(value))
                continue
            if key in values:
                raise Torn(f"{key} twice")
            values[key] = value
        if int(values["length"]) != len(document):
            raise Torn(f"{len(document)} bytes of {int(values['length'])}")
        if check_sum and crc32c(header[: header.rindex(b"crc32c: ")] + document) != int(values["crc32c"], 16):
            raise Torn("the checksum does not match")
        named = {k: _unescape(values[k]) if k in values else None for k in _NAMED}
        return cls(
            id=values["id"].decode(),
            epoch=values["epoch"].decode(),
            sequence=int(values["sequence"]),
            recorded=values["recorded"].decode(),
            argc=int(values["arguments"]),
            arguments=arguments,
            document=document,
            flags=set(values.get("flags", b"").decode().split()),
            redacted=int(values.get("redacted", b"0")),
            **named,
        )


_NAMED = ("driver", "object", "operation", "suboperation", "extra")


def read_records(directory, check_sum=True):
    """{name: Record} of a directory; a file that is no whole record raises Torn."""
    records = {}
    if directory.exists():
        for path in sorted(directory.iterdir()):
            records[path.name] = Record.parse(path.read_bytes(), check_sum)
            if records[path.name].id != path.name:
                raise Torn(f"{path.name} holds {records[path.name].id}")
    return records
