# SPDX-License-Identifier: LGPL-2.1-or-later
"""The other brokers take minutes and large packages: they are tested by scripts/test-interop, which sets the variable."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

long = ["test_acl.py", "test_brokers.py", "test_cluster.py", "test_clients.py"]
collect_ignore = [] if os.environ.get("VIRTSPOOL_INTEROP") else long
