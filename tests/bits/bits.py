"""Do two checkouts give the same numbers, to the last bit? Short runs of every section and engine.

    python tests/bits/bits.py BEFORE AFTER [NAME ...]

trains each run below in both checkouts on a few pictures with one thread, and lists what differs
in the results besides time and machine. Numbers depend on the processor, so both are run here.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
SHORT = ("num_batch=2", "train_ep=1", "train_ep_inc=1", "expected_acc=none")
FEW = ("hidden_units=256", "percent_on_fc=0.02")
SECTIONS = (
    *("MLP_1Layer", "MLP_1LayerSparse", "MLP_2Layers", "MLP_2LayersSparse", "CNN", "CNNSparse"),
    *("SplitMNIST", "SplitMNISTSparse", "Contexts", "OldSynapses", "Growth", "Growth25", "RigL"),
    "ContextsGrowth",
)


def runs() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """A name, the section, and the keys that are changed."""
    for name in SECTIONS:
        yield name, name, ()
    yield "SET", "SET", ("train_ep=2", "train_ep_inc=2")
    for name in ("iCIFAR10", "iCIFAR10Dense", "CNNCumul"):
        yield name, name, ("data=sample",)
    for engine in ("reference", "dense", "sparse"):
        for precision in ("fp32", "bf16"):
            how = (f"engine={engine}", f"precision={precision}", *FEW)
            tail = f"{engine}_{precision}"
            yield f"two_{tail}", "MLP_2LayersSparse", (*how, "weight_sparsity_fc=0.5")
            yield f"contexts_{tail}", "ContextsStatic", (*how, "context_units=128")
            yield f"growth_{tail}", "Growth", how
    for rule in ("used", "usage", "importance"):
        old = (f"old_synapse_rule={rule}", "old_synapse_lr=0.3")
        yield f"old_{rule}", "OldSynapses", old
        yield (
            f"contexts_old_{rule}",
            "ContextsStatic",
            (*old, "context_overlap=0.5", "weight_decay=0"),
        )
    for scenario in ("task", "class", "domain"):
        yield f"permuted_{scenario}", "MLP_1LayerSparse", (f"scenario={scenario}", *FEW)


def measured(checkout: Path, section: str, keys: tuple[str, ...], data: Path) -> dict[str, Any]:
    """What the result of a run in a checkout holds."""
    with tempfile.TemporaryDirectory() as folder:
        own = () if "data=sample" in keys else (f"data_dir={data}",)
        words = [word for text in (*SHORT, *own, *keys) for word in ("--set", text)]
        command = [sys.executable, "run_exps.py", "--name", section, "--device", "cpu", "--quiet"]
        command += ["--results-dir", folder, *words]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)
        (path,) = Path(folder).glob("*.pkl")
        return pickle.loads(path.read_bytes())[1]


def differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The parts of two results that are not the same to the bit."""
    names = [name for name in before if name not in ("meta", "elapsed", "train_seconds")]
    return [name for name in names if not _same(before[name], after.get(name))]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return a == b


def main() -> int:
    """0 where all are the same, 1 where not."""
    before, after, *names = sys.argv[1:]
    different = 0
    with tempfile.TemporaryDirectory() as folder, np.load(ROOT / "benchmarks/data/mnist.npz") as z:
        few = {key: z[key][: 3200 if "train" in key else 1000] for key in z.files}
        np.savez(Path(folder) / "mnist.npz", **few)
        for name, section, keys in runs():
            if names and name not in names:
                continue
            a, b = (measured(Path(c), section, keys, Path(folder)) for c in (before, after))
            found = differing(a, b)
            different += bool(found)
            print(f"{name:28} {', '.join(found) or 'the same'}", flush=True)
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
