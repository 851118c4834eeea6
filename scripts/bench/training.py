"""A step of training: the plain way against this project's, same weights, pictures, precision and run.

Plain is the reference's algorithm: towers in every step, stage 1 with the vocabulary at every position, MIDS with a
picture's states repeated for each of its answers. Ours keeps frozen towers' outputs (here: kept before, as from the
second epoch on), and does each thing once. Both sides take the same batches with the same draws and step an optimiser
of their own, in alternating blocks, so that other work on the machine slows both; what counts is their ratio.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from ffaa.config import CONFIGS, dump_yaml, load_yaml, parse
from ffaa.methods.stage_config import StageConfig
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, pick_device, pick_dtype, run_door

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ffaa.methods.base import StageRun
    from ffaa.methods.ffaa.method import FfaaConfig


@dataclass(frozen=True)
class Options:
    size: Literal["mini", "tiny", "mistral"] = "mini"
    """A folder of configs/ffaa/ whose model is trained; of mistral, MIDS alone, in its published shape with random
    weights and a token a byte."""
    data: Path = PROJECT_ROOT / "data" / "mini" / "training"
    """A set with records.jsonl and answers.jsonl."""
    cases: str = "stage 1,MIDS,MIDS augmented"
    """What is measured, of these three."""
    batches: int = 3
    """Batches of each side's block; the same in each round."""
    rounds: int = 3
    """Blocks of each side."""
    batch_size: int | None = None
    """Pictures a step; null: of the stage's configuration."""
    dtype: str = "bfloat16"
    """bfloat16 (autocast) or float32."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    count: str | None = None
    """Instead of measuring: the arithmetic of a step of MIDS of this folder of configs/ffaa/, such as mistral."""


@dataclass
class Side:
    """One way of training: its model, optimiser, and what was measured of it."""

    run: StageRun
    optimizer: torch.optim.Optimizer
    loss: Callable[[nn.Module, dict[str, Any]], Tensor]
    device: torch.device
    dtype: torch.dtype
    losses: list[float] = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def step(self, indices: Sequence[int], seed: int) -> None:
        """Data, forward, backward and a step of the optimiser."""
        import torch

        torch.manual_seed(seed)
        with self.part("data"):
            batch = _moved(self.run.collate([self.run.train[index] for index in indices]), self.device)
        with self.part("forward"), self.autocast():
            loss = self.loss(self.run.model, batch)
        with self.part("backward"):
            loss.backward()
        with self.part("optimiser"):
            torch.nn.utils.clip_grad_norm_([p for p in self.run.model.parameters() if p.requires_grad], 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.losses.append(float(loss.detach()))

    def autocast(self) -> torch.autocast:
        """As the Trainer has it."""
        import torch

        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def fill(self, indices: Sequence[int]) -> None:
        """A pass that has the frozen towers' outputs kept."""
        import torch

        with torch.no_grad(), self.autocast():
            self.run.model(**_moved(self.run.collate([self.run.train[index] for index in indices]), self.device))

    def block(self, batches: Sequence[Sequence[int]], seed: int) -> None:
        """All batches once, timed as a whole."""
        began = time.perf_counter()
        for number, indices in enumerate(batches):
            self.step(indices, seed + number)
        self.blocks.append(time.perf_counter() - began)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds to the time of a part of the step."""
        began = self._now()
        yield
        self.parts[name] += self._now() - began

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Times a method as a part of its own, which lies within another part."""
        inner = getattr(owner, method)

        def timed(*arguments: Any, **keywords: Any) -> Any:
            with self.part(name):
                return inner(*arguments, **keywords)

        setattr(owner, method, timed)

    def _now(self) -> float:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def main() -> int:
    import torch

    options = parse(Options, prog="training.py", description=__doc__ or "")
    if options.count is not None:
        return count_mids(options.count)
    device = pick_device(options.device)
    peak = matmul_peak(device, pick_dtype(options.dtype, device))
    print(f"{options.size}, {options.dtype} on {device}, {torch.get_num_threads()} threads: ", end="")
    print(f"matrix products {peak / 1e9:.0f} GFLOP/s")
    for case in options.cases.split(","):
        compare(case.strip(), options, peak)
    return EXIT_DONE


