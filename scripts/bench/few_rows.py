"""A language model's linear layers on few rows, as transformers computes them and as ``ffaa.backbones.few_rows`` does.

The layers have the sizes of SmolLM2-135M, with its vocabulary; all of them are gone through in turn, so that no weight
is still in the cache when it is used again, as in decoding.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from ffaa.config import parse
from ffaa.runtime import EXIT_DONE, run_door

LAYERS, WIDTH, HEADS, INNER, VOCABULARY = 30, 576, 192, 1536, 49153


@dataclass(frozen=True)
class Options:
    rows: str = "1,2,3,4,6,8,12,24"
    """Numbers of rows."""
    repeats: int = 20
    """The median of so many passes is shown."""


def main() -> int:
    options = parse(Options, prog="few_rows.py", description=__doc__ or "")
    import torch
    from torch import nn

    from ffaa.backbones.few_rows import prefer_few_rows

    sizes = [
        (WIDTH, WIDTH),
        (WIDTH, HEADS),
        (WIDTH, HEADS),
        (WIDTH, WIDTH),
        (WIDTH, INNER),
        (WIDTH, INNER),
        (INNER, WIDTH),
    ]
    layers = [nn.Linear(*size, bias=False) for size in [*sizes * LAYERS, (WIDTH, VOCABULARY)]]
    times: dict[int, list[float]] = {}
    for change in (lambda _: None, prefer_few_rows):
        change(nn.ModuleList(layers))
        for rows in map(int, options.rows.split(",")):
            inputs = {size: torch.randn(rows, size) for size in (WIDTH, INNER)}
            seconds = []
            with torch.inference_mode():
                for _ in range(options.repeats):
                    began = time.perf_counter()
                    for layer in layers:
                        layer(inputs[layer.in_features])
                    seconds.append(time.perf_counter() - began)
            times.setdefault(rows, []).append(sorted(seconds)[len(seconds) // 2])
    print(f"float32, {torch.get_num_threads()} threads, ms a pass\nrows   usual    ours  ratio")
    for rows, (usual, ours) in times.items():
        print(f"{rows:4}  {usual * 1e3:6.1f}  {ours * 1e3:6.1f}  {usual / ours:5.2f}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
