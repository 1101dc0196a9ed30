"""One of the processes that a diagnosis began: it does what any process would, and ends when the one that began it does."""

from __future__ import annotations

import os
from threading import Thread

from driftcli.cli.main import main
from driftcli.errors import MachineError

STDIN = 0


def _end_with_it() -> None:
    """Wait until whoever began this process is gone, or wants it to end: then nobody holds the other end of its stdin."""
    while os.read(STDIN, 1):
        pass
    os._exit(MachineError.exit_code)


if __name__ == "__main__":
    Thread(target=_end_with_it, daemon=True).start()
    main()
