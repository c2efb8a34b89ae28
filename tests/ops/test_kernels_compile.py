"""Every kernel compiles to machine code for GPUs; that needs ptxas, which Triton brings, and no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is in the extra 'kernels'")

ROOT = Path(__file__).resolve().parents[2]
COMPILE = """
from itertools import cycle

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from gtasr_video.ops.kernels import motion, noise, planes

SIZES, NUMBERS = ["i32"] * 9, ["fp32"] * 7
JOBS = [
    (planes._picture, ["*u8"] * 3 + ["*fp32", *SIZES, *NUMBERS[:6]], dict(KIND=0, DOWN=1, ACROSS=2)),
    (planes._picture, ["*u16"] * 3 + ["*fp32", *SIZES, *NUMBERS[:6]], dict(KIND=0, DOWN=2, ACROSS=1)),
    (planes._picture, ["*u8"] * 3 + ["*fp32", *SIZES, *NUMBERS[:6]], dict(KIND=2, DOWN=0, ACROSS=0)),
    (
        planes._enlarged,
        ["*fp32", "*bf16", "*u8", "*fp32", "*fp32", *SIZES[:7], *NUMBERS],
        dict(SCALE=4, SIDE=8, KIND=0, HALVED=True, BITS=8, DITHER=True),
    ),
    (
        planes._enlarged,
        ["*fp32", "*fp16", "*u16", "*u16", "*u16", *SIZES[:7], *NUMBERS],
        dict(SCALE=3, SIDE=3, KIND=0, HALVED=False, BITS=10, DITHER=False),
    ),
    (planes._halved, ["*fp32", "*u8", *SIZES[:4], *NUMBERS[:2]], dict(DOWN=1, ACROSS=2, BITS=8, DITHER=True)),
    (planes._halved, ["*fp32", "*u16", *SIZES[:4], *NUMBERS[:2]], dict(DOWN=2, ACROSS=2, BITS=10, DITHER=False)),
    (noise._gaussian, ["*fp32", "*i32", "i32"], {}),
    (noise._claim, ["*fp32", "*fp32", "*i1", "*i32", "i32", "i32"], {}),
    (motion._equations, ["*fp32"] * 4 + ["i32", "i32", "fp32"], dict(PATCH=4, BLOCK=64)),
    (motion._difference, ["*fp32"] * 4 + ["i32", "i32"], dict(PATCH=4, BLOCK=64)),
    (motion._solved, ["*fp32", "*fp32", "i32", "fp32"], {}),
    (motion._moments, ["*fp32"] * 4 + ["i32", "i32", "fp32"], dict(AGAIN=True)),
    (motion._moments, ["*fp32"] * 4 + ["i32", "i32", "fp32"], dict(AGAIN=False)),
    (motion._fitted, ["*fp32", "*fp32", "i32", "i32", "fp32", "i32"], dict(PARTS=64)),
    (noise._move, ["*fp32"] * 3 + ["*i1", "*fp32", "*i32", "*fp32", "*fp32", "i32", "i32"], dict(CHANNELS=48)),
]
capabilities = cycle((90, 80))
for kernel, types, constants in JOBS:
    constants.setdefault("BLOCK", 512)
    kinds = iter(types)
    signature = {name: "constexpr" if name in constants else next(kinds) for name in kernel.arg_names}
    fixed = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    # The newest and the oldest in turn: compiling takes its time.
    target = GPUTarget("cuda", next(capabilities), 32)
    compiled = triton.compile(ASTSource(kernel, signature, fixed), target=target)
    assert len(compiled.asm["cubin"]) > 1000
print(len(JOBS))
"""


def test_kernels_compile_for_ampere_and_hopper(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "16\n"
