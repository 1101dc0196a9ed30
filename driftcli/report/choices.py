"""What `--format` and `--fail-on` offer, said once; imports nothing heavy, so that `--help` starts at once."""

from __future__ import annotations

from typing import Literal

OutputFormat = Literal["terminal", "json", "markdown"]
FailOn = Literal["none", "mild", "moderate", "severe"]