def compare(case: str, options: Options, peak: float) -> None:
    """One stage, both ways."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        config = stage_config(case, options, Path(folder))
        plain = make_side(replace(config, feature_cache=None), plain_loss(config.stage))
        ours = make_side(config, lambda model, batch: cast("Tensor", model(**batch).loss))
        count = options.batches * config.batch_size
        order = torch.randperm(len(cast("Sequence[Any]", ours.run.train)), generator=torch.Generator().manual_seed(0))
        chosen = order[:count].tolist()
        batches = [chosen[start : start + config.batch_size] for start in range(0, count, config.batch_size)]
        began = time.perf_counter()
        for indices in batches:
            ours.fill(indices)
        filled = time.perf_counter() - began
        flops = [counted_flops(side, batches[0]) for side in (plain, ours)]
        for side in (plain, ours):
            side.parts.clear()
        print(f"\n{case}: batches of {config.batch_size}; filling the cache {filled / count:.2f} s a picture")
        for number in range(options.rounds):
            for side in (plain, ours) if number % 2 == 0 else (ours, plain):
                side.block(batches, seed=1000 * number)
        report(plain, ours, flops, peak, options.batches)
        report_padding(ours, chosen, batches, config.batch_size)


def stage_config(case: str, options: Options, folder: Path) -> StageConfig:
    """The stage as configs/ffaa/mini/ has it, from fresh weights."""
    stage = "mllm" if case == "stage 1" else "mids"
    config = load_yaml(CONFIGS / "ffaa" / "mini" / f"{stage}.yaml", StageConfig)
    kept = {} if stage == "mids" else {"mixstyle": config.options["mixstyle"], "slots": config.options["slots"]}
    return replace(
        config,
        model=random_model(options.size, folder) if options.size == "mistral" else options.size,
        data=options.data,
        validation=None,
        init=None,
        output=folder / "out",
        batch_size=options.batch_size or config.batch_size,
        dtype=options.dtype,
        device=options.device,
        feature_cache=folder / "features",
        options=kept if stage == "mllm" else {"augment": case == "MIDS augmented"},
    )


def with_shapes(name: str) -> FfaaConfig:
    """The configuration of a model whose selector stands on towers of the published shape, without their weights."""
    from ffaa.backbones.shapes import shape_of
    from ffaa.config import model_folder
    from ffaa.methods.ffaa.method import FfaaConfig

    config = load_yaml(model_folder("ffaa", name) / "model.yaml", FfaaConfig)
    vision, text = shape_of(config.mids.vision, "vision"), shape_of(config.mids.text, "text")
    return replace(config, mids=replace(config.mids, vision=vision, text=text))


def random_model(name: str, folder: Path) -> str:
    """A model's folder like ``configs/ffaa/<name>``, whose towers are random."""
    (folder / "model").mkdir()
    dump_yaml(with_shapes(name), folder / "model" / "model.yaml")
    return str(folder / "model")


def make_side(config: StageConfig, loss: Callable[[nn.Module, dict[str, Any]], Tensor]) -> Side:
    """The stage prepared from its seed, so that both sides begin with the same weights."""
    import torch

    from ffaa.methods import find_stage
    from ffaa.training.trainer import freeze

    torch.manual_seed(config.seed)
    run = find_stage("ffaa", config.stage).prepare(config)
    device = pick_device(config.device)
    optimizer = torch.optim.AdamW(freeze(run.model, config.groups), fused=True)  # as the Trainer has it
    run.model.to(device).train()
    side = Side(run, optimizer, loss, device, pick_dtype(config.dtype, device))
    model: Any = run.model
    if config.stage == "mllm":
        side.watch(model.model.get_base_model().model.vision_tower, "forward", "  picture tower")
    else:
        side.watch(model, "frozen_states", "  picture tower")
        side.watch(model.text_encoder, "forward", "  text tower")
    return side


def plain_loss(stage: str) -> Callable[[nn.Module, dict[str, Any]], Tensor]:
    """The reference's algorithm on the same modules."""
    return _plain_mllm if stage == "mllm" else _plain_mids


def _plain_mllm(model: Any, batch: dict[str, Any]) -> Tensor:
    """The vocabulary at every position, as ``LlavaForConditionalGeneration`` computes it with labels."""
    import torch

    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")} | batch["pictures"]
    logits = model.model.get_base_model()(**inputs, use_cache=False).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch["labels"][:, 1:], reduction="none")
    weights = batch["weights"][:, 1:] * (batch["labels"][:, 1:] != -100)
    return cast("Tensor", (losses * weights).sum() / weights.sum())


def _plain_mids(model: Any, batch: dict[str, Any]) -> Tensor:
    """Each answer with a copy of its picture's states, whose keys and values every copy projects anew."""
    import torch

    from ffaa.methods.ffaa.mids import IGNORED_LABEL, visible_tokens

    answers = batch["input_ids"].shape[1]
    ids, mask = batch["input_ids"].flatten(0, 1), visible_tokens(batch["attention_mask"].flatten(0, 1))
    text, seen = model.text_states(ids, mask), mask.bool()
    tokens = []
    for stream, states in zip(model.streams, model.vision_states(batch["pixel_values"]), strict=True):
        image = stream.projector(stream.norm(stream.instance_norm(states))).repeat_interleave(answers, dim=0)
        text_states = stream.text_reads_image(text, image)
        image_states = stream.image_reads_text(image, text, seen)
        queries = [one.to(text_states.dtype).expand(len(ids), 1, -1) for one in (stream.text_query, stream.image_query)]
        pooled = [stream.text_pool(queries[0], text_states, seen), stream.image_pool(queries[1], image_states)]
        tokens.append(torch.cat([stream.class_projector(image[:, :1]), *pooled], dim=1))
    fused = torch.cat(tokens, dim=1)
    for block in model.self_blocks:
        fused = block(fused)
    rows, labels = model.classifier(fused.flatten(1)).float(), batch["labels"].flatten()
    return torch.nn.functional.cross_entropy(rows, labels, ignore_index=IGNORED_LABEL)


