"""The answers that evaluations kept in ``$FFAA_HOME/answers``: shown, and removed with ``--clear``."""

from __future__ import annotations

from dataclasses import dataclass

from ffaa.config import parse
from ffaa.runtime import EXIT_DONE, run_door
from ffaa.types import InputError


@dataclass(frozen=True)
class Options:
    clear: str = ""
    """Files to remove, by the names that the list shows, with commas between them; or all."""


def main() -> int:
    options = parse(Options, prog="ffaa answers", description=__doc__ or "")
    from ffaa.evaluation.answer_cache import answers_home, kept

    found = kept()
    if options.clear:
        known = {path.stem: path for path, *_ in found}
        names = list(known) if options.clear == "all" else [name.strip() for name in options.clear.split(",")]
        if unknown := [name for name in names if name not in known]:
            raise InputError(f"no kept answers {unknown[0]!r}; there are {', '.join(known) or 'none'}")
        for name in names:
            known[name].unlink(missing_ok=True)
            print(f"{name}: removed")
        return EXIT_DONE
    for path, count, writer in found:
        size = path.stat().st_size / 1e6
        who = ", ".join(f"{key} {str(value)[:12]}" for key, value in writer.items() if value is not None)
        print(f"{path.stem}  {size:8.2f} MB  {count if count >= 0 else 'damaged':>8} answers  {who}")
    print(f"{len(found)} files in {answers_home()}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
