"""A LLaVA of random weights as the original code writes it: names, files, settings and sentencepiece tokenizer by hand.

``forward`` is the same model from its formulas, on the published names, without transformers.
"""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from ffaa.backbones.llava_convert import convert_llava
from ffaa.dialogue.prompts import FREE_QUESTIONS, SYSTEM_PROMPT

WIDTH, HEADS, KV_HEADS, LAYERS, MIDDLE = 64, 4, 2, 2, 96
VISION_WIDTH, VISION_LAYERS, PATCH, SIDE = 128, 3, 8, 32  # 64 channels a head, as all of OpenAI's CLIP
ROPE_THETA, EPS = 1e6, 1e-5
TOWER = "model.vision_tower.vision_tower.vision_model."
Weights = dict[str, Tensor]


def sentencepiece_model(vocabulary: int = 420) -> bytes:
    """A byte-pair model laid out as Llama's: <unk> <s> </s>, bytes, text as it is, a dummy prefix."""
    lines = [SYSTEM_PROMPT, *FREE_QUESTIONS, "Analysis result: real", "Forgery reasoning: the skin\tis  smooth"]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 3), model_writer=model, vocab_size=vocabulary, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def settings(vocabulary: int = 420, **changed: Any) -> dict[str, Any]:
    """``config.json`` as the original code writes it."""
    values = {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava_llama",
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": MIDDLE,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": 2048,
        "rms_norm_eps": EPS,
        "rope_theta": ROPE_THETA,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "vocab_size": vocabulary,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
        "freeze_mm_mlp_adapter": False,
        "image_aspect_ratio": "pad",
        "mm_hidden_size": VISION_WIDTH,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "unfreeze_mm_vision_tower": True,
    }
    return {**values, **changed}


