"""The tables of docs/methods.md, from results of which the figures are known."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs.comparison import main


def test_cells_are_means_over_seeds_and_other_values_stand_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def save(
        name: str, seed: int, accs: list[float], changed: str = "", status: str = "", **values: Any
    ) -> None:
        config = {"name": name, "seed": seed, "methods": "si", "si_strength": 0.1, **values}
        meta = {"status": status or "complete", "changed": [changed] if changed else []}
        stats = {"accs": np.array([[0.1] * len(accs), accs]), "meta": meta}
        (tmp_path / f"{name}{seed}{changed}{status}.pkl").write_bytes(pickle.dumps([config, stats]))

    save("SplitTaskEWC", 0, [0.98, 1.0])
    save("SplitTaskEWC", 1, [0.96, 1.0])
    save("SplitTaskSI", 0, [0.5, 0.7], changed="si_strength")
    save("SplitTaskSI", 1, [0.0, 0.0], status="interrupted")
    main([str(tmp_path)])
    first, other = capsys.readouterr().out.split("si_strength = 0.1:")
    assert first.startswith("as the sections are:")
    # The interval of two: t(0.975, 1) · deviation / √2 = 12.706 · 0.5.
    assert "| EWC | **98.5** ± 6.4 (2) / 98.6 | not run / 64 | not run / 20 |" in first
    assert "| SI | not run / 99.1 | not run / 65.4 | not run / 20 |" in first
    assert [line for line in other.splitlines() if line][-1] == "| SI | **60.0** / 99.1 | – | – |"
    save("SplitTaskEWC", 2, [0.9, 0.9], precision="bf16")
    with pytest.raises(SystemExit, match="SplitTaskEWC has results that differ in precision"):
        main([str(tmp_path)])
