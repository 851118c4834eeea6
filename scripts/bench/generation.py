"""Three answers a picture: the reference's algorithm against this project's, same weights, pictures and run.

The reference calls ``generate`` once for each answer, and each call encodes the picture and reads the prompt again.
Ours encodes each picture once, reads what its prompts have in common once and decodes all answers of a block together.
``--shape 7b`` computes instead of measuring: what both cost for LLaVA-v1.6-Mistral-7B, on the meta device.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ffaa.config import Switch, load_yaml, model_folder, parse
from ffaa.data.images import find_images, open_image
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, Compute, pick_device, run_door
from ffaa.types import GeneratedText, InputError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from ffaa.backbones.generation import TransformersEngine


@dataclass(frozen=True)
class Options:
    model: str = "mini"
    """A folder of configs/ffaa/ whose language model is measured."""
    shape: Literal["model", "7b"] = "model"
    """7b: compute the costs of LLaVA-v1.6-Mistral-7B and measure nothing."""
    pictures: Path = PROJECT_ROOT / "benchmark" / "free_ma" / "imgs"
    """Folder of face crops."""
    blocks: str = "1,8,32"
    """Numbers of pictures answered together."""
    dtypes: str = "bfloat16,float32"
    """Precisions."""
    reference_pictures: int = 4
    """Pictures that the reference answers, one after the other."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    attn_implementation: str | None = None
    """Attention by transformers' name."""
    compile: Switch = False
    """Compile the language model."""
    profile: Switch = False
    """Show instead where the time of the largest block goes, by operation."""
    peak_tflops: float = 989.0
    """For --shape 7b: the GPU's bfloat16 peak (H100 SXM by default)."""
    peak_gbytes: float = 3350.0
    """For --shape 7b: its memory bandwidth in GB/s."""


@dataclass(frozen=True)
class Measured:
    """One algorithm at one block size."""

    texts: list[list[GeneratedText]]
    seconds: float
    first: float
    peak_bytes: int


def main() -> int:
    options = parse(Options, prog="generation.py", description=__doc__ or "")
    blocks = [int(size) for size in options.blocks.split(",")]
    if options.shape == "7b":
        foretell(options, blocks)
    else:
        for dtype in options.dtypes.split(","):
            measure(options, blocks, dtype)
    return EXIT_DONE


def measure(options: Options, blocks: Sequence[int], dtype: str) -> None:
    """One precision: the machine, the reference, and ours at each block size."""
    from ffaa.backbones.generation_cost import AnsweringCost
    from ffaa.dialogue.prompts import HYPOTHESIS_QUESTIONS, free_question

    device = pick_device(options.device)
    engine = load_engine(options, device, dtype)
    files = find_images(options.pictures)[: max(blocks)]
    if len(files) < max(blocks):
        raise InputError(f"{options.pictures} holds {len(files)} pictures, {max(blocks)} are wanted")
    images = [open_image(file) for file in files]
    asked = [[free_question(file.name, 0), *HYPOTHESIS_QUESTIONS.values()] for file in files]
    flops, bandwidth = machine(device, engine.mllm.model.dtype)
    print(f"\n{dtype} on {device}: matmul {flops / 1e9:.0f} GFLOP/s, copy {bandwidth / 1e9:.1f} GB/s")
    engine.ask(images[:1], asked[:1])  # warm
    if options.profile:
        profile(engine, images, asked)
        return
    few = slice(options.reference_pictures)
    reference = watched(device, partial(one_by_one, engine, images[few], asked[few]))
    before = rate(reference)
    cost = AnsweringCost(engine.mllm.model.config, engine.mllm.model.dtype.itemsize)
    print("algorithm       images/s  tokens/s  gain  first s  peak MB  equal texts  of matmul  of bandwidth")
    show("one by one", reference, reference, before, engine, share_of(engine, cost, reference, None, flops, bandwidth))
    for size in blocks:
        number = size * math.ceil(max(4, size) / size)
        ours = watched(device, partial(in_blocks, engine, images[:number], asked[:number], size))
        shares = share_of(engine, cost, ours, size, flops, bandwidth)
        show(f"ours, block {size}", ours, reference, before, engine, shares)
    again = watched(device, partial(one_by_one, engine, images[few], asked[few]))
    print(f"one by one again, after the others: {rate(again):.3f} images/s")