def report(plain: Side, ours: Side, flops: Sequence[float], peak: float, batches: int) -> None:
    """Losses side by side, the gain, and where the time goes."""
    differences = [abs(one - other) for one, other in zip(plain.losses, ours.losses, strict=True)]
    print("loss, plain   " + " ".join(f"{loss:8.4f}" for loss in plain.losses))
    print("loss, ours    " + " ".join(f"{loss:8.4f}" for loss in ours.losses))
    gains = [one / other for one, other in zip(plain.blocks, ours.blocks, strict=True)]
    print(f"largest difference {max(differences):.1e}, of the first step {differences[0]:.1e}")
    print(f"gain {statistics.median(gains):.2f} (of each round: {', '.join(f'{gain:.2f}' for gain in gains)})")
    print("way      s a step  TFLOP a step  of matmul peak  where the time goes (towers lie within forward)")
    for name, side, cost in (("plain", plain, flops[0]), ("ours", ours, flops[1])):
        seconds, total = statistics.median(side.blocks) / batches, sum(side.blocks)
        shares = ", ".join(f"{part.strip()} {spent / total:.0%}" for part, spent in side.parts.items())
        print(f"{name:<8} {seconds:8.2f}  {cost / 1e12:12.3f}  {cost / seconds / peak:14.0%}  {shares}")


def report_padding(ours: Side, chosen: Sequence[int], batches: Sequence[Sequence[int]], size: int) -> None:
    """The positions that batches of like lengths spare, on the same pictures."""
    lengths = cast(Any, ours.run.train).lengths
    ordered = sorted(chosen, key=lambda index: -lengths[index])
    grouped = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    padding = []
    for order in (batches, grouped):
        masks = [ours.run.collate([ours.run.train[i] for i in indices])["attention_mask"].float() for indices in order]
        padding.append(1 - sum(float(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks))
    print(f"padding: {padding[0]:.1%} of text and picture positions, {padding[1]:.1%} where grouped by length")


def counted_flops(side: Side, indices: Sequence[int]) -> float:
    """Of forward and backward of one batch with a cache that is filled, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    batch = _moved(side.run.collate([side.run.train[index] for index in indices]), side.device)
    with FlopCounterMode(display=False) as counter:
        with side.autocast():
            loss = side.loss(side.run.model, batch)
        loss.backward()
    side.optimizer.zero_grad()
    return float(counter.get_total_flops())


def count_mids(name: str) -> int:
    """A picture's share of a step of stage 2, without weights: both ways, and ours with what the frozen towers gave.

    torch does not count what attention multiplies on a CPU beside its projections, in either way.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from ffaa.methods.ffaa.mids import build_mids

    config = load_yaml(CONFIGS / "ffaa" / name / "mids.yaml", StageConfig)
    settings = with_shapes(name).mids
    model = build_mids(settings, device="meta").train()
    tower: Any = model.image_encoder.config
    length = int(config.assume.mean_text)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        pixels = torch.zeros(1, 3, settings.image_size, settings.image_size)
        ids = torch.zeros(1, settings.num_answers, length, dtype=torch.long)
        batch = {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
        batch["labels"] = torch.zeros(ids.shape[:2], dtype=torch.long)
        text = torch.zeros(settings.num_answers, length, settings.hidden_dim)
        patches = (settings.image_size // tower.patch_size) ** 2
        frozen = torch.zeros(1, len(model.frozen_layers), 1 + patches, tower.hidden_size)
        ways: dict[str, Callable[[], Any]] = {
            "plain": lambda: _plain_mids(model, batch),
            "ours, pictures augmented": lambda: model(**batch, text=text).loss,
            "ours, towers' outputs kept": lambda: model(**batch, frozen=frozen, text=text).loss,
        }
        print(f"MIDS of {name}: a picture with {settings.num_answers} answers of {length} tokens, counted")
        counted: dict[str, float] = {}
        for way, loss in ways.items():
            with FlopCounterMode(display=False) as counter:
                loss().backward()
            counted[way] = counter.get_total_flops()
            print(f"{way:<28} {counted[way] / 1e12:7.3f} TFLOP  {counted['plain'] / counted[way]:5.2f}")
    return EXIT_DONE


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product, best of five."""
    import torch

    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(6):
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return float(2 * size**3 / min(times[1:]))


def _moved(batch: Any, device: torch.device) -> dict[str, Any]:
    from accelerate.utils import send_to_device

    return cast("dict[str, Any]", send_to_device(batch, device))


if __name__ == "__main__":
    run_door(main)
