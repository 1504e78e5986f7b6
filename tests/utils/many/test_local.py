"""Cores and GPUs dealt out; no GPU is needed for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.many.local import Local, visible_gpus


def test_cores_are_divided() -> None:
    for jobs, threads in ((2, "4"), (3, "2"), (16, "1")):
        slots = Local(jobs, None, [], cores=8, environ={})
        assert slots.environment(0, "auto") == {"OMP_NUM_THREADS": threads}


def test_one_run_at_a_time_has_the_threads_of_a_single_run() -> None:
    assert Local(None, None, [], cores=8, environ={}).jobs == 1
    assert Local(1, None, [], cores=8, environ={}).environment(0, "cpu") == {}


def test_a_number_of_threads_that_was_chosen_stays() -> None:
    assert Local(2, 3, [], cores=8, environ={}).environment(1, "cpu") == {"OMP_NUM_THREADS": "3"}
    slots = Local(2, None, [], cores=8, environ={"OMP_NUM_THREADS": "5"})
    assert slots.environment(0, "cpu") == {}


def test_a_process_for_each_gpu() -> None:
    slots = Local(None, None, ["0", "GPU-b", "2"], cores=6, environ={})
    assert slots.jobs == 3
    assert [slots.environment(i, "auto")["CUDA_VISIBLE_DEVICES"] for i in range(4)] == [
        "0",
        "GPU-b",
        "2",
        "0",
    ]
    for device in ("cpu", "cuda:1", "mps"):
        assert "CUDA_VISIBLE_DEVICES" not in slots.environment(0, device)
    assert "CUDA_VISIBLE_DEVICES" not in Local(2, None, ["0"], 6, {}).environment(1, "auto")


@pytest.mark.parametrize(
    ("told", "gpus"), [("0,2", ["0", "2"]), ("", []), ("-1", []), ("GPU-a", ["GPU-a"])]
)
def test_gpus_that_the_environment_names(told: str, gpus: list[str]) -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": told}) == gpus


def test_gpus_that_the_driver_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus({}) == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU-a\necho GPU-b\n")
    program.chmod(0o755)
    assert visible_gpus({}) == ["GPU-a", "GPU-b"]
    program.write_text("#!/bin/sh\necho no driver\nexit 9\n")
    assert visible_gpus({}) == []
