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
        known = {file.path.stem: file.path for file in found}
        names = [name.strip() for name in options.clear.split(",")]
        for name in known if names == ["all"] else dict.fromkeys(names):
            if name not in known:
                raise InputError(f"no kept answers {name!r}; there are {', '.join(known) or 'none'}")
            known[name].unlink(missing_ok=True)
            print(f"{name}: removed")
        return EXIT_DONE
    for file in found:
        size = file.path.stat().st_size / 1e6
        who = ", ".join(f"{key} {str(value)[:12]}" for key, value in file.written_by.items() if value is not None)
        print(f"{file.path.stem}  {size:8.2f} MB  {file.answers:8} answers  {file.problem or who}")
    print(f"{len(found)} files in {answers_home()}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
