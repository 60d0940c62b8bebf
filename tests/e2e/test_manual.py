# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The manual pages know each option, variable and exit code, and no other. Elsewhere: the keys of the configuration
(tests/unit/test-config.c), the fields of events and their example (tests/unit/test-event.c), the metrics (test_metrics.py),
the shells' completion (test_completion.py), the operations of hooks and event API (test_listener.py), a migration
(test_migration.py).

And the commands and configurations that README and pages show work, as far as they can be run here.
"""

import re
import subprocess

import pytest
from lib import BUILD, ROOT, program, wait_until
from lib.admin import COMMANDS
from lib.recipes import block

PAGES = sorted(p for pattern in ("hook/*.[1-8]", "spooler/*/*.[1-8]") for p in ROOT.glob(pattern))
GIVEN_BY_ARGP = {"-?", "--help", "--usage", "-V", "--version"}
SIMPLE = {"virtspoold": "spooler/daemon/virtspoold.8", "virtspool-listen": "spooler/listener/virtspool-listen.8"}


def page(name):
    return (ROOT / name).read_text()


def section(text, name, level="Sh"):
    """Up to the next of its level, or of a higher one."""
    found = re.search(rf"^\.{level} {re.escape(name)}\n(.*?)(?=^\.(?:Sh|{level}) |\Z)", text, re.M | re.S)
    assert found, name
    return found[1]


def options_told(text):
    """`.Fl j , Fl -json` in mdoc: {"-j", "--json"}."""
    return {"-" + name for name in re.findall(r"\bFl (?:\\&)?(-[a-z-]+|[A-Za-z?])(?=\s|$)", text, re.M)}


def options_of(*command):
    """Those that --help lists."""
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=30, check=True)
    return set(re.findall(r"(?<=[ ,])--?[a-zA-Z?][a-z-]*(?=[ ,=\[\n])", "\n".join(re.findall(r"^ +-.*\n", done.stdout, re.M))))


@pytest.mark.parametrize("name", SIMPLE)
def test_options_of_a_daemon(name):
    assert options_of(program(name)) == options_told(section(page(SIMPLE[name]), "DESCRIPTION"))


@pytest.mark.parametrize("command", COMMANDS)
def test_options_of_a_command(command):
    text = section(page("spooler/admin/virtspool.1"), "DESCRIPTION")
    general = options_told(text.split("\n.Ss ")[0])
    filters = options_told(section(text, "Filters", "Ss"))
    own = options_told(section(text, command, "Ss"))
    given = options_of(program("virtspool"), command)
    assert GIVEN_BY_ARGP <= general & given
    assert given <= own | general | filters
    assert own | (filters if "--since" in given else set()) <= given


def test_commands():
    said = subprocess.run([program("virtspool"), "--help"], capture_output=True, text=True, timeout=30, check=True).stdout
    assert set(re.findall(r"^  (\w+) ", said, re.M)) == set(COMMANDS)
    assert set(COMMANDS) == set(re.findall(r"^\.Ss ([a-z]+)$", page("spooler/admin/virtspool.1"), re.M))
    assert set(COMMANDS) == set(re.findall(r"^\.Nm\n\.Cm (\w+)$", page("spooler/admin/virtspool.1"), re.M))


def test_options_of_install_hook():
    given = options_of("sh", ROOT / "scripts/install-hook")
    synopsis = section(page("hook/virtspool-hook.8"), "SYNOPSIS").partition("install-hook")[2]
    assert given == {"-" + name for name in re.findall(r"(?:Fl|\|) (-[a-z]+)", synopsis)}
    assert given - {"--program", "--hooksdir"} <= options_told(section(page("hook/virtspool-hook.8"), "DESCRIPTION"))


@pytest.mark.parametrize("name", [*SIMPLE, "virtspool", "virtspool-hook", *(f"virtspool {c}" for c in COMMANDS)])
def test_every_program_tells_its_version(name):
    base, *command = name.split()
    done = subprocess.run([program(base), *command, "--version"], capture_output=True, text=True, timeout=30)
    version = re.search(r"AC_INIT\(\[virtspool\], *\[([^]]+)\]", page("configure.ac"))[1]
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{base} {version}\n", "")


@pytest.mark.parametrize(
    "sources, pages",
    [
        (["hook"], ["hook/virtspool-hook.8"]),
        (["spooler/*"], ["spooler/admin/virtspool.1", "spooler/daemon/virtspoold.8"]),
        (["spooler/listener"], ["spooler/listener/virtspool-listen.8"]),
    ],
)
def test_variables(sources, pages):
    files = [f for d in sources for f in ROOT.glob(f"{d}/*.c")]
    used = {v for f in files for v in re.findall(r'getenv\("(\w+)"\)', f.read_text())}
    told = {v for p in pages for line in re.findall(r"\bEv (.*)", page(p)) for v in re.findall(r"[A-Z_]{4,}", line)}
    assert used <= told
    from_elsewhere = {"TZ", "SHUTDOWN_TIMEOUT", "LESS", "LESSSECURE", "VIRTSPOOL_SPOOLDIR", "VIRTSPOOL_RUNDIR", "VIRTSPOOL_HOOKSDIR", "NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM", "DESTDIR"}
    assert told <= used | from_elsewhere, "nobody looks at it"


def test_the_events_of_libvirts_api():
    said = subprocess.run([program("virtspool-listen"), "--list-events"], capture_output=True, text=True, timeout=30, check=True)
    known = set(re.findall(r"^ *\d+ (\S+)$", said.stdout, re.M))
    text = page("spooler/listener/virtspool-listen.8")
    told = {w for line in re.findall(r"^\.(?:It )?Li (.*)$", text, re.M) for w in re.split(r"[ ,]+", line)}
    assert len(known) > 20 and known - {"lifecycle"} <= told


def test_exit_codes():
    programs = {"daemon/virtspoold.8": ("virtspoold.c", "daemon.c"), "listener/virtspool-listen.8": ("listen.c", "listener.c")}
    for manual, names in programs.items():
        room = (ROOT / "spooler" / manual).parent
        used = {c for name in names for c in re.findall(r"\bEX_[A-Z]+", (room / name).read_text())} - {"EX_OK"}
        assert used == set(re.findall(r"\.Pq Dv (EX_\w+)", page(f"spooler/{manual}"))), manual
    used = set(re.findall(r"COMMAND_\w+ = (\d+)", page("spooler/admin/command.h")))
    told = set(re.findall(r"^\.It (\d+)$", section(page("spooler/admin/virtspool.1"), "EXIT STATUS"), re.M))
    assert told == used | {"2"}  # status


def test_pages_name_each_other_rightly():
    names = {(p.name.rpartition(".")[0], p.suffix[1:]) for p in PAGES}
    assert len(names) == 9
    for path in [*PAGES, ROOT / "README.md", *ROOT.glob("etc/**/*.md")]:
        named = set(re.findall(r"\.Xr (virtspool\S*) (\d)", path.read_text()))
        named |= set(re.findall(r"\b(virtspool[\w.-]*)\((\d)\)", path.read_text()))
        assert named <= names, path.name


def test_links_of_the_pages_lead_somewhere():
    for path in [ROOT / "README.md", ROOT / "SECURITY.md", *ROOT.glob("etc/**/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert "://" in link or (path.parent / link).exists(), f"{path.name}: {link}"


def test_the_map_of_the_code():
    """Each room is on the README's map under its folder's name, and each file that the map names is in its room."""
    lines = page("README.md").split("## Map of the code")[1].split("Dependencies run")[0].splitlines()
    rooms, directory = {}, None
    for line in lines:
        if found := re.match(r"    (\w+)/ ", line):
            directory = top = ROOT / found[1]
        elif found := re.match(r"      (\w+)/ ", line):
            directory = top / found[1]
        rooms.setdefault(directory, set()).update(re.findall(r"[\w-]+\.c\b", line))
    for directory, names in rooms.items():
        assert all((directory / name).exists() for name in names), (directory, names)
    assert {p.parent for p in ROOT.glob("spooler/*/*.c")} <= set(rooms)
    scripts = re.search(r"^ +scripts/ (.*?)\n    \w+/", "\n".join(lines), re.M | re.S)[1]
    assert {p.name for p in (ROOT / "scripts").iterdir()} == set(re.split(r"[\s,]+", scripts.strip()))


def shell(bed, command):
    environment = {"PATH": f"{BUILD}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", **bed.spool.environment}
    return subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, timeout=60, env=environment)


def test_the_commands_for_who_is_on_call(bed):
    """Those of the README and of virtspool(1), as they stand but for the id."""
    told = [re.split(r" {2,}", line)[0] for line in block(ROOT / "README.md", "virtspool status").splitlines()]
    told += re.findall(r"^\.Dl \$ (.*)$", page("spooler/admin/virtspool.1"), re.M)
    assert len(told) > 8 and all(c.startswith("virtspool ") for c in told)
    bed.broker.start()
    bed.daemon.start()
    bed.hook.start("web1")
    bed.spool.wait_empty()
    wait_until(lambda: shell(bed, "virtspool status -q").returncode == 0, what="healthy")
    for command in told:
        if "failed" in command:
            (bed.spool.path("new") / "01990a3c-7bbd-7123-8123-0123456789ab").write_text("no record")
            wait_until(bed.spool.failed, what="it has failed")
        elif " new" in command:
            bed.daemon.stop()
            bed.hook("started", domain="web1")
        done = shell(bed, command.replace(" ID", " " + bed.spool.names("sent")[0]))
        assert done.returncode == 0 and done.stdout + done.stderr, (command, done)
    assert done.stdout.split() == ["1", "web1"], "virtual machines whose events wait"


def test_the_examples_of_the_configuration(bed):
    text = page("spooler/config/virtspool.yaml.5")
    examples = re.findall(r"^\.Bd -literal -offset indent\n((?:\w+:\n|brokers:).*?)^\.Ed", text, re.M | re.S)
    assert len(examples) == 3
    (bed.directory / "mqtt-password").write_text("secret\n")
    (bed.directory / "mqtt-password").chmod(0o600)
    for example in examples:
        for name, path in {"ca.pem": bed.certs.ca, "host.pem": bed.certs.pem("host"), "host.key": bed.certs.key("host")}.items():
            example = example.replace(f"/etc/virtspool/{name}", str(path))
        if "brokers:" not in example:
            example = "brokers:\n  - mqtts://broker.example.org\n" + example
        bed.daemon.write_config(example)
        done = bed.run("virtspoold", "--check-config", "-c", bed.daemon.config_file,
                       environment={"CREDENTIALS_DIRECTORY": str(bed.directory)})
        assert done.returncode == 0, (example, done.stderr)


def test_the_pin_of_the_configuration(bed):
    command = re.search(r"^(openssl x509 .*?)\n\.Ed", page("spooler/config/virtspool.yaml.5"), re.M | re.S)[1]
    done = shell(bed, command.replace("broker.pem", str(bed.certs.pem("broker"))))
    assert "sha256:" + done.stdout.split()[0] == bed.certs.pin("broker"), done


def test_the_question_whether_it_listens(bed):
    bed.listener("test:///default").start().wait_listening()
    command = re.search(r"^jq .*$", page("spooler/listener/virtspool-listen.8"), re.M)[0]
    done = shell(bed, command.replace("/run/virtspool", str(bed.spool.rundir)))
    assert '"listening": true' in done.stdout, done


def test_how_the_readme_builds():
    """The same packages as scripts/setup, and the same directories as scripts/build, which the tests use."""
    text = re.sub(r"\s+", " ", page("README.md"))
    told = set(re.search(r"`apt install ([^`]+)`", text)[1].split()) - {"build-essential"}
    wanted = subprocess.run([ROOT / "scripts/setup", "--list", "build"], capture_output=True, text=True, check=True).stdout
    assert told == set(wanted.split()) - {"gcc", "make", "libc6-dev", "binutils"}  # what build-essential brings
    configure = re.search(r"\./configure ([^`]*?) && make", text)[1]
    assert f"arguments=({configure} " in page("scripts/build")
