# SPDX-License-Identifier: LGPL-2.1-or-later
"""Other brokers and Prometheus take minutes and large packages: scripts/test-interop, which sets the variable, runs them. Without
it, only what is quick: mosquitto_sub, and the proxies that are installed."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

collect_ignore_glob = [] if os.environ.get("VIRTSPOOL_INTEROP") else ["test_[!mp]*.py", "test_prometheus.py"]
