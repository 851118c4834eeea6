"""The page beside shared weights: what they are, how they are loaded, and what they must not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, StrictUndefined

_CARD = """\
---
library_name: transformers
{% if licence %}license: {{ licence }}
{% endif %}pipeline_tag: image-text-to-text
tags:
  - deepfake-detection
  - face-forgery-analysis
{% if base %}base_model: {{ base }}
{% endif %}---

# {{ name }}

{% if method == "plain" -%}
A language model with eyes that says whether a face picture is real or forged, and why.
{%- elif method == "llava" -%}
The language model of FFAA (arXiv 2408.10072): whether a face picture is real or forged, and why.
{%- else -%}
Weights of FFAA (arXiv 2408.10072), which says whether a face picture is real or forged, and why.
{%- endif %}

## Load

{% if method == "plain" -%}
```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{{ repo_id }}")
processor = AutoProcessor.from_pretrained("{{ repo_id }}")
```

The processor's chat template gives the token ids of training, its first token included.
{%- else -%}
A checkpoint of the project `ffaa`. Download the folder and name it:

```bash
python inference.py PICTURE{{ flag }} --model {{ model }} --checkpoint FOLDER
```
{% if whole %}
Its folder `mllm/` is a plain model of transformers and loads without any code of that project.
{%- endif %}
{%- endif %}

Input is one face crop: the square of 1.3 times the longer side of the face box. `P(fake)` is 1 for fake.

## What it is

| | |
|---|---|
{% for key, value in facts -%}
| {{ key }} | {{ value }} |
{% endfor %}
{% if options -%}
Options that these weights depend on: {{ options }}.

{% endif -%}
{% if figures -%}
## Measured

{{ figures }}

{% endif -%}
## What it must not be used for

Not to decide anything about a person, not to call a real person's picture a fake or a picture genuine in public, not to
make forgeries of people who did not agree. A verdict is no evidence, and the reason that is given is text from a
language model: nothing forces a sentence about a new picture to be true. How errors differ by age, sex or skin colour
is to be measured before any use.

## Files

| file | bytes | SHA-256 |
|---|---|---|
{% for file, size, digest in files -%}
| {{ file }} | {{ size }} | `{{ digest }}` |
{% endfor -%}
"""


def model_card(
    facts: Mapping[str, Any],
    *,
    repo_id: str,
    files: Sequence[tuple[str, int, str]],
    selector: Mapping[str, Any] | None = None,
    whole: bool = False,
    licence: str | None = None,
    base: str | None = None,
    figures: str | None = None,
) -> str:
    """A model card in Markdown, with the hub's settings at its head.

    Args:
        facts: what the checkpoint says of itself (``checkpoint.json``); empty for a plain folder of transformers.
        repo_id: its name on the hub.
        files: name, size in bytes and SHA-256 of each.
        selector: configuration of MIDS, where the weights hold one.
        whole: the language model is there as a whole, not as an adapter.
        licence: as the hub spells it; None leaves it out.
        base: hub id of what it was made from.
        figures: Markdown of what was measured; None: the section is left out, for no figure is made up here.
    """
    method = str(facts.get("method", "plain"))
    rows = [
        (key.replace("_", " "), facts[key]) for key in ("model", "converted_from", "git_revision") if facts.get(key)
    ]
    rows += [
        (f"base: {role}", f"{entry['source']} (`{entry['hash'][:8]}`)")
        for role, entry in facts.get("bases", {}).items()
    ]
    if facts.get("conversation"):
        rows.append(("tokens and layout of the conversation", f"`{facts['conversation'][:8]}`"))
    rows += [
        (f"data of stage {stage}", f"{part['records']} records, `{part['sha256'][:8]}`")
        for stage, known in facts.get("stages", {}).items()
        for part in [(known.get("data") or {}).get("train")]
        if part
    ]
    named = ("padding_mask", "mask_answers", "channel_order", "reinit_unfrozen", "max_text_tokens")
    options = (
        ", ".join(f"`{key}: {str(selector[key]).lower()}`" for key in named if key in selector) if selector else ""
    )
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False).from_string(_CARD)
    return template.render(
        name=repo_id.rpartition("/")[2],
        repo_id=repo_id,
        method=method,
        model=facts.get("model"),
        flag="" if method == "ffaa" else f" --method {method}",
        facts=rows,
        options=options,
        files=files,
        whole=whole,
        licence=licence,
        base=base,
        figures=figures,
    )
