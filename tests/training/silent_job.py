"""`digan` with the words given, where processes are given up after 6 seconds of silence."""

from __future__ import annotations

import functools
import sys
from unittest import mock

from digan.cli import main
from digan.pulse import Pulse

if __name__ == "__main__":
    with mock.patch("digan.processes.Pulse", functools.partial(Pulse, silence=6.0)):
        status = main()
    sys.exit(status)
