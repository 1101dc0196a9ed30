"""The target's streams as vLLM hands them out by `extract_hidden_states`: a file a request, removed as it is read.

This module is imported in every worker of the engine, by its name.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save_file
from torch import Tensor
from vllm.distributed.kv_transfer.kv_connector.v1.example_hidden_states_connector import (
    ExampleHiddenStatesConnector,
    PendingSave,
    extract_from_kv_cache,
)
from vllm.v1.core.sched.scheduler import Scheduler

ASKED = "driftcli_streams"  # by which a request asks for its streams


class StreamsConnector(ExampleHiddenStatesConnector):  # type: ignore[misc]
    """Writes the streams of the requests that ask for them, and of no other; a file is whole when the step that writes it is done.

    vLLM's own connector copies through a CUDA stream in the background and writes every request's; this one also runs on a CPU.
    """

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        """Whether the request's blocks are still needed, and where its streams will be."""
        if not (request.kv_transfer_params or {}).get(ASKED):
            self._request_filenames.pop(request.request_id, None)
            return False, None
        return super().request_finished(request, block_ids)  # type: ignore[no-any-return]

    def _submit_async_write(self, pending: PendingSave) -> None:
        if not self._is_tp_rank_zero:
            return
        assert self._kv_cache is not None
        blocks = torch.tensor(pending.block_ids, dtype=torch.long)
        slots = (torch.arange(self._block_size) + blocks[:, None] * self._block_size).flatten().to(self._kv_cache.device)
        streams = extract_from_kv_cache(self._kv_cache, slots, len(pending.token_ids)).cpu().contiguous()
        path = Path(pending.filename)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"streams": streams}, path)
        self._req_copy_events[pending.req_id] = _Done()


class PlainScheduler(Scheduler):  # type: ignore[misc]
    """Lets every request decode plainly: the draft tokens of `extract_hidden_states` are none, and take as long as others to verify.

    On a CPU they would be verified wrongly, too: vLLM 0.32 leaves their temperature unset there.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dynamic_sd_lookup = [self.num_spec_tokens] * (self.scheduler_config.max_num_seqs + 1)  # by which no request is padded with one

    def update_draft_token_ids(self, draft_token_ids: Any) -> None:
        """None is taken up."""


class _Done:
    """A copy that is over."""

    def query(self) -> bool:
        return True


@dataclass(frozen=True)
class HandedOver:
    """The folder through which an engine hands over the streams at some boundaries."""

    folder: Path
    boundaries: tuple[int, ...]

    def settings(self) -> dict[str, Any]:
        """The arguments by which vLLM hands them out, none for no boundary."""
        if not self.boundaries:
            return {}
        ids = {"eagle_aux_hidden_state_layer_ids": list(self.boundaries)}
        extra = {"shared_storage_path": str(self.folder.absolute()), "use_synchronization_lock": False}
        return {
            "speculative_config": {
                "method": "extract_hidden_states",
                "num_speculative_tokens": 1,
                "draft_model_config": {"hf_config": ids},
            },
            "scheduler_cls": f"{__name__}.{PlainScheduler.__name__}",
            "kv_transfer_config": {
                "kv_connector": StreamsConnector.__name__,
                "kv_connector_module_path": __name__,
                "kv_role": "kv_producer",
                "kv_connector_extra_config": extra,
            },
        }

    def asked(self) -> dict[str, Any] | None:
        """What a request says that wants its streams, None where the engine hands out none."""
        return {"kv_transfer_params": {ASKED: True}} if self.boundaries else None

    def take(self, path: Path, rows: int) -> dict[int, Tensor]:
        """The first rows of the streams of a request by boundary, each (row, width); its file is gone."""
        streams = load(path.read_bytes())["streams"][:rows]
        path.unlink()
        return {boundary: streams[:, place] for place, boundary in enumerate(self.boundaries)}

    def clear(self) -> None:
        """Remove the folder with what requests left there."""
        for file in self.folder.glob("*.safetensors"):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # it is not there, or holds something else
            self.folder.rmdir()
