"""The console script ``ffaa``: ``ffaa train|eval|infer|assets|answers ...`` runs the program of that name.

The programs themselves are the files at the project's root, so that ``python eval.py ...`` and ``ffaa eval ...`` are
one and the same.
"""

from __future__ import annotations

import runpy
import sys

from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, closest, run_door
from ffaa.types import InputError

PROGRAMS = {
    "train": "train.py",
    "eval": "eval.py",
    "infer": "inference.py",
    "assets": "ffaa.assets",
    "answers": "scripts/answers.py",
}

_USAGE = f"""usage: ffaa {"|".join(PROGRAMS)} [options]

  train   train one stage of a method:    ffaa train --config configs/ffaa/mini/mllm.yaml
  eval    score a method on benchmarks:   ffaa eval --benchmark free_ma --model mini
  infer   analyse pictures:               ffaa infer photo.jpg --crop 1
  assets  weights and faces by name:      ffaa assets list
  answers answers that evaluations kept:  ffaa answers --clear all

`ffaa PROGRAM --help` tells the options of each.
"""


def main() -> None:
    """Run the program named by the first argument with the arguments after it."""
    run_door(_dispatch)


def _dispatch() -> int:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.stdout.write(_USAGE)
        return EXIT_DONE
    name = sys.argv[1]
    if name not in PROGRAMS:
        raise InputError(f"unknown program {name!r}{closest(name, PROGRAMS)} (ffaa --help lists them)")
    target = PROGRAMS[name]
    sys.argv = [f"ffaa {name}", *sys.argv[2:]]
    if not target.endswith(".py"):
        runpy.run_module(target, run_name="__main__")
        return EXIT_DONE
    door = PROJECT_ROOT / target
    if not door.is_file():
        raise InputError(f"{target} is not beside the package: install from a clone of the project (pip install -e .)")
    runpy.run_path(str(door), run_name="__main__")
    return EXIT_DONE


if __name__ == "__main__":
    main()
