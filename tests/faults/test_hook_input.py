# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What the hook is given: stdin that never ends, is huge, hangs, is closed, is no pipe; any number of arguments, of any
length, with any bytes. Always exit status 0 and silence (lib.Hook asserts it), within bounded time and memory, and the
record gives back the same bytes or says that it was cut.
"""

import os
import resource
import signal
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
from lib import Hook, Spool, domain_xml, wait_until
from lib.programs import program, sanitized
from lib.record import read_records

DOCUMENT_MAX = 8 << 20
VALUE_MAX = 4096
ARGUMENTS_MAX = 4 + 16


@pytest.fixture
def hook():
    directory = Path(tempfile.mkdtemp(prefix="virtspool-", dir="/dev/shm"))
    yield Hook(Spool(directory))
    shutil.rmtree(directory)


def only(hook, check_sum=True):
    """The one record."""
    path = hook.spool.path("new")
    ((name, record),) = read_records(path, check_sum).items()
    (path / name).unlink()
    assert hook.spool.names("tmp") == [] and hook.spool.names("emergency/new") == []
    return record


def large(hook, document, check_sum=False):
    """The record of a call in which the machine was fast enough for the hook's own limits of time: two seconds to read."""
    for _ in range(20):
        took = hook.raw(["vm1", "started", "begin", "-"], document=document)
        assert took < 5
        if took < 2:
            return only(hook, check_sum)
        for directory in ("new", "emergency/new"):
            for name in hook.spool.names(directory):
                (hook.spool.path(directory) / name).unlink()
    raise AssertionError("20 calls took two seconds or more")


def test_megabytes(hook):
    """100 MiB: the first eight are kept, and that is said."""
    document = b"<domain>" + b"x" * (100 << 20)
    record = large(hook, document)
    assert record.document == document[:DOCUMENT_MAX] and record.flags == {"document-truncated"}


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, DOCUMENT_MAX - 1, DOCUMENT_MAX, DOCUMENT_MAX + 1])
def test_sizes(hook, size):
    document = bytes(range(1, 60)) * (size // 59 + 1)
    document = document[:size]
    record = large(hook, document, check_sum=size < 100000)
    assert record.document == document[:DOCUMENT_MAX]
    assert record.flags == ({"document-truncated"} if size > DOCUMENT_MAX else set())


def test_all_bytes(hook):
    document = b"all " + bytes(range(256)) * 16  # one that begins with a zero byte may be UTF-16, and is blanked whole
    hook.raw(["vm1", "started", "begin", "-"], document=document)
    record = only(hook)
    # One '<' begins something that looks like a tag; none of it is a secret.
    assert record.document == document and not record.redacted


def test_never_ending_stdin(hook):
    """A writer that never stops: what fits is kept."""
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as writer:
        took = hook.raw(["vm1", "started", "begin", "-"], document=writer.stdout)
        writer.kill()
    record = only(hook, check_sum=False)
    assert took < 5 and len(record.document) == DOCUMENT_MAX and record.flags == {"document-truncated"}


@pytest.mark.parametrize("written", [b"", b"<domain>half"])
def test_silent_stdin(hook, written):
    """A writer that neither writes nor closes: two seconds, then what came."""
    r, w = os.pipe()
    os.write(w, written)
    took = hook.raw(["vm1", "started", "begin", "-"], document=r)
    os.close(w)
    os.close(r)
    record = only(hook)
    assert 1.5 < took < 5 and record.document == written and record.flags == {"document-truncated"}


def test_killed_while_it_waits_for_stdin(hook):
    """Its number is taken by then: what was not recorded is a hole."""
    hook("prepare")
    stamp = hook.spool.rundir / "hook/stamp"
    before = stamp.read_bytes()
    r, w = os.pipe()
    process = subprocess.Popen([hook.installed(), "vm1", "started", "begin", "-"], stdin=r, env=hook.environment)
    wait_until(lambda: stamp.read_bytes() != before, 5, "it has its number")
    process.kill()
    process.wait()
    os.close(r)
    os.close(w)
    hook("stopped")
    assert [(r.operation, r.sequence) for r in read_records(hook.spool.path("new")).values()] == [(b"prepare", 1), (b"stopped", 3)]


def test_dripping_stdin(hook):
    """A byte now and then keeps nobody waiting either."""
    r, w = os.pipe()
    stop = threading.Event()

    def drip():
        while not stop.wait(0.05):
            os.write(w, b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    took = hook.raw(["vm1", "started", "begin", "-"], document=r)
    stop.set()
    dripping.join()
    os.close(w)
    os.close(r)
    record = only(hook)
    assert took < 5 and record.document.strip(b"x") == b"" and record.flags == {"document-truncated"}


def test_late_stdin(hook):
    """A document that comes in two parts with a pause is whole."""
    r, w = os.pipe()
    document = domain_xml("vm1")

    def write():
        os.write(w, document[:100])
        time.sleep(0.3)
        os.write(w, document[100:])
        os.close(w)

    writer = threading.Thread(target=write)
    writer.start()
    hook.raw(["vm1", "started", "begin", "-"], document=r)
    writer.join()
    os.close(r)
    record = only(hook)
    assert record.document == document and not record.flags


def test_nonblocking_stdin(hook):
    r, w = os.pipe()
    os.set_blocking(r, False)
    timer = threading.Timer(0.2, lambda: (os.write(w, b"<domain/>"), os.close(w)))
    timer.start()
    hook.raw(["vm1", "started", "begin", "-"], document=r)
    timer.join()
    os.close(r)
    record = only(hook)
    assert record.document == b"<domain/>" and not record.flags


def test_stdin_is_no_pipe(hook, tmp_path):
    (tmp_path / "file").write_bytes(b"<domain/>")
    for path, expected in ((tmp_path / "file", b"<domain/>"), ("/dev/null", b""), (tmp_path, b"")):
        fd = os.open(path, os.O_RDONLY)
        hook.raw(["vm1", "started", "begin", "-"], document=fd)
        os.close(fd)
        assert only(hook).document == expected


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors(hook, closed):
    """Nothing of the hook's own may then get into their places: no stamp is read as a document, no record as output."""
    command = [hook.installed(), "vm1", "started", "begin", "-"]
    for _ in range(2):
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *command],
            input=b"<domain/>",
            capture_output=True,
            env=hook.environment,
            timeout=10,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        record = only(hook)
        assert record.document == (b"" if "<" in closed else b"<domain/>") and not record.flags


def test_stdin_is_write_only(hook, tmp_path):
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    hook.raw(["vm1", "started", "begin", "-"], document=fd)
    os.close(fd)
    assert only(hook).document == b""
    assert (tmp_path / "file").read_bytes() == b""


def test_broken_output(hook):
    """libvirtd died: stdout and stderr are pipes that nobody reads."""
    r, w = os.pipe()
    os.close(r)
    done = subprocess.run([hook.installed(), "vm1", "stopped"], input=b"", stdout=w, stderr=w, env=hook.environment)
    os.close(w)
    assert done.returncode == 0
    assert only(hook).operation == b"stopped"


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 19, 20, 21, 100])
def test_number_of_arguments(hook, n):
    arguments = [f"argument {i}" for i in range(n)]
    hook.raw(arguments)
    record = only(hook)
    kept = [a.encode() for a in arguments[:ARGUMENTS_MAX]]
    named = [record.object, record.operation, record.suboperation, record.extra]
    assert record.argc == n
    assert [a for a in named if a is not None] + record.arguments == kept
    assert named[n:] == [None] * max(0, 4 - n)
    assert record.flags == ({"arguments-truncated"} if n > ARGUMENTS_MAX else set())