def weights(vocabulary: int = 420, seed: int = 0, width: int = WIDTH, layers: int = LAYERS, wide: int = 0) -> Weights:
    """All tensors of a merged checkpoint, random, by published names; ``wide``: middle layers of so many widths."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 0.08) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    kv, middle = width * KV_HEADS // HEADS, wide * width or MIDDLE
    found = {
        "model.embed_tokens.weight": random(vocabulary, width, scale=1.0),
        "model.norm.weight": 1 + random(width),
        "lm_head.weight": random(vocabulary, width, scale=0.3),
        "model.image_newline": random(width),
        "model.mm_projector.0.weight": random(width, VISION_WIDTH),
        "model.mm_projector.0.bias": random(width),
        "model.mm_projector.2.weight": random(width, width),
        "model.mm_projector.2.bias": random(width),
        TOWER + "embeddings.class_embedding": random(VISION_WIDTH),
        TOWER + "embeddings.patch_embedding.weight": random(VISION_WIDTH, 3, PATCH, PATCH),
        TOWER + "embeddings.position_embedding.weight": random((SIDE // PATCH) ** 2 + 1, VISION_WIDTH),
        TOWER + "embeddings.position_ids": torch.arange((SIDE // PATCH) ** 2 + 1)[None],
    }
    for index in range(layers):
        shapes = {
            "self_attn.q_proj": (width, width), "self_attn.k_proj": (kv, width), "self_attn.v_proj": (kv, width),
            "self_attn.o_proj": (width, width), "mlp.gate_proj": (middle, width), "mlp.up_proj": (middle, width),
            "mlp.down_proj": (width, middle),
        }  # fmt: skip
        found |= {f"model.layers.{index}.{name}.weight": random(*shape, scale=0.2) for name, shape in shapes.items()}
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"model.layers.{index}.{name}.weight"] = 1 + random(width)
    norms = ["pre_layrnorm", "post_layernorm"]
    for index in range(VISION_LAYERS):
        inner = f"encoder.layers.{index}."
        norms += [inner + "layer_norm1", inner + "layer_norm2"]
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found[f"{TOWER}{inner}self_attn.{name}.weight"] = random(VISION_WIDTH, VISION_WIDTH)
            found[f"{TOWER}{inner}self_attn.{name}.bias"] = random(VISION_WIDTH)
        for name, shape in (("fc1", (160, VISION_WIDTH)), ("fc2", (VISION_WIDTH, 160))):
            found[f"{TOWER}{inner}mlp.{name}.weight"] = random(*shape)
            found[f"{TOWER}{inner}mlp.{name}.bias"] = random(shape[0])
    for name in norms:
        found[f"{TOWER}{name}.weight"] = 1 + random(VISION_WIDTH)
        found[f"{TOWER}{name}.bias"] = random(VISION_WIDTH)
    return found


def write(folder: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, kind: str = "bin3") -> Path:
    """The folder of a checkpoint: ``bin3`` or ``safetensors3`` in three shards with an index, or ``bin`` whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "tokenizer.model").write_bytes(sentencepiece_model())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"add_bos_token": True, "legacy": True, "pad_token": "<unk>", "tokenizer_class": "LlamaTokenizer"})
    )
    if kind == "bin":
        torch.save(dict(tensors), folder / "pytorch_model.bin")
        return folder
    stem, suffix = ("pytorch_model", "bin") if kind == "bin3" else ("model", "safetensors")
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for index in range(3):
        file = f"{stem}-{index + 1:05d}-of-00003.{suffix}"
        part = {name: tensors[name].contiguous() for name in names[index::3]}
        weight_map |= dict.fromkeys(part, file)
        if suffix == "bin":
            torch.save(part, folder / file)
        else:
            save_file(part, folder / file, metadata={"format": "pt"})
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def pixels(image: Image.Image, side: int = SIDE) -> Tensor:
    """LLaVA's ``pad`` mode: a square of CLIP's mean colour, the picture in its middle, bicubic, normalised."""
    longer = max(image.size)
    square = Image.new("RGB", (longer, longer), (122, 116, 104))
    square.paste(image, ((longer - image.width) // 2, (longer - image.height) // 2))
    array = np.asarray(square.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    mean = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
    deviation = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
    return torch.from_numpy(((array - mean) / deviation).transpose(2, 0, 1).copy())[None]


def tower_states(w: Mapping[str, Tensor], prefix: str, values: Tensor, heads: int) -> list[Tensor]:
    """CLIP's hidden states, embeddings first: pre-norm blocks, quick GELU, full attention."""
    width = w[prefix + "embeddings.class_embedding"].shape[0]
    patch = w[prefix + "embeddings.patch_embedding.weight"]
    patches = F.conv2d(values, patch, stride=patch.shape[-1]).flatten(2).transpose(1, 2)
    first = w[prefix + "embeddings.class_embedding"].expand(values.shape[0], 1, -1)
    x = torch.cat([first, patches], dim=1) + w[prefix + "embeddings.position_embedding.weight"]

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (width,), w[f"{prefix}{name}.weight"], w[f"{prefix}{name}.bias"], 1e-5)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[f"{prefix}{name}.weight"], w[f"{prefix}{name}.bias"])

    states = [norm(x, "pre_layrnorm")]
    index = 0
    while f"{prefix}encoder.layers.{index}.layer_norm1.weight" in w:
        inner, x = f"encoder.layers.{index}.", states[-1]
        y = norm(x, inner + "layer_norm1")
        q, k, v = (
            linear(y, f"{inner}self_attn.{name}").unflatten(-1, (heads, -1)).transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        mixed = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(width // heads), dim=-1) @ v
        x = x + linear(mixed.transpose(1, 2).flatten(2), inner + "self_attn.out_proj")
        y = linear(norm(x, inner + "layer_norm2"), inner + "mlp.fc1")
        states.append(x + linear(y * torch.sigmoid(1.702 * y), inner + "mlp.fc2"))
        index += 1
    return states


def forward(w: Mapping[str, Tensor], ids: list[int], values: Tensor, placeholder: int = -200) -> Tensor:
    """Logits (positions, vocabulary) of one row whose ``placeholder`` stands for all of the picture's features."""
    state = tower_states(w, TOWER, values, VISION_WIDTH // 64)[-2][:, 1:]
    y = F.gelu(F.linear(state, w["model.mm_projector.0.weight"], w["model.mm_projector.0.bias"]))
    image = F.linear(y, w["model.mm_projector.2.weight"], w["model.mm_projector.2.bias"])[0]
    at = ids.index(placeholder)
    embed = w["model.embed_tokens.weight"]
    x = torch.cat([embed[torch.tensor(ids[:at])], image, embed[torch.tensor(ids[at + 1 :])]])
    length, head = x.shape[0], WIDTH // HEADS
    angle = torch.arange(length)[:, None] / ROPE_THETA ** (torch.arange(0, head, 2) / head)
    cos, sin = torch.cat([angle, angle], 1).cos(), torch.cat([angle, angle], 1).sin()

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt() * w[name]

    def turn(x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=-1)
        return x * cos + torch.cat([-right, left], dim=-1) * sin

    future = torch.ones(length, length).triu(1).bool()
    for index in range(LAYERS):
        inner = f"model.layers.{index}."
        y = norm(x, inner + "input_layernorm.weight")
        q, k, v = (
            (y @ w[f"{inner}self_attn.{name}_proj.weight"].T).unflatten(-1, (-1, head)).transpose(0, 1)
            for name in ("q", "k", "v")
        )
        k, v = (one.repeat_interleave(HEADS // KV_HEADS, dim=0) for one in (turn(k), v))
        scores = (turn(q) @ k.transpose(-1, -2) / math.sqrt(head)).masked_fill(future, -math.inf)
        mixed = (torch.softmax(scores, dim=-1) @ v).transpose(0, 1).flatten(1)
        x = x + mixed @ w[inner + "self_attn.o_proj.weight"].T
        y = norm(x, inner + "post_attention_layernorm.weight")
        gate, up = (y @ w[f"{inner}mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        x = x + (F.silu(gate) * up) @ w[inner + "mlp.down_proj.weight"].T
    return norm(x, "model.norm.weight") @ w["lm_head.weight"].T


def reference_ids(model: sentencepiece.SentencePieceProcessor, prompt: str, placeholder: int = -200) -> list[int]:
    """The two halves of a prompt encoded apart by sentencepiece itself, one placeholder between them."""
    before, after = prompt.split("<image>")
    return [model.bos_id(), *model.encode(before), placeholder, *model.encode(after)]


def picture(width: int = 43, height: int = 70, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def convert(source: Path, out: Path, **options: object) -> Path:
    out.mkdir()
    convert_llava(source, out, **options)  # type: ignore[arg-type]
    return out


LORA_TARGETS = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")


def lora(folder: Path, base: dict[str, torch.Tensor], *, tower_b: float = 0.0, r: int = 4) -> dict[str, torch.Tensor]:
    """A LoRA folder as the original code saves it; the tensors of the merged model."""
    generator = torch.Generator().manual_seed(9)
    merged, adapters = dict(base), dict[str, torch.Tensor]()
    for index in range(LAYERS):
        for target in LORA_TARGETS:
            name = f"model.layers.{index}.{target}"
            rows, columns = base[f"{name}.weight"].shape
            down, up = torch.randn(r, columns, generator=generator), torch.randn(rows, r, generator=generator) * 0.05
            adapters |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
            merged[f"{name}.weight"] = base[f"{name}.weight"] + 6 / r * up @ down
    tower = TOWER + "encoder.layers.0.self_attn.q_proj"
    adapters[f"{tower}.lora_A.weight"] = torch.randn(r, VISION_WIDTH)
    adapters[f"{tower}.lora_B.weight"] = torch.full((VISION_WIDTH, r), tower_b)
    others = {name: base[name] + 0.1 for name in base if "mm_projector" in name}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({f"base_model.model.{name}": one for name, one in adapters.items()}, folder / "adapter_model.bin")
    torch.save({f"base_model.model.{name}": one for name, one in others.items()}, folder / "non_lora_trainables.bin")
    facts = {"r": r, "lora_alpha": 6, "bias": "none", "base_model_name_or_path": "liuhaotian/llava-v1.6-mistral-7b"}
    (folder / "adapter_config.json").write_text(json.dumps(facts))
    (folder / "config.json").write_text(json.dumps(settings()))
    return {**merged, **others}


_ALONE = """
import json, sys
import numpy as np
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration
folder = sys.argv[1]
model, processor = LlavaForConditionalGeneration.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
size = tuple(map(int, sys.argv[2].split("x")))
image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
answers = []
for question in json.loads(sys.argv[3]):
    turn = {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}
    inputs = processor.apply_chat_template(
        [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    made = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0, inputs["input_ids"].shape[1]:]
    answers.append(processor.tokenizer.decode(made, skip_special_tokens=True))
assert not [name for name in sys.modules if name.split(".")[0] == "ffaa"]
print(json.dumps(answers))
"""


def answers_of_transformers_alone(folder: Path, size: tuple[int, int], questions: list[str], place: Path) -> list[str]:
    """What the folder's model answers in a process that has no code of this project."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, str(folder), f"{size[0]}x{size[1]}", json.dumps(questions)],
        capture_output=True, text=True, cwd=place, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found
