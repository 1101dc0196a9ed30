"""How many GPUs there are for processes of their own, each with the whole target on one."""

from __future__ import annotations

import torch

from driftcli.sources.files import Source, resolve, weight_files

ROOM_ON_A_GPU = (
    0.8  # share of a GPU's memory that weights may fill, before a model is spread over several; the rest is for caches (chosen by us)
)


def gpus_for(target: str, *, remote_code: bool = False) -> int:
    """The GPUs of this machine, where each could hold the target alone; 1 where there are none or one, or it must be spread over them."""
    count = torch.cuda.device_count()
    if count < 2:
        return 1
    least = min(torch.cuda.get_device_properties(number).total_memory for number in range(count))
    return count if fits(resolve(target, remote_code=remote_code), least) else 1


def fits(source: Source, memory: int) -> bool:
    """Whether a model's weights leave enough of so many bytes of memory free."""
    return sum(path.stat().st_size for path in weight_files(source)) <= ROOM_ON_A_GPU * memory
