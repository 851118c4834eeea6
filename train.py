"""Train one stage of one method: ``python train.py --config configs/ffaa/mini/mllm.yaml [--flag value ...]``.

Started again, it goes on from the last checkpoint in its output folder.
"""

from __future__ import annotations

from ffaa.config import parse
from ffaa.methods.stage_config import StageConfig
from ffaa.runtime import EXIT_DONE, run_door


def main() -> int:
    config = parse(StageConfig, prog="train.py", description="Train one stage of one method.")
    from ffaa.methods import find_stage
    from ffaa.training.trainer import train

    print(f"result: {train(find_stage(config.method, config.stage), config)}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
