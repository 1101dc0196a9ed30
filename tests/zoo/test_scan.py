"""What a scan says of 64 published drafters, each against what is right for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from driftcli.errors import DriftError
from driftcli.loading.scan import scan_checkpoint
from driftcli.report.console import plain
from driftcli.report.scan import render
from driftcli.scanned import Unread
from tests.zoo.build import Case, cases, write

VLLM, SGLANG, TRAINED = "vLLM 0.33 cannot run it", "SGLang 0.5.23 cannot run it", "trained in a way that cannot be run here"
RENAME = "builds LlamaForCausalLM, which reads no such head (sglang#5448); write LlamaForCausalLMEagle"
STOPS, BASE, LIST = "stops at start with a ValueError", "SpecForge before #270", "mean different streams to different readers"
EARLY = "are boundaries to vLLM's V1 runner"
NO_DRIFT, DRIFT = "drift is not defined for it", "drift is defined for it"
SAID: dict[str, tuple[str, ...]] = {  # what must stand there, and behind "not" what must not
    "01": ("EAGLE-3, SafeAILab layout", SGLANG, RENAME + "3 into", STOPS, "2, 16, 29", "not", VLLM),
    "02": (VLLM, SGLANG, "num_hidden_layers is 40", "of which the file fills 1 (BaldEagle#6)", RENAME, "not", "No finding"),
    "03": ("EAGLE-3, SafeAILab layout", "probably SafeAILab", SGLANG, RENAME, "not", VLLM, "SpecForge or SGLang"),
    "04": ("EAGLE-1, EAGLE-2 or HASS layout", RENAME + " into", "captured boundaries as above tensor", "not", VLLM, "use_aux_hidden_state"),
    "06": ("EAGLE-1, converted for vLLM", VLLM, SGLANG, "was converted for a class that vLLM had once", "as trained (run here)"),
    "08": ("EAGLE-3, SafeAILab layout", "LlamaForCausalLMEagle3", STOPS, "not", VLLM, SGLANG),
    "09": ("probably SpecForge", BASE, STOPS, "not", VLLM, SGLANG),
    "10": (EARLY, BASE, "2, 47, 91", "not", VLLM, SGLANG),
    "11": (LIST, "[1, 17, 33]", "1, 17, 33", "2, 18, 34", "not", VLLM, SGLANG, "made for"),
    "12": (SGLANG, "knows no Eagle3LlamaForCausalLM", "AngelSlim#16", "tie_word_embeddings is true", BASE, "probably AngelSlim"),
    "14": ("EAGLE-3", "not", VLLM, SGLANG, BASE),
    "15": ("speculators 0.1.0.dev42", "SGLang does not read the speculators format", "not", VLLM),
    "16": ("EAGLE-3, speculators layout", "not", VLLM),
    "17": (LIST, "1, 46, 90", "2, 47, 91 (a guess)", "config:norm_before_residual", "not", VLLM),
    "18": ("EAGLE-3, speculators layout", "not", VLLM),
    "19": ("24, 30, 36", "layer ids [24, 30, 36]", "not told", "not", "probably SpecForge"),
    "21": ("EAGLE-3, ModelOpt layout", "ModelOpt config:eagle_config", "norms the hidden stream twice", "not", VLLM),
    "22": (TRAINED, "EAGLE-3, ModelOpt layout", "not", VLLM),
    "23": ("EAGLE-3, ModelOpt layout", "not", VLLM),
    "25": ("EAGLE-3, DeepSpec layout", VLLM, "knows no Eagle3Qwen3Eagle3Model", SGLANG, "2, 10, 18, 26, 34", "DeepSpec config:ttt_length"),
    "27": ("probably TorchSpec", "latent keys", EARLY, "not", "out of range", VLLM, SGLANG),
    "29": (SGLANG, "names no draft_vocab_size", "not", VLLM, "out of range"),
    "30": ("norm_output is true: SpecForge up to 0.2.0", "change the flag only on its word", "not", VLLM, SGLANG),
    "32": ("rope_theta 1000000, rope_type", BASE, "EAGLE-3", "not", "mrope", "out of range", VLLM, SGLANG),
    "33": (BASE, "probably AngelSlim", SGLANG, "knows no Eagle3LlamaForCausalLM", "not", VLLM, "mrope"),
    "34": ("quantised: modelopt NVFP4", "servers may run it so", "measure the head that it was quantised from"),
    "35": ("EAGLE-3, speculators layout", "quantised matrices (", "as float8), which are multiplied out to floats", "not", "plain floats"),
    "36": ("DFlash in z-lab layout", NO_DRIFT, "16 rows guess 15 tokens", "2, 10, 18, 26, 34", "each its own", "not", VLLM, SGLANG),
    "37": (
        "DSpark in DeepSpec layout",
        NO_DRIFT,
        "7 rows guess 7 tokens",
        "vanilla, of rank 256",
        "2, 10, 18, 26, 34",
        "not",
        VLLM,
        SGLANG,
    ),
    "38": (
        "P-EAGLE, speculators layout",
        NO_DRIFT,
        "trained to guess up to 8 tokens",
        "norm before fc joint",
        SGLANG,
        "2, 18, 33",
        "not",
        VLLM,
        "vllm#46488",
    ),
    "39": ("DFlash in speculators layout", NO_DRIFT, "8 rows guess 7 tokens", SGLANG, "vocab map offset", "not", VLLM),
    "40": ("medusa_lm_head.pt: not a whole torch file", "fetch it again"),
    "41": ("Medusa heads", "5 heads, one a draft token", NO_DRIFT, "no attention", "vLLM up to 0.32 served it", "side by side"),
    "42": ("causal language model that carries Medusa heads", "6 tensors, such as medusa_heads.0.0.linear.weight"),
    "44": ("MLPSpeculator", "feeds its own state back", "normed at every step", "config:tie_weights", "not", NO_DRIFT),
    "45": ("causal language model that carries an MTP head", "15 tensors, such as model.layers.61.", "quantised (fp8 e4m3)"),
    "46": ("holds a DeepSeek-V3 MTP head", "4 tensors are missing", "export it again"),
    "47": ("causal language model that carries an MTP head", "11 tensors, such as mtp."),
    "48": ("causal language model that carries an MTP head", "7 tensors, such as model.layers.46."),
    "49": ("an MTP head (model.mtp_layers.0.", DRIFT),
    "50": (
        "Gemma 4 assistant",
        "feeds its own state back",
        "drift can show in its state alone",
        "sliding 58, full 59",
        "position the anchor's, windows 1025",
        "not",
        NO_DRIFT,
        "no known format",
    ),
    "52": ("EAGLE-1, EAGLE-2 or HASS layout", RENAME + " into", "not", VLLM),
    "53": ("causal language model", "128256", "not", "carries", "refuses"),
    "54": ("151936 rows here, 152064 in the target: vLLM 0.33 refuses", "rows past their tokens are padding"),
    "55": ("causal language model", "not", "carries", "refuses"),
    "56": ("PARD, a causal language model", NO_DRIFT, "151670", "with parallel_drafting alone", "fine: vocabulary", "not", "refuses"),
    "57": ("quantised (awq, 4 bits)", "152064"),
    "58": ("Qwen3-0.6B-Q8_0.gguf: no GGUF file of version 2 or 3",),  # the file is not there, its name alone
    "59": ("Qwen3-0.6B-Q8_0.gguf: no GGUF file of version 2 or 3",),
    "60": ("EAGLE-3", "2, 32, 61", "not", VLLM, SGLANG),
    "61": ("an EAGLE head in Mistral's own layout (eagle_linear.weight)", DRIFT),
    "63": ("an EAGLE head of MiniCPM's own kind (input_norm1.weight, input_norm2.weight)", DRIFT),
    "64": ("a list of frequent tokens (freq_32768.pt)", "SGLang's --speculative-token-map"),
    "65": ("EAGLE-3", EARLY, "not", VLLM, SGLANG),
    "67": ("made for", "name the target it was trained for"),
    "68": ("EAGLE-3, SafeAILab layout", SGLANG, RENAME, "not", VLLM),
    "70": ("EAGLE-3, speculators layout", "2, 30, 57", "not", VLLM),
    "72": ("a Domino drafter (domino_head.emb.weight)", "passes no attention"),
    "73": (SGLANG, "sglang#27829", "set draft_vocab_size to null", "not", VLLM, "at export", "out of range"),
    "75": (VLLM, SGLANG, "num_hidden_layers is 40", "fine: vocabulary"),
    "76": ("tensor d2t is missing, which says which of the target's tokens the rows of lm_head stand for", "Automodel#2447"),
    "77": (
        LIST,
        "change the flag only on its word",
        "raw (a guess)",
        "norms: normed feedback as served, raw as trained if",
        "not",
        "made for",
    ),
    "78": ("EAGLE-3", "2, 10, 18, 26, 34", "not", VLLM),
    "80": ("brings embeddings of its own", BASE, "not", VLLM, SGLANG),
}
REFUSED = ["34", "40", "46", "49", "58", "59", "61", "63", "64", "67", "72", "76"]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, bool]]:
    """What is said of each case, on one line, and whether it is refused."""
    folder = tmp_path_factory.mktemp("zoo")
    return {case.number: _told(write(case, folder), case) for case in cases()}


def _told(folder: Path, case: Case) -> tuple[str, bool]:
    try:
        found = scan_checkpoint(str(folder), None if case.target is None else str(folder / "target"))
    except DriftError as error:
        return str(error), True
    refused = isinstance(found, Unread)
    return " ".join((found.refusal if refused else plain(render(found))).split()), refused


def test_there_are_64_and_each_is_judged() -> None:
    assert [case.number for case in cases()] == list(SAID) and len(SAID) == 64


def unmet(number: str, text: str) -> list[str]:
    """What should stand there and does not, or stands there and should not."""
    wanted, unwanted = SAID[number], ()
    if "not" in wanted:
        wanted, unwanted = wanted[: wanted.index("not")], wanted[wanted.index("not") + 1 :]
    return [words for words in wanted if words not in text] + [f"not: {words}" for words in unwanted if words in text]


@pytest.mark.parametrize("number", SAID)
def test_a_published_drafter_is_named_and_read_as_each_server_reads_it(number: str, said: dict[str, tuple[str, bool]]) -> None:
    text, refused = said[number]
    assert unmet(number, text) == [], text
    assert refused == (number in REFUSED)


def test_a_refusal_is_one_line_without_a_list_of_layouts_or_tensors(said: dict[str, tuple[str, bool]]) -> None:
    for text, refused in said.values():
        assert not refused or (len(text) < 500 and "\n" not in text and " x1" not in text), text