def profile(engine: TransformersEngine, images: Sequence[Image], asked: Sequence[Sequence[str]]) -> None:
    """The operations that take most of the time of one block, theirs alone."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    with record(activities=[ProfilerActivity.CPU]) as recorded:
        engine.ask(images, asked)
    events = sorted(recorded.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    for event in events[:12]:
        print(f"{event.self_cpu_time_total / total:5.1%}  {event.count:7} x {event.key}")


def load_engine(options: Options, device: torch.device, dtype: str) -> TransformersEngine:
    """The language model of the model's checkpoint."""
    from ffaa.backbones.generation import GenerationSettings, TransformersEngine
    from ffaa.methods.checkpoint import find_checkpoint, load_trained_mllm
    from ffaa.methods.ffaa.method import FfaaConfig

    model_dir = model_folder("ffaa", options.model)
    config = load_yaml(model_dir / "model.yaml", FfaaConfig)
    checkpoint = find_checkpoint(config.checkpoint, None, methods=("ffaa",))
    compute = Compute(str(device), dtype, options.attn_implementation, options.compile)
    mllm = load_trained_mllm(config.mllm, checkpoint, model_dir, compute=compute, seed=0)
    return TransformersEngine(mllm, GenerationSettings(config.max_new_tokens))


Texts = Iterator[list[list[GeneratedText]]]


def one_by_one(engine: TransformersEngine, images: Sequence[Image], asked: Sequence[Sequence[str]]) -> Texts:
    """The reference's algorithm: plain ``generate`` for each answer."""
    mllm = engine.mllm
    for image, questions in zip(images, asked, strict=True):
        row = []
        for question in questions:
            inputs = mllm.processor(images=image, text=mllm.prompt(question), return_tensors="pt")
            inputs = inputs.to(mllm.model.device, mllm.model.dtype)
            ids = mllm.model.generate(**inputs, max_new_tokens=engine.settings.max_new_tokens, do_sample=False)
            new = ids[0, inputs["input_ids"].shape[1] :].tolist()
            finished = mllm.end_token_id in new
            kept = new[: new.index(mllm.end_token_id)] if finished else new
            row.append(GeneratedText(mllm.tokenizer.decode(kept, skip_special_tokens=True).strip(), finished, None))
        yield [row]


def in_blocks(engine: TransformersEngine, images: Sequence[Image], asked: Sequence[Sequence[str]], size: int) -> Texts:
    """Ours."""
    for start in range(0, len(images), size):
        yield engine.ask(images[start : start + size], asked[start : start + size])


def watched(device: torch.device, work: Callable[[], Texts]) -> Measured:
    """Times, and the growth of memory at its highest."""
    with memory_peak(device) as peak:
        began = time.perf_counter()
        texts: list[list[GeneratedText]] = []
        first = 0.0
        for block in work():
            first = first or time.perf_counter() - began
            texts += block
        seconds = time.perf_counter() - began
    return Measured(texts, seconds, first, peak[0])


@contextmanager
def memory_peak(device: torch.device) -> Iterator[list[int]]:
    """A list whose one item becomes the bytes by which memory grew at most."""
    import psutil
    import torch

    peak = [0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak[0] = torch.cuda.max_memory_allocated(device) - before
        return
    process, done = psutil.Process(), threading.Event()
    start = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss - start)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield peak
    done.set()
    watcher.join()


