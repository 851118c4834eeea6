#!/usr/bin/env bash
# Proves that the core installs and works without any extra: an environment of its own, made in a temporary folder and
# removed, in which every module is imported, a training is planned and a picture is analysed by random weights.
# Usage: bash scripts/check_core.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
python="$folder/bin/python"
echo "== the core in an environment of its own"
"$python" -m pip install --quiet --disable-pip-version-check --progress-bar off --editable .
"$python" - <<'PY'
import importlib
import importlib.util
import pkgutil

import ffaa

absent = ("deepspeed", "bitsandbytes", "tensorboard", "gradio", "pytest")
extras = [name for name in absent if importlib.util.find_spec(name)]
assert not extras, f"not the core alone: {extras}"
names = [one.name for one in pkgutil.walk_packages(ffaa.__path__, "ffaa.") if not one.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(f"{len(names)} modules imported")
PY
"$python" train.py --config configs/ffaa/mistral/mids.yaml --dry_run >/dev/null
"$python" inference.py playground/test_images/orl_s01_1.png --model tiny --crop 0 --out "$folder/out" >/dev/null
echo "== the core works alone"