def test_no_argument_at_all(hook):
    """Not even the program's name: then the file's name tells the driver."""
    code = "import ctypes, sys; ctypes.CDLL(None).execv(sys.argv[1].encode(), (ctypes.c_char_p * 1)(None))"
    command = ["/usr/bin/python3", "-c", code, hook.installed("lxc")]
    subprocess.run(command, input=b"", check=True, env=hook.environment, timeout=10)
    record = only(hook)
    assert (record.driver, record.argc, record.object) == (b"lxc", 0, None)


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("size", [0, 1, VALUE_MAX, VALUE_MAX + 1, 131071])
def test_long_arguments(hook, size, place):
    """128 KiB is what the kernel allows one argument, its end included."""
    arguments = [b"vm1", b"started", b"begin", b"-", b"more"]
    arguments[place] = (b"\xff\n" * size)[:size]
    hook.raw(arguments)
    record = only(hook)
    found = [record.object, record.operation, record.suboperation, record.extra, *record.arguments]
    assert found[place] == arguments[place][:VALUE_MAX]
    assert found[:place] + found[place + 1 :] == arguments[:place] + arguments[place + 1 :]
    assert record.flags == ({"arguments-truncated"} if size > VALUE_MAX else set())


def test_every_byte_in_every_argument(hook):
    everything = bytes(range(1, 256))
    hook.raw([everything] * 6)
    record = only(hook)
    found = [record.object, record.operation, record.suboperation, record.extra, *record.arguments]
    assert found == [everything] * 6