def machine(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """What it can do: FLOP/s of a large matrix product, bytes/s of a large copy (read and written), best of five."""
    import torch

    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    long = torch.empty(2**28, device=device, dtype=torch.uint8)
    other = torch.empty_like(long)

    def best(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(6):
            began = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - began)
        return min(times[1:])

    return 2 * side**3 / best(lambda: a @ b), 2 * long.numel() / best(lambda: other.copy_(long))


def rate(measured: Measured) -> float:
    """Pictures a second."""
    return len(measured.texts) / measured.seconds


def tokens(engine: TransformersEngine, texts: Sequence[Sequence[GeneratedText]]) -> list[int]:
    """Tokens of each answer."""
    return [len(engine.mllm.tokenizer(text.text)["input_ids"]) + text.finished for row in texts for text in row]


def share_of(
    engine: TransformersEngine, cost: Any, measured: Measured, block: int | None, flops: float, bandwidth: float
) -> tuple[float, float]:
    """Shares of the machine's matmul and bandwidth that the counted cost of what was done stands for."""
    from ffaa.backbones.generation_cost import Cost, Lengths
    from ffaa.dialogue.prompts import FREE_QUESTIONS

    counted, pictures = tokens(engine, measured.texts), len(measured.texts)
    prompt = len(engine.mllm.prompt_ids(engine.mllm.prompt(FREE_QUESTIONS[0])))
    start = engine.mllm.image_tokens + 4
    # Together, all rows go on until the longest answer is done.
    length = max(counted) if block else sum(counted) // len(counted)
    lengths = Lengths(start, prompt - start, length)
    if block:
        total = sum(cost.together(lengths, block), Cost()) * (pictures / block)
    else:
        total = sum(cost.one_by_one(lengths), Cost()) * pictures
    return total.flops / measured.seconds / flops, total.bytes / measured.seconds / bandwidth


def show(
    name: str,
    measured: Measured,
    reference: Measured,
    before: float,
    engine: TransformersEngine,
    shares: tuple[float, float],
) -> None:
    """One line of the table."""
    pairs = [
        (one.text, other.text)
        for mine, theirs in zip(measured.texts, reference.texts, strict=False)
        for one, other in zip(mine, theirs, strict=True)
    ]
    equal = sum(one == other for one, other in pairs)
    speed = sum(tokens(engine, measured.texts)) / measured.seconds
    print(
        f"{name:<15} {rate(measured):8.3f}  {speed:8.1f}  {rate(measured) / before:4.1f}  {measured.first:7.2f}  "
        f"{measured.peak_bytes / 1e6:7.0f}  {f'{equal} of {len(pairs)}':>11}  {shares[0]:9.0%}  {shares[1]:12.0%}",
        flush=True,
    )


def foretell(options: Options, blocks: Sequence[int]) -> None:
    """Counted costs of the published size a picture, and the least time they take on such a GPU."""
    from ffaa.backbones.generation_cost import AnsweringCost, Cost, Lengths
    from ffaa.backbones.shapes import llava_config
    from ffaa.methods.ffaa.method import FfaaConfig

    published = load_yaml(model_folder("ffaa", "mistral") / "model.yaml", FfaaConfig)
    cost = AnsweringCost(llava_config(published.mllm))
    # 576 image tokens, vicuna_v1's opening; answers of the paper's length.
    lengths = Lengths(start=576 + 40, question=40, answer=300)
    peak, bandwidth = options.peak_tflops * 1e12, options.peak_gbytes * 1e9
    print("algorithm       TFLOP a picture  GB a picture  least s a picture  gain")

    def row(name: str, passes: Sequence[Cost], pictures: int, before: float) -> float:
        total = sum(passes, Cost()) * (1 / pictures)
        seconds = sum(one.seconds(peak, bandwidth) for one in passes) / pictures
        gain = f"{before / seconds:4.1f}" if before else " 1.0"
        print(f"{name:<15} {total.flops / 1e12:15.1f}  {total.bytes / 1e9:12.0f}  {seconds:17.3f}  {gain}")
        return seconds

    before = row("one by one", cost.one_by_one(lengths), 1, 0.0)
    for size in blocks:
        row(f"ours, block {size}", cost.together(lengths, size), size, before)


if __name__ == "__main__":
    run_door(main)
