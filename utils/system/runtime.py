"""Where and with what a run is made: device, seeds, and the facts that go into a result."""

from __future__ import annotations

import ctypes
import os
import platform
from datetime import datetime
from functools import cache
from importlib.util import find_spec

import numpy as np
import torch

from exps import VERSION, ahead
from exps.messages import Told
from utils.system import times
from utils.system.commit import commit

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
ORDER = 1  # sets the data order apart from whatever else is drawn from the seed


class DeviceError(Told):
    """The device asked for is not there."""


def keep_memory() -> None:
    """Let the C library keep freed memory for the next step instead of giving it back.

    A step's large temporary tensors would otherwise be mapped, and zeroed by the kernel, anew in
    every step, which can take longer than computing with them. Only with glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def pick_device(wanted: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    A GPU always has its number: torch holds `cuda` and `cuda:0` for two devices. Raises DeviceError
    when it is not there; `auto` takes CUDA where there is one and the CPU otherwise.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        wanted = "cuda" if gpus else "cpu"
    device = torch.device("cuda:0" if wanted == "cuda" else wanted)
    if device.type == "cuda" and device.index >= gpus:
        why = f"torch {torch.__version__} can use {gpus} CUDA device(s) here"
    elif device.type == "mps" and not torch.backends.mps.is_available():
        why = "torch finds no MPS device here"
    else:
        if device.type == "cuda" and gpus > 1:  # Triton's kernels run on the current one
            torch.cuda.set_device(device)
        return device
    what, remedy = f"device = {wanted} is not there", "choose device = auto or cpu"
    raise DeviceError(what, why, remedy)


def same_numbers_on_gpus() -> None:
    """float32 means float32 on a GPU too (torch's own convolutions round to TF32), and the same
    step gives the same bits twice; with CUBLAS_WORKSPACE_CONFIG, see `surroundings`."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def data_device(device: torch.device, bytes_needed: int) -> torch.device:
    """The device itself when the pictures fit into half of its free memory, otherwise the CPU."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    return device if bytes_needed < free / 2 else torch.device("cpu")


def has_fast_bf16() -> bool:
    """Whether this processor multiplies in bf16 (AVX512-BF16 or AMX)."""
    return bool(torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported())


def products_in(precision: str, device: torch.device) -> torch.autocast:
    """What is computed in here has its dense products in this precision, fp32 or bf16."""
    half = precision == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half, cache_enabled=False)


@cache
def has_numba() -> bool:
    """Whether loops can be compiled."""
    return find_spec("numba") is not None


def has_triton(device: torch.device) -> bool:
    """Whether Triton's kernels run on this GPU of CUDA."""
    return find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= (8, 0)


def has_fast_int8() -> bool:
    """Whether this processor multiplies in int8 (AVX512-VNNI or AMX)."""
    return bool(torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported())


def seed_everything(seed: int) -> torch.Generator:
    """Seed torch's global generators: initialisation, masks, dropout.

    Returns a generator for the order of the data, which draws other numbers than they do.
    """
    torch.manual_seed(seed)
    order = np.random.SeedSequence([seed, ORDER]).generate_state(1, np.uint64).item()
    return torch.Generator().manual_seed(order)


def facts(device: torch.device, seed: int, source: str, started: datetime) -> dict[str, object]:
    """Everything needed to know later how a result came about, as plain Python."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "version": VERSION,
        "commit": ahead.result(commit),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": str(np.__version__),
        "device": str(device),
        "device_name": name or platform.machine(),
        "threads": torch.get_num_threads(),
        "host": platform.node(),
        "seed": seed,
        "data_source": source,
        "started": times.as_text(started),
    }


def instructions() -> str:
    """What this processor computes with: "AVX512, bf16, int8, numba"."""
    has = {"bf16": has_fast_bf16(), "int8": has_fast_int8(), "numba": has_numba()}
    return ", ".join(
        [torch.backends.cpu.get_cpu_capability(), *(n for n, there in has.items() if there)]
    )
