"""Every error that driftcli raises on purpose, drawn once, with the exit code each ends in.

    DriftError            3   base; nothing else is caught, once, in `cli.main`
    |- UsageError         2   the command line asks for something that cannot be
    |- SourceError        3   a model id, folder or file that cannot be had or read
    |- FormatError        3   a checkpoint whose layout, shapes or numbers are wrong
    |- PairError          3   target and drafter that do not belong together
    |- PromptError        3   a prompt file or prompt that cannot be used
    |- RunError           3   a run folder that cannot be written, resumed or read
    |- ProbeError         3   a probe that cannot be loaded or breaks its contract
    |- PluginError        3   a report format of an installed package that cannot be loaded or gives no text
    |- ServerError        3   a running server that cannot be asked, or whose answers cannot be used
    |- MachineError       3   no room, no memory, no permission, or a library that gave up beneath us
    `- Stopped      3 or 130  the same, or Ctrl-C, while a run folder was being worked on: that folder goes on from there

Exit codes besides: 0 ran; 4 the verdict is at `--fail-on` or above; 5 inconclusive under `--fail-on`; 130 interrupted; 141 the reader of a
pipe left. 1 is never chosen: it is a crash. A message says where, what was seen, what was expected and what to do, in one sentence.
"""

from __future__ import annotations

from pathlib import Path

from driftcli.printable import printable

LONGEST = 900  # characters of a message; what stands in the middle of a longer one is left out (chosen by us)


class DriftError(Exception):
    """A refusal in one sentence: where, what was seen, what was expected, what to do.

    What it quotes comes from files: the message is printable and bounded whatever they hold.
    """

    exit_code = 3

    def __init__(self, message: str) -> None:
        said = printable(message)
        super().__init__(said if len(said) <= LONGEST else f"{said[: LONGEST // 2]} ... {said[-LONGEST // 3 :]}")


class UsageError(DriftError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class SourceError(DriftError):
    """A model id, folder or file that cannot be had or read."""


class FormatError(DriftError):
    """A checkpoint whose layout, shapes or numbers are wrong."""


class PairError(DriftError):
    """A target and a drafter that do not belong together."""


class PromptError(DriftError):
    """A prompt file or a prompt that cannot be used."""


class RunError(DriftError):
    """A run folder that cannot be written, resumed or read."""


class ProbeError(DriftError):
    """A probe that cannot be loaded or breaks its contract."""


class PluginError(DriftError):
    """A report format of an installed package that cannot be loaded or gives no text."""


class ServerError(DriftError):
    """A running server that cannot be asked, or whose answers cannot be used."""


class MachineError(DriftError):
    """No room, no memory, no permission, or a library that gave up beneath us."""


class Stopped(DriftError):
    """The machine, or the person, stopped the work on a run; the same request in `folder` goes on from there."""

    def __init__(self, message: str, folder: Path, exit_code: int) -> None:
        super().__init__(message)
        self.folder, self.exit_code = folder, exit_code
