"""Train one stage of one method: ``python train.py --config configs/ffaa/mini/mllm.yaml [--flag value ...]``.

Started again, it goes on from the last whole state in its output folder. ``--dry_run`` says what would be trained, in
how many steps and in how much memory.
"""

from __future__ import annotations

from ffaa.config import parse
from ffaa.methods.stage_config import StageConfig
from ffaa.runtime import EXIT_DONE, run_door


def main() -> int:
    config = parse(StageConfig, prog="train.py", description="Train one stage of one method.")
    from ffaa.methods import find_stage

    if config.dry_run:
        from ffaa.training.plan import describe, make_plan

        print(describe(make_plan(find_stage(config.method, config.stage), config)))
        return EXIT_DONE
    from ffaa.training.trainer import train

    print(f"result: {train(find_stage(config.method, config.stage), config)}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
