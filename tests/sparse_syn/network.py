"""A network of every layer, and one step of it: in this process, or as one of two.

python -m tests.sparse_syn.network RANK FOLDER: as process RANK of two, on its half of the batch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sparse_syn import Flatten, KWinners, KWinners2d, SparseWeights, SparseWeights2d

HALVES = slice(0, 8), slice(8, 16)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        SparseWeights2d(nn.Conv2d(1, 8, 3), weight_sparsity=0.5),
        KWinners2d(8, percent_on=0.25),
        Flatten(),
        SparseWeights(nn.Linear(8 * 6 * 6, 20), weight_sparsity=0.4),
        KWinners(20, percent_on=0.25),
        nn.Linear(20, 5),
    )


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(16, 1, 8, 8), torch.randint(5, (16,))


def step(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The outputs, before a step of SGD on them."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    optimiser.zero_grad()
    outputs = model(x)
    cross_entropy(outputs, y).backward()
    optimiser.step()
    return outputs.detach()


def main(rank: int, folder: Path) -> None:
    """Leave the state after a step, and that after a pass in evaluation."""
    store = (folder / "store").as_uri()
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    model = network()
    parallel = nn.parallel.DistributedDataParallel(model)
    x, y = (part[HALVES[rank]] for part in batch())
    step(parallel, x, y)
    torch.save(model.state_dict(), folder / f"{rank}.step.pt")
    parallel.eval()(x)
    torch.save(model.state_dict(), folder / f"{rank}.eval.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
