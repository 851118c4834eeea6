"""From YAML files and command-line flags to dataclasses, and back.

A program's options are one dataclass; each field's attribute docstring is its help text. Flags are snake_case, nested
dataclasses are reached by dots (``--lora.r 8``), ``--config file.yaml`` gives many options at once and flags win over
it, ``--print_config`` shows what would be used.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

import docstring_parser
import jsonargparse
import yaml
from jsonargparse.typing import register_type

from ffaa.runtime import EXIT_INPUT, PROJECT_ROOT, atomic_write_text, closest, to_plain
from ffaa.types import InputError

CONFIGS = PROJECT_ROOT / "configs"

_SWITCH_WORDS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

if TYPE_CHECKING:
    Switch = bool
else:
    # a subclass of int only so that --help shows its name; values are plain bools
    class Switch(int):
        """A bool whose flag takes 0 or 1 (``--crop 1``) and means 1 when bare (``--crop``)."""


def _read_switch(value: object) -> bool:
    word = str(value).lower()
    if word not in _SWITCH_WORDS:
        raise ValueError(f"expected 0 or 1, got {value!r}")
    return _SWITCH_WORDS[word]


register_type(
    Switch,
    serializer=bool,
    deserializer=_read_switch,
    type_check=lambda value, _: isinstance(value, bool),
    fail_already_registered=False,
)
jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)


T = TypeVar("T")


def parse(
    config_class: type[T],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str,
    positional: str | None = None,
) -> T:
    """Read the command line into an instance of ``config_class``.

    Args:
        config_class: a dataclass; every field needs a default or becomes a required flag.
        argv: arguments without the program's name; None means ``sys.argv[1:]``.
        prog: the program's name in ``--help`` and error messages.
        description: what the program does, for ``--help``.
        positional: name of a field of type ``tuple[str, ...]`` or ``list[str]`` that takes all arguments without a
            flag.

    Raises:
        SystemExit: code 2 after a one-line usage error; code 0 after ``--help`` or ``--print_config``.
    """
    parser = _parser(config_class, prog, description, positional)
    arguments = _config_first(_spell_out_switches(sys.argv[1:] if argv is None else argv, _switch_flags(config_class)))
    try:
        namespace = parser.parse_args(arguments)
        if positional:
            _fill_in(namespace, positional)
            if get_origin(get_type_hints(config_class)[positional]) is tuple:
                namespace[positional] = tuple(namespace[positional])
        return _instance(config_class, parser, namespace)
    except (jsonargparse.ArgumentError, InputError) as error:
        reason = _explain(error, parser)
    except UnicodeDecodeError:
        reason = "--config: not a text file"
    except IsADirectoryError as error:
        reason = f"--config: a folder, not a file: {error.filename}"
    sys.stderr.write(f"error: {reason} (see {prog} --help)\n")
    sys.exit(EXIT_INPUT)


def load_yaml(path: str | Path, cls: type[T]) -> T:
    """Read a YAML file into an instance of the dataclass ``cls``.

    Raises:
        InputError: no such file, not YAML, not a mapping, a wrong value, or a key that ``cls`` does not have.
    """
    values = read_yaml(path)
    parser = _parser(cls, prog=str(path), description="", positional=None)
    try:
        return _instance(cls, parser, parser.parse_object(values))
    except (jsonargparse.ArgumentError, InputError) as error:
        raise InputError(f"{path}: {_explain(error, parser)}") from error


def read_json(path: Path, *, unique: bool = False) -> dict[str, Any]:
    """The object in a file; ``unique``: no name may stand twice in it, of which JSON's readers take the last unsaid.

    Raises:
        InputError: no such file, it cannot be read, is not JSON, holds no object, or a name twice against ``unique``.
    """
    try:
        once = (lambda pairs: _once(pairs, path)) if unique else None
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: an object with names expected, got a {type(found).__name__}")
    return found


def _once(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InputError(f"{path}: {key!r} stands there twice")
        found[key] = value
    return found


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds, unchecked.

    Raises:
        InputError: no such file, not YAML, or not a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        # jsonargparse's loader, unlike plain YAML 1.1, reads 1e-4 as a number, as a flag's value is read
        values = jsonargparse.get_loader("yaml")(text)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping of options, got {type(values).__name__}")
    return values


def yaml_text(obj: object) -> str:
    """A dataclass (or mapping) as YAML that ``load_yaml`` reads back, keys in the order of the fields."""
    text: str = yaml.safe_dump(to_plain(obj), sort_keys=False, allow_unicode=True)
    return text


def dump_yaml(obj: object, path: str | Path) -> None:
    """Write `yaml_text` into a file."""
    atomic_write_text(path, yaml_text(obj))


def model_folder(method: str, model: str) -> Path:
    """The folder with a model's YAML files: ``configs/<method>/<model>/``, or ``model`` itself where it is a folder.

    Raises:
        InputError: there is no such method or model; names the closest ones.
    """
    named = CONFIGS / method / model
    if re.fullmatch(r"\w[\w.-]*", model) and named.is_dir():
        return named
    if Path(model).is_dir():
        return Path(model)
    methods = sorted(item.name for item in CONFIGS.iterdir() if item.is_dir())
    if not (CONFIGS / method).is_dir():
        raise InputError(f"no models of method {method!r} in configs/{closest(method, methods)}")
    models = sorted(item.name for item in (CONFIGS / method).iterdir() if item.is_dir())
    hint = closest(model, models) or f"; there are {', '.join(models) or 'none'}"
    raise InputError(f"unknown model {model!r} of method {method!r}{hint}")


def _parser(cls: type, prog: str, description: str, positional: str | None) -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(prog=prog, description=description, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action=jsonargparse.ActionConfigFile, help="YAML file of options; flags win.")
    if positional:
        field = next(field for field in dataclasses.fields(cls) if field.name == positional)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        parser.add_argument(positional, nargs="*", default=default, help=_field_help(cls, positional))
    parser.add_class_arguments(cls, skip={positional} if positional else None)
    switches = _switch_flags(cls)
    for action in parser._actions:
        if switches.intersection(action.option_strings):
            action.metavar = "{0,1}"
    return parser


def _fill_in(namespace: jsonargparse.Namespace, positional: str) -> None:
    """Take the arguments without a flag from ``--config`` where the command line has none: argparse does not."""
    if namespace[positional]:
        return
    for file in namespace.get("config") or []:
        values = read_yaml(str(file)).get(positional)
        if values is not None and not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
            raise InputError(f"{file}: {positional} is a list of texts, not {values!r}")
        namespace[positional] = values or namespace[positional]


def _field_help(cls: type, name: str) -> str:
    """The attribute docstring of a field; jsonargparse shows those of all fields but the positional one itself."""
    parsed = docstring_parser.parse_from_object(cls)
    return next((item.description or "" for item in parsed.params if item.arg_name == name), "")


def _instance(cls: type[T], parser: jsonargparse.ArgumentParser, namespace: jsonargparse.Namespace) -> T:
    _refuse_nulls(cls, namespace.as_dict())
    values = parser.instantiate(namespace)
    return cls(**{name: value for name, value in vars(values).items() if name != "config"})


def _refuse_nulls(cls: type, values: Mapping[str, Any], prefix: str = "") -> None:
    """Raise InputError for a null, or no mapping, where the field's type has none: jsonargparse lets both through."""
    for name, hint in get_type_hints(cls).items():
        value = values.get(name)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            if name in values and not isinstance(value, Mapping):
                raise InputError(f'"{prefix}{name}": Expected a mapping of options. Got value: {value}')
            _refuse_nulls(hint, value or {}, f"{prefix}{name}.")
        elif name in values and value is None and hint is not Any and NoneType not in get_args(hint):
            raise InputError(f'"{prefix}{name}": Expected a value. Got value: null')


