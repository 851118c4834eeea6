"""What pyproject.toml calls extras is not needed to import the core: a process in which they are absent proves it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

from ffaa.runtime import PROJECT_ROOT

WITHOUT = """
import importlib, importlib.machinery, pkgutil, sys

absent = set(sys.argv[1:])
found = importlib.machinery.PathFinder.find_spec

def find_spec(name, path=None, target=None):
    return None if name.split(".")[0] in absent else found(name, path, target)

importlib.machinery.PathFinder.find_spec = staticmethod(find_spec)
assert importlib.util.find_spec("deepspeed") is None and importlib.util.find_spec("torch") is not None
import ffaa

names = [one.name for one in pkgutil.walk_packages(ffaa.__path__, "ffaa.") if not one.name.endswith("__main__")]
for name in [*names, "train", "eval", "eval_llava", "inference"]:
    importlib.import_module(name)
from ffaa.methods import STAGES, find_stage

for method, stages in STAGES.items():
    for stage in stages:
        find_stage(method, stage)
present = sorted(name for name in absent if name in sys.modules)
print("imported", len(names), *present)
sys.argv = ["train.py", "--config", "configs/ffaa/mistral/mids.yaml", "--dry_run"]
sys.modules["train"].main()
"""


def requirements(extra: str | None) -> set[str]:
    """Names that an extra, or the core, asks for."""
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return {re.split(r"[<>=;\[ ]", line)[0] for line in lines}


def test_the_extras_are_there_and_add_to_the_core() -> None:
    assert {"deepspeed", "bitsandbytes", "tensorboard"} <= requirements("train")
    assert "gradio" in requirements("demo") and "matplotlib" in requirements("report")
    for extra in ("train", "metrics", "demo", "dev"):
        assert not requirements(extra) & requirements(None)


def test_the_core_imports_and_plans_without_any_extra() -> None:
    named = ("train", "report", "metrics", "demo", "dev")
    extras = set().union(*(requirements(extra) for extra in named)) - requirements(None)
    modules = {"import-linter": "importlinter", "pytest-xdist": "xdist", "rouge-score": "rouge_score"}
    absent = sorted(modules.get(name, name) for name in extras if not name.startswith("types-"))
    command = [sys.executable, "-c", WITHOUT, *absent, "wandb"]
    run = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    said, plan = run.stdout.split("\n", 1)
    imported, count, *present = said.split()
    assert imported == "imported" and int(count) > 50 and not present
    assert "53,972,484" in plan
