# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many hooks at once, while the daemon drains."""

from concurrent.futures import ThreadPoolExecutor

from lib import Ledger

DOMAINS = [f"vm{i}" for i in range(64)]
CALLS = 8


def test_64_hooks_at_once_for_64_domains(bed):
    bed.broker.start()
    subscriber = bed.subscriber()
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    bed.daemon.start()
    with ThreadPoolExecutor(len(DOMAINS)) as pool:
        for calls in [pool.submit(ledger.calls, CALLS, domain) for domain in DOMAINS]:
            calls.result()
    counts = ledger.check(subscriber)
    assert counts == {"made": 512, "delivered": 512, "duplicated": 0, "lost": 0}
    bed.spool.wait_empty()

    records = bed.spool.records("sent")
    assert len({r["epoch"] for r in records}) == 1
    assert [int(r["sequence"]) for r in records] == list(range(1, 513)), "ids sort by the stamps"
    subscriber.check_complete(512, concurrent=True)
    assert bed.daemon.status()["sequence"]["missing"] == 0
