"""Groups of people by age, sex and skin tone: bands of estimates, or what a benchmark's own metadata say."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
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
    """Estimates of one face, or means of several of one person's.

    ``age`` in years; ``male``, the probability of that of two classes; ``tone``, the individual typology angle in
    degrees, from -90 (darkest) to 90 (lightest), None of a grey picture. Raises ValueError for what is no number.
    """

    age: float
    male: float
    tone: float | None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():  # estimates are kept in a file that may be corrected by hand
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number and not (name == "tone" and value is None):
                raise ValueError(f"{name} must be a number, got {value!r}")

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


def read_metadata(file: Path, pictures: Iterable[str]) -> dict[str, dict[str, str]]:
    """Picture -> attribute -> group of a JSON file; an ``age`` that is a number gets its band.

    Raises:
        InputError: the file cannot be read, is no such mapping, or names a picture that is not one of ``pictures``.
    """
    found = read_json(file)
    if not found:
        raise InputError(f'{file}: a mapping {{"name.png": {{"sex": "female", "age": 34}}, ...}} expected')
    if unknown := sorted(set(found) - set(pictures)):
        raise InputError(f"{file}: there is no picture {unknown[0]!r} in the result ({len(unknown)} of {len(found)})")
    return {picture: _groups(values, f"{file}: {picture!r}") for picture, values in found.items()}


def _groups(values: object, where: str) -> dict[str, str]:
    if not isinstance(values, Mapping):
        raise InputError(f"{where} must have a mapping of attributes to texts, got {values!r}")
    groups = {}
    for name, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and name == "age" and value >= 0:
            groups[name] = _band(float(value), AGE_BANDS)
        elif isinstance(value, str) and value.strip():
            groups[name] = value.strip()
        elif value is not None:
            raise InputError(f"{where}: {name} must be a text (age may be a number of years), got {value!r}")
    return groups
