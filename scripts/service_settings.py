"""Every setting of every process, from the pydantic classes in the `settings` modules."""

import importlib
import pkgutil
import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

import outreach
import services

#: What the end of a name says about its unit.
_UNITS = (
    ("segments_per_second", "segments/s"),
    ("emails_per_second", "emails/s"),
    ("_per_segment_micros", "millionths of the currency's unit, a segment"),
    ("_seconds", "s"),
    ("_milliseconds", "ms"),
    ("_ms", "ms"),
    ("_bytes", "bytes"),
    ("_rows", "rows"),
    ("_columns", "columns"),
    ("_concurrency", "requests at once"),
    ("_connections", "connections"),
)


_TYPES = {
    "str": "text",
    "SecretStr": "text",
    "int": "integer",
    "float": "number",
    "bool": "true/false",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable. `default` None: it has to be given."""

    name: str
    type: str
    default: str | None
    unit: str
    meaning: str
    secret: bool


@dataclass(frozen=True, slots=True)
class SettingsClass:
    """A class of settings and the module it stands in, as in `services.campaign.settings`."""

    module: str
    name: str
    meaning: str
    settings: tuple[Setting, ...]

    @property
    def package(self) -> str:
        """`services.campaign`."""
        return self.module.rpartition(".")[0]


def settings_classes() -> list[SettingsClass]:
    """All of them, by module and name."""
    found = [
        (module, value)
        for module in _settings_modules()
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseSettings)
        and value.__module__ == module.__name__
    ]
    bases = {base for _, value in found for base in value.__mro__[1:]}
    described = [
        SettingsClass(
            module.__name__,
            value.__name__,
            " ".join((value.__doc__ or "").strip().split("\n\n")[0].split()),
            tuple(_settings(value)),
        )
        for module, value in found
        # What several processes share is told with each of them.
        if value not in bases
    ]
    return sorted(described, key=lambda item: (item.module, item.name))


def _settings_modules() -> Iterator[types.ModuleType]:
    for package in (outreach, services):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if info.name.rpartition(".")[2].endswith("settings"):
                yield importlib.import_module(info.name)


def _settings(settings_class: type[BaseSettings]) -> Iterator[Setting]:
    prefix = settings_class.model_config.get("env_prefix", "")
    for name, info in settings_class.model_fields.items():
        alias = info.validation_alias or info.alias
        variable = alias if isinstance(alias, str) else f"{prefix}{name}".upper()
        yield Setting(
            variable,
            _type_name(info.annotation),
            None if info.is_required() else _default(info),
            _unit(name),
            (info.description or "").strip(),
            _is_secret(name, info),
        )


def _is_secret(name: str, info: FieldInfo) -> bool:
    named = name.endswith("_key") and not name.endswith("_public_key")
    return info.repr is False or "Secret" in str(info.annotation) or named


def _unit(name: str) -> str:
    name = name.removesuffix("_max").removesuffix("_min").removesuffix("_start")
    return next((unit for suffix, unit in _UNITS if name.endswith(suffix)), "")


def _default(info: FieldInfo) -> str:
    value: object = info.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return ""
    if value is None or value == "":
        return "none"
    if isinstance(value, BaseModel):
        return "{}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple | list):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _type_name(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type_name(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return " or ".join(
            _type_name(part) for part in get_args(annotation) if part is not type(None)
        )
    if origin is Literal:
        return ", ".join(map(str, get_args(annotation)))
    if origin in (tuple, list, frozenset, set):
        parts = [part for part in get_args(annotation) if part is not Ellipsis]
        return f"list of {_type_name(parts[0])}" if parts else "list"
    if annotation is Path:
        return "path"
    if isinstance(annotation, type):
        if issubclass(annotation, BaseModel):
            return "JSON"
        return _TYPES.get(annotation.__name__, annotation.__name__)
    return str(annotation)
