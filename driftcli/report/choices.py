"""What `--format` and `--fail-on` offer, said once; imports nothing heavy, so that `--help` starts at once."""

from __future__ import annotations

from typing import Literal, get_args

OutputFormat = Literal["terminal", "json", "markdown", "model-card", "html"]
CompareFormat = Literal["terminal", "json", "markdown"]
OutputKind = Literal["json", "junit", "sarif", "github", "markdown", "html"]
ScanFormat = Literal["terminal", "json"]
ReadingChoice = Literal[
    "declared", "as_served:vllm", "as_served:vllm-v1", "as_served:sglang", "as_served:transformers", "as_served:llama.cpp", "as_trained"
]
TableName = Literal["trajectories", "steps", "heads", "streams", "pieces"]
ExportFormat = Literal["csv", "arrow", "jsonl"]
OUTPUT_FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
FailOn = Literal["none", "mild", "moderate", "severe"]
FAILS = "Exit 4 when the verdict is at this severity or above, 5 when it is inconclusive."
FULL = "On a terminal the whole report, not a page of it; JSON always has everything."
PAGE_OUT = "Of --format html: the file, or - for stdout. Default: report.html in RUN, or stdout where that is piped."
PAGE_FORCE = "Of --format html: overwrite a file that holds something else."
OPEN = "Write the page and show it in the browser."
ALL_PROMPTS = "Of --format html: the texts of all prompts, not of a sample; the page may grow large."
STRICT = "Under --fail-on an axis that was left open, nothing found and a loss not excluded, is inconclusive too."
CompareFailOn = Literal["none", "regressed"]
REGRESSED = "Exit 4 when the acceptance length regressed, 5 when it cannot be told."
BAND = "Changes that do not matter, as a share: of a length or speed, in points of an accuracy."
OUTPUT = (
    "Write another output too, as kind=junit,path=report.xml: json, junit, sarif, github, markdown or html; may be repeated. "
    "github needs no path: its annotations go to stdout, a summary to the step's."
)
