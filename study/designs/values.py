"""Values of a configuration, any tree of frozen dataclasses, by path: read, changed together, in canonical form.

A path names a field by the dataclasses it lies in, such as ``batch.train``.
"""

import dataclasses
import functools
import hashlib
import json
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from study.errors import ConfigError, unknown_name_sentence

Scalar = bool | int | float | str
Values = Mapping[str, Scalar]
ConfigT = TypeVar("ConfigT")


@functools.cache
def field_types(config_class: type, prefix: str = "") -> dict[str, Any]:
    """Every settable path of a configuration class with its type, such as ``{"batch.train": int, ...}``.

    Raises :class:`ConfigError` for a field without a default, and for one of a type that no value has.
    """
    found: dict[str, Any] = {}
    hints = typing.get_type_hints(config_class)
    for item in dataclasses.fields(config_class):
        hint, name = hints[item.name], f"{config_class.__name__}.{item.name}"
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{name} needs a default: keys of replicates hold what differs from it")
        if dataclasses.is_dataclass(hint):
            found |= field_types(typing.cast(type, hint), f"{prefix}{item.name}.")
        elif hint in typing.get_args(Scalar) or typing.get_origin(hint) is Literal:
            found[prefix + item.name] = hint
        else:
            raise ConfigError(f"{name} must be a bool, int, float, str, Literal or dataclass of these, not {hint}")
    return found


def flatten(config: Any, prefix: str = "") -> dict[str, Scalar]:
    """All values of a configuration by path, sorted."""
    values: dict[str, Scalar] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            values |= flatten(value, f"{prefix}{item.name}.")
        else:
            # A whole number given for a float is the same value and must give the same key.
            values[prefix + item.name] = float(value) if isinstance(item.default, float) else value
    return dict(sorted(values.items()))


def canonical(config: Any) -> dict[str, Scalar]:
    """The values that differ from their defaults: a field added later leaves every earlier key as it was."""
    defaults = flatten(type(config)())
    return {path: value for path, value in flatten(config).items() if value != defaults[path]}


def parse_value(config_class: type, path: str, text: str) -> Scalar:
    """Read a command-line value for a path of a configuration class by its declared type.

    Raises :class:`ConfigError` with the nearest path for an unknown one and the expected type for a wrong one.
    """
    hint = _type_of(config_class, path)
    if typing.get_origin(hint) is Literal:
        return next((choice for choice in typing.get_args(hint) if str(choice) == text), text)
    if hint is str:
        return text
    if hint is bool:
        lowered = text.lower()
        if lowered not in ("true", "false"):
            raise ConfigError(f"{path} takes true or false, not {text!r}")
        return lowered == "true"
    try:
        is_whole = hint is int and float(text).is_integer()
        number: Scalar = int(float(text)) if is_whole else hint(text)
    except ValueError:
        raise ConfigError(f"{path} takes a value of type {hint.__name__}, not {text!r}") from None
    if hint is float and not math.isfinite(float(number)):
        raise ConfigError(f"{path} must be a finite number, not {text!r}")
    return number


def _type_of(config_class: type, path: str) -> Any:
    known = field_types(config_class)
    if path not in known:
        raise ConfigError(unknown_name_sentence("configuration path", path, known))
    return known[path]


def with_values(config: ConfigT, values: Values) -> ConfigT:
    """A copy of ``config`` with the given paths replaced together, so that they may depend on each other.

    Raises :class:`ConfigError` for an unknown path, a wrong type or a value out of range.
    """
    for path, value in values.items():
        hint = _type_of(type(config), path)
        if typing.get_origin(hint) is Literal:
            choices = typing.get_args(hint)
            if value not in choices:
                raise ConfigError(f"{path} takes one of {', '.join(map(str, choices))}, not {value!r}")
            continue
        accepts_int = hint is float and isinstance(value, int) and not isinstance(value, bool)
        if type(value) is not hint and not accepts_int:
            raise ConfigError(f"{path} takes a value of type {hint.__name__}, not {value!r}")
    typed = {path: float(v) if _type_of(type(config), path) is float else v for path, v in values.items()}
    return _replace(config, typed)


def _replace(config: ConfigT, values: Values) -> ConfigT:
    changes: dict[str, Any] = {}
    nested: dict[str, dict[str, Scalar]] = {}
    for path, value in values.items():
        head, _, rest = path.partition(".")
        if rest:
            nested.setdefault(head, {})[rest] = value
        else:
            changes[head] = value
    for head, inner in nested.items():
        changes[head] = _replace(getattr(config, head), inner)
    return typing.cast(ConfigT, dataclasses.replace(typing.cast(Any, config), **changes))


def to_json(config: Any) -> str:
    """The complete configuration as sorted JSON."""
    return json.dumps(flatten(config), sort_keys=True)


def from_json(config_class: type[ConfigT], text: str) -> ConfigT:
    """The inverse of :func:`to_json`; fields that the text does not name keep their defaults."""
    return with_values(config_class(), json.loads(text))


def digest(payload: object, length: int = 16) -> str:
    """A hexadecimal SHA-256 prefix of a JSON-able value in canonical form (sorted keys, floats by repr)."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]