def _switch_flags(cls: type, prefix: str = "--") -> set[str]:
    """The flags of all fields of type ``Switch``, nested dataclasses included."""
    flags: set[str] = set()
    for name, hint in get_type_hints(cls).items():
        for kind in (hint, *get_args(hint)):
            if kind is Switch:
                flags.add(f"{prefix}{name}")
            elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
                flags |= _switch_flags(kind, f"{prefix}{name}.")
    return flags


def _spell_out_switches(arguments: Sequence[str], flags: set[str]) -> list[str]:
    """Give each bare switch its 1, so that it does not take the argument after it, such as a picture's path."""
    spelled = []
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        bare = argument in flags and following.lower() not in _SWITCH_WORDS
        spelled.append(f"{argument}=1" if bare else argument)
    return spelled


def _config_first(arguments: Sequence[str]) -> list[str]:
    """Move ``--config FILE`` before all other arguments: jsonargparse lets the last one win, here flags always do."""
    first, rest, pending = [], [], list(arguments)
    while pending:
        argument = pending.pop(0)
        if argument == "--config" and pending:
            first += [argument, pending.pop(0)]
        elif argument.startswith("--config="):
            first.append(argument)
        else:
            rest.append(argument)
    return first + rest


def _explain(error: Exception, parser: jsonargparse.ArgumentParser) -> str:
    """jsonargparse's message in one line, with the closest known names for one that is unknown."""
    message = re.sub(r"<class '([\w.]+)'>|typing\.(?=\w)", r"\1", " ".join(str(error).split()))
    known = [key for key in parser.get_defaults(skip_validation=True).keys() if key != "config"]
    if found := re.match(r"unrecognized arguments: -*([\w.-]+)", message, re.IGNORECASE):
        return message + closest(found[1], known)
    if found := re.match(r"(?:Group '([\w.]+)' does not accept o|O)ption '([^']+)'", message):
        name = f"{found[1]}.{found[2]}" if found[1] else found[2]
        return f"unknown option {name!r}{closest(name, known)}"
    if found := re.match(r'(?:Parser key )?("[\w.]+"): Problem with given class_path \'([\w.]+)\': (.*)', message):
        return f"{found[1]}: {_explain_item(found[2], found[3])}"
    if found := re.match(r'(?:Parser key )?("[\w.]+"): (?:Not a valid subclass|Expected a dot import)', message):
        return f"{found[1]}: Expected a list of mappings of options"
    return message.removeprefix("Parser key ")


def _explain_item(class_path: str, reason: str) -> str:
    """What is wrong with one item of a list of dataclasses, which jsonargparse speaks of as of any class."""
    module, _, name = class_path.rpartition(".")
    known = [field.name for field in dataclasses.fields(getattr(sys.modules[module], name))]
    if found := re.match(r"Option '([^']+)' is not accepted", reason):
        return f"unknown option {found[1]!r}{closest(found[1], known)}"
    return reason.removeprefix("Parser key ")