NAMES = [
    b"", b" ", b"\t", b"-", b"--", b"-n", b"--version", b"--help", b".", b"..", b"../../etc/passwd", b"/", b"a/b", b"a\nb",
    b"id: x\n\n", b"%00%", b"%s%n%n", b"$(reboot)", b"`reboot`", b";", b"*", b"'\"", b"\x00"[:0], b"\x1b[2J", b"\xc3\xa4",
    b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"x" * 1000, "\u2028\u202e".encode(),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names(hook, name):
    """A guest's name comes back, and chooses no file."""
    hook.raw([name, "started", "begin", "-"])
    assert only(hook).object == name
    hook.raw([name])
    assert only(hook).object == name


def test_version(hook):
    """Only the program under its own name, alone with the option, prints: no libvirt calls it so."""
    done = subprocess.run([program("virtspool-hook"), "--version"], capture_output=True, text=True, env=hook.environment)
    assert done.returncode == 0 and done.stdout.startswith("virtspool-hook ")
    assert hook.spool.names() == []
    hook.raw(["--version", "started", "begin", "-"], driver="virtspool-hook")
    assert only(hook).object == b"--version"


@pytest.mark.parametrize(
    "path, driver",
    [
        ("qemu", b"qemu"),
        ("lxc", b"lxc"),
        ("network", b"network"),
        ("qemu.d/virtspool", b"qemu"),
        ("libxl.d/50-x", b"libxl"),
        ("d/daemon", b"daemon"),
        (".d/bhyve", b"bhyve"),
        ("strange name%", b"strange name%"),
    ],
)
def test_driver(hook, path, driver):
    hook("started", driver=path)
    assert only(hook).driver == driver


def test_secrets(hook):
    hook("migrate", document=domain_xml("vm1", password="s3cr3t'<&"))
    (name,) = hook.spool.names()
    data = hook.spool.read("new", name)
    assert b"s3cr3t" not in data and b"passwd=''" in data
    record = only(hook)
    assert record.redacted == 1


def test_memory_and_descriptors(hook):
    """Under tight limits: a table of eight descriptors, and 32 MiB of address space for the largest of inputs."""

    memory = 32 << 20 if not sanitized("virtspool-hook") else resource.RLIM_INFINITY

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    done = subprocess.run(
        [hook.installed(), *["x" * 100000] * 10],
        input=b"x" * (20 << 20),
        capture_output=True,
        env=hook.environment,
        preexec_fn=limit,
        timeout=10,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    record = only(hook, check_sum=False)
    assert len(record.document) == DOCUMENT_MAX
    assert record.flags == {"document-truncated", "arguments-truncated"}


@pytest.mark.parametrize("disposition", [signal.SIG_DFL, signal.SIG_IGN], ids=["default", "ignored"])
def test_inherited_signals(hook, disposition):
    """
    The end of the hook's child is a signal: it arrives where its parent ignores that, and one that waited already is not
    taken for the child's end.
    """
    stray = signal.SIGURG

    def inherit():
        signal.pthread_sigmask(signal.SIG_BLOCK, [stray])
        os.kill(os.getpid(), stray)
        for s in (signal.SIGCHLD, stray):
            signal.signal(s, disposition)

    done = subprocess.run(
        [hook.installed(), "vm1", "started", "begin", "-"],
        input=domain_xml("vm1"),
        capture_output=True,
        env=hook.environment,
        preexec_fn=inherit,
        timeout=10,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert only(hook).object == b"vm1" and not hook.spool.names("emergency/new")
    # One that was not reaped would be given up: the mark says so.
    assert not (hook.spool.rundir / "hook/hung").exists()


def test_file_size_limit(hook):
    """SIGXFSZ would kill; blocked, it is an error of the disk, and of the emergency spool too."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    command = [hook.installed(), "vm1", "started", "begin", "-"]
    done = subprocess.run(
        command, input=domain_xml("vm1"), capture_output=True, env=hook.environment, preexec_fn=limit, timeout=10
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert hook.spool.names() == [] and hook.spool.names("tmp") == []


def test_no_process_left(hook):
    """No child of the hook outlives it in the usual case, not even as a zombie that process 1 has to reap."""
    name = f"hook-{os.getpid()}"  # not that of another run
    path = hook.installed(name)

    def left():
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                found += [stat] if f"({name})" in stat.read_text() else []
            except OSError:
                continue
        return found

    seen = 0
    for _ in range(30):
        assert subprocess.run([path, "vm1"], input=b"", env=hook.environment).returncode == 0
        seen += bool(left())
    assert seen < 5  # the hook waits 100 ms for its child's end, which on a crowded machine may come later


def test_umask(hook):
    """libvirtd's umask does not decide who may read a record."""
    previous = os.umask(0o777)
    try:
        hook("started")
    finally:
        os.umask(previous)
    (name,) = hook.spool.names()
    assert (hook.spool.path("new") / name).stat().st_mode & 0o777 == 0o640


def test_many_at_once(hook):
    """Many hooks that wait for one lock, and then all get it at once: every number once, every record whole."""
    n = 16  # as many as start within the second that a hook waits, also on a busy machine
    hook("prepare")
    threads = [threading.Thread(target=hook, args=("started",), kwargs={"domain": f"vm{i}"}) for i in range(n)]
    with hook.spool.locked():
        for t in threads:
            t.start()
    for t in threads:
        t.join()
    records = list(read_records(hook.spool.path("new")).values())
    assert sorted(r.sequence for r in records) == list(range(1, n + 2))
    assert [r.sequence for r in records] == sorted(r.sequence for r in records)
    assert len({r.object for r in records}) == n and not any(r.flags for r in records)
