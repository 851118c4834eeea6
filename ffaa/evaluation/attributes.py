"""Groups of people by age, sex and skin tone: bands of estimates, or what a benchmark's own metadata say."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffaa.config import read_json
from ffaa.types import InputError

ATTRIBUTES, SUBGROUPS = "attributes.json", "subgroups.json"
"""In a result folder: estimates by picture, and figures by group (scripts/score_subgroups.py)."""

AGE_BANDS = ((30.0, "under 30"), (45.0, "30 to 44"), (float("inf"), "45 and over"))
"""Upper bound in years, exclusive, and name."""
TONE_BANDS = ((28.0, "dark or shaded"), (41.0, "medium"), (float("inf"), "light"))
"""Upper bound in degrees, exclusive: six classes of Chardon et al. 1991, those below 28, and those above 41, as one."""


@dataclass(frozen=True)
class Attributes:
    """Estimates of one face, or medians of several of one person's.

    ``age`` in years; ``male``, the probability of that of two classes; ``tone``, the individual typology angle in
    degrees, from -90 (darkest) to 90 (lightest), None of a grey picture. Raises ValueError for what lies outside.
    """

    age: float
    male: float
    tone: float | None

    def __post_init__(self) -> None:
        # Estimates are kept in a file that may be corrected by hand.
        for name, least, most in (("age", 0.0, 150.0), ("male", 0.0, 1.0), ("tone", -90.0, 90.0)):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and least <= value <= most) and not (name == "tone" and value is None):
                raise ValueError(f"{name} must be a number from {least:g} to {most:g}, got {value!r}")

    def groups(self) -> dict[str, str]:
        """Attribute -> group."""
        found = {"sex": "male" if self.male > 0.5 else "female", "age": _band(self.age, AGE_BANDS)}
        return found if self.tone is None else {**found, "skin as photographed": _band(self.tone, TONE_BANDS)}


def _band(value: float, bands: Sequence[tuple[float, str]]) -> str:
    return next(name for bound, name in bands if value < bound)


def in_order(groups: Iterable[str]) -> list[str]:
    """Bands from the lowest to the highest, then other groups by name."""
    bands = [name for _, name in (*AGE_BANDS, *TONE_BANDS)]
    return sorted(groups, key=lambda group: (bands.index(group) if group in bands else len(bands), group))


def of_one_person(estimates: Iterable[Attributes]) -> Attributes:
    """Medians over one person's pictures: nobody is in two groups."""
    known = list(estimates)
    tones = [one.tone for one in known if one.tone is not None]
    return Attributes(
        statistics.median(one.age for one in known),
        statistics.median(one.male for one in known),
        statistics.median(tones) if tones else None,
    )


def read_metadata(file: Path, pictures: Collection[str]) -> dict[str, dict[str, str]]:
    """Picture -> attribute -> group of a JSON file, of those in ``pictures``; an ``age`` in years gets its band.

    Raises:
        InputError: the file cannot be read, is no such mapping, or names none of ``pictures``.
    """
    found = {
        picture: _groups(values, f"{file}: {picture!r}")
        for picture, values in read_json(file, unique=True).items()
        if picture in pictures
    }
    if not found:
        raise InputError(
            f'{file} names no picture of the result; {{"name.png": {{"sex": "female", "age": 34}}}} expected'
        )
    return found


def _groups(values: object, where: str) -> dict[str, str]:
    if not isinstance(values, Mapping):
        raise InputError(f"{where} must have a mapping of attributes to groups, got {values!r}")
    groups = {}
    for name, value in values.items():
        if value is None or value == "":
            continue
        if not isinstance(value, str | int | float):
            raise InputError(f"{where}: {name} must be a text, a number or true or false, got {value!r}")
        if name == "age" and not isinstance(value, str | bool):
            if not 0 <= value <= 150:
                raise InputError(f"{where}: age must be from 0 to 150 years, got {value!r}")
            value = _band(float(value), AGE_BANDS)
        groups[name] = ("yes" if value else "no") if isinstance(value, bool) else str(value).strip()
    return groups
