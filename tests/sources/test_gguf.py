from __future__ import annotations

import shutil
import struct
from pathlib import Path

import gguf
import pytest

from driftcli.errors import FormatError, SourceError
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import holds_weights, resolve, weight_files
from driftcli.sources.fingerprint import hashes
from driftcli.sources.gguf import gguf_config, header, scheme
from tests.edits import refused
from tests.gguf_files import write_gguf


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf"))[0]


def test_a_header_is_read_as_the_package_reads_it(file: Path) -> None:
    told, tensors = header(file)
    reader = gguf.GGUFReader(file)
    assert {one.name: (tuple(reversed(one.shape.tolist())), one.tensor_type.name) for one in reader.tensors} == dict(tensors)
    single = {key: field for key, field in reader.fields.items() if not key.startswith("GGUF.") and field.types[0].name != "ARRAY"}
    assert set(single) == set(told)
    assert all(told[key] == field.contents() for key, field in single.items())


def test_its_settings_stand_under_the_names_of_transformers(file: Path) -> None:
    config = gguf_config(file)
    assert config["rms_norm_eps"] == pytest.approx(1e-5)
    assert {key: config[key] for key in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size", "num_key_value_heads")} == {
        "model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 300, "num_key_value_heads": 2,
    }  # fmt: skip
    assert config["quantization_config"] == {"quant_method": "gguf", "format": "Q8_0"} == {"quant_method": "gguf", "format": scheme(file)}


def test_a_file_and_the_folder_in_which_it_is_alone_are_one_model(file: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copy(file, tmp_path / "alone.gguf"))
    (tmp_path / "README.json").write_text("{}")
    one, other = resolve(str(alone)), resolve(str(tmp_path))
    assert (one.folder, one.gguf) == (other.folder, other.gguf) == (tmp_path, "alone.gguf")
    assert weight_files(one) == [alone]
    assert holds_weights(one)
    assert hashes(one) == hashes(other)
    assert set(hashes(one)[1]) == {"alone.gguf"}
    tensors = open_checkpoint(one).tensors
    assert tensors["model.embed_tokens.weight"].shape == (300, 64)
    assert {"model.layers.1.attn_q.weight", "lm_head.weight", "model.norm.weight"} < set(tensors)


def test_of_several_files_the_one_that_is_meant_is_asked_for(file: Path, tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(file, tmp_path / name)
    refused(SourceError, lambda: resolve(str(tmp_path)), "holds 2 GGUF files, a.gguf among them", "name the one that is meant")
    assert resolve(str(tmp_path / "b.gguf")).gguf == "b.gguf"


def test_a_folder_with_other_weights_is_read_by_these(file: Path, tmp_path: Path) -> None:
    shutil.copy(file, tmp_path / "a.gguf")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert resolve(str(tmp_path)).gguf is None


def test_one_part_of_a_model_in_several_files_is_refused(file: Path, tmp_path: Path) -> None:
    part = Path(shutil.copy(file, tmp_path / "m-00001-of-00002.gguf"))
    for name in (part, tmp_path):
        refused(SourceError, lambda name=name: resolve(str(name)), "one part of a model in several GGUF files", "llama-gguf-split")


@pytest.mark.parametrize("kind", ["dflash", "draft-mtp", "eagle3"])
def test_a_head_of_llama_cpp_is_refused_by_its_architecture(kind: str, tmp_path: Path) -> None:
    path, _ = write_gguf(tmp_path, architecture=kind)
    source = resolve(str(path))
    refused(SourceError, lambda: open_checkpoint(source), f"of architecture {kind!r}", "llama.cpp alone drafts with", "safetensors")


def test_what_is_cut_short_or_no_gguf_is_refused(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    for name, content, says in (
        ("empty", b"", "no GGUF file of version 2 or 3"),
        ("other", b"GGML" + whole[4:], "no GGUF file of version 2 or 3"),
        ("old", b"GGUF" + struct.pack("<I", 1) + whole[8:], "no GGUF file of version 2 or 3"),
        ("cut", whole[:300], "not a whole GGUF file"),
        ("huge", whole[:8] + struct.pack("<QQ", 1 << 60, 1 << 60) + whole[24:], "not a whole GGUF file"),
    ):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(content)
        refused(FormatError, lambda path=path: header(path), str(path), says)
