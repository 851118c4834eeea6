"""The README's commands run as written, and what it names is there.

A bash block is run when the line before it is ``<!-- runnable -->``. The blocks run in the order of the page, in the
project's root, with the environment's programs first in PATH; FFAA_SMOKE=1 makes ``scripts/quickstart.sh`` score five
pictures of each benchmark in place of sixty.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ffaa.runtime import PROJECT_ROOT

README = PROJECT_ROOT / "README.md"
RUNNABLE = re.compile(r"<!-- runnable -->\s*\n+```(?:bash|sh|shell)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")
BLOCK_SECONDS = 900


def runnable_blocks(text: str) -> list[str]:
    return [match[1].strip() for match in RUNNABLE.finditer(text)]


def test_blocks_are_found_by_their_mark() -> None:
    page = (
        "```bash\nrm -r x\n```\n<!-- runnable -->\n```bash\necho 1\necho 2\n```\n<!-- runnable -->\n\n```sh\nls\n```\n"
    )
    assert runnable_blocks(page) == ["echo 1\necho 2", "ls"]


def test_the_readme_has_runnable_blocks() -> None:
    text = README.read_text(encoding="utf-8")
    blocks = runnable_blocks(text)
    assert blocks
    assert len(blocks) == text.count("<!-- runnable -->"), "a mark without a bash block after it"


@pytest.mark.mini
def test_runnable_blocks_run_as_written() -> None:
    environment = {**os.environ, "FFAA_SMOKE": "1"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for name in ("FFAA_OFFLINE", "HF_HUB_OFFLINE"):
        environment.pop(name, None)
    for block in runnable_blocks(README.read_text(encoding="utf-8")):
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=PROJECT_ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BLOCK_SECONDS,
        )
        assert result.returncode == 0, f"{block}\n\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"


def test_links_lead_to_files_that_are_there() -> None:
    missing = [
        f"{page.name}: {target}"
        for page in PROJECT_ROOT.glob("*.md")
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not missing
