# SPDX-License-Identifier: LGPL-2.1-or-later
"""Other brokers and Prometheus take minutes and large packages: scripts/test-interop, which sets the variable, runs them."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

long = ["test_acl.py", "test_brokers.py", "test_cluster.py", "test_clients.py", "test_prometheus.py"]
collect_ignore = [] if os.environ.get("VIRTSPOOL_INTEROP") else long
