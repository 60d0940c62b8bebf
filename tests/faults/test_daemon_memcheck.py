# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon under valgrind, through a life with faults: no invalid access, nothing leaked."""

from lib import Ledger, wait_until
from lib.programs import tool


def test_daemon_under_valgrind(bed):
    bed.broker.start()
    subscriber = bed.subscriber()
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    bed.daemon.config["spool"] = {"sent_size": "20K", "stop_timeout": "5s"}
    bed.daemon.prefix = [
        *[tool("valgrind"), "--quiet", "--error-exitcode=99", "--leak-check=full"],
        *["--errors-for-leak-kinds=definite,indirect", "--"],
    ]
    ledger.calls(20)
    poison = f"01000000-0000-7000-8000-{1:012x}"
    (bed.spool.spooldir / "new" / poison).write_bytes(b"virtspool-record 1\nid: torn")
    bed.daemon.start(deadline=60)
    wait_until(lambda: not ledger.missing(subscriber), 60, "delivered")
    bed.hook.environment["VIRTSPOOL_SPOOLDIR"] = "/nonexistent"
    ledger.calls(3)
    bed.hook.environment.update(bed.spool.environment)
    wait_until(lambda: not ledger.missing(subscriber), 60, "the emergency spool is drained")
    bed.broker.stop()
    ledger.calls(5)
    bed.daemon.config["mqtt"]["window"] = 3
    bed.daemon.reload(deadline=60)
    bed.broker.start()
    wait_until(lambda: not ledger.missing(subscriber), 60, "delivered after an outage")
    ledger.check(subscriber, failed=[poison])
    bed.spool.wait_empty()
    status = bed.daemon.stop(60)
    assert status == 0 and "==" not in bed.daemon.output(), f"{status}: {bed.daemon.output()[-3000:]}"
