"""Reading the configuration file, and saying what is wrong with it: line of a syntax error, exact path of the rest."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from worker_sync.core.errors import ConfigError
from worker_sync.core.secrets import MissingSecret, resolve

NOT_YET: Final = "not available yet in this version"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (`pipelines.shop.tables[1].columns`), and what, with what to do about it."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}" if self.path else self.what


class SettingsError(ConfigError):
    """Configuration error

    `problems` lists everything that is wrong, in the order of the file where possible.
    """

    def __init__(self, where: str, problems: list[Problem]) -> None:
        self.problems = problems
        lines = [str(problem) for problem in problems]
        listed = lines[0] if len(lines) == 1 else f"{len(lines)} problems" + "".join(f"\n  {line}" for line in lines)
        super().__init__(f"{where}: {listed}")


def complain(path: str, what: str, wrong: str, known: Collection[str]) -> Problem:
    """A problem with a name, with the names that were perhaps meant."""
    return Problem(path, what + suggestion(wrong, known))


def suggestion(wrong: str, known: Collection[str]) -> str:
    near = get_close_matches(wrong, sorted(known), n=3, cutoff=0.5)
    if near:
        return "; did you mean " + " or ".join(repr(name) for name in near) + "?"
    return f"; known: {', '.join(sorted(known)[:20])}" if known else ""


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key_node.value!r} stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key_node.value if isinstance(key_node, yaml.ScalarNode) else id(key_node))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The file's mapping. Raises SettingsError for a file that can't be read or is no YAML mapping."""
    try:
        text = path.read_text(encoding="utf-8")
        data = yaml.load(text, _Loader)
    except OSError as error:
        raise SettingsError(str(path), [Problem("", f"can't be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise SettingsError(path.name, [Problem("", "is not UTF-8 text")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "YAML"
        raise SettingsError(path.name, [Problem(at, error.problem or "not YAML")]) from None
    except yaml.YAMLError:
        raise SettingsError(path.name, [Problem("", "holds a character that YAML doesn't allow")]) from None
    if not isinstance(data, Mapping):
        raise SettingsError(path.name, [Problem("", "is no mapping; see `worker-sync config schema`")])
    return data


def prepare(data: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], list[Problem]]:
    """`data` with its placeholders resolved and without what this version can't do, and the problems of both."""
    problems: list[Problem] = []
    tree = _resolved(data, "", folder, problems)
    return _without_future(tree, problems), problems


def _resolved(value: Any, path: str, folder: Path, problems: list[Problem]) -> Any:
    if isinstance(value, Mapping):
        return {key: _resolved(item, _join(path, key), folder, problems) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, f"{path}[{index}]", folder, problems) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    try:
        return resolve(value, folder)
    except MissingSecret as error:
        problems.append(Problem(path, str(error)))
        return value


def _without_future(tree: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
    for name, pipeline in _blocks(tree, "pipelines"):
        if pipeline.pop("conflicts", None):
            problems.append(Problem(f"pipelines.{name}.conflicts", f"{NOT_YET}; remove it"))
        if pipeline.get("mode") == "two-way":
            del pipeline["mode"]
            problems.append(Problem(f"pipelines.{name}.mode", f"two-way is {NOT_YET}; write one-way"))
    return tree


def _blocks(tree: Mapping[str, Any], section: str) -> list[tuple[str, dict[str, Any]]]:
    """The named mappings of a section, as far as it has the right form."""
    entries = tree.get(section)
    found = entries.items() if isinstance(entries, dict) else ()
    return [(name, entry) for name, entry in found if isinstance(entry, dict)]


def problems_of(error: ValidationError, model: type[BaseModel], known: Collection[str]) -> list[Problem]:
    """The validation errors, except those at a path that has a problem already. Never shows a value."""
    found: list[Problem] = []
    empty: list[Problem] = []
    for item in error.errors(include_url=False, include_input=False):
        steps = [step for step in item["loc"] if step != "[key]"]
        path = _path(steps)
        if path not in known:
            problem = _problem(item["type"], item["msg"], path, steps, model)
            (empty if item["type"] == "too_short" else found).append(problem)
    # A collection whose only entries are wrong counts as empty; that is noise.
    return found + [problem for problem in empty if not any(other.path.startswith(problem.path) for other in found)]


def _problem(kind: str, message: str, path: str, steps: list[int | str], model: type[BaseModel]) -> Problem:
    if kind == "extra_forbidden":
        key = str(steps[-1])
        return complain(path, f"unknown key {key!r}", key, _keys(model, steps[:-1]))
    if kind == "missing":
        return Problem(path, "is missing; add it")
    if kind == "string_pattern_mismatch" and len(steps) == 2 and steps[0] in {"databases", "pipelines"}:
        return Problem(path, "bad name; use a-z, 0-9, - and _, starting with a letter or digit, at most 63 characters")
    if kind == "too_short":
        return Problem(path, "is empty; give at least one entry")
    return Problem(path, message.replace("Input should", "should", 1).replace("String should", "should", 1))


def _keys(model: type[BaseModel], steps: list[int | str]) -> list[str]:
    """The keys that the mapping at `steps` may have."""
    at: Any = model
    for step in steps:
        at = _inside(at, step)
    return list(at.model_fields) if _is_model(at) else []


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _inside(annotation: Any, step: int | str) -> Any:
    """The type at `step` inside a model, `dict[str, Model]` or `tuple[Model, ...]`; of `Model | None` the model."""
    if _is_model(annotation):
        inner = annotation.model_fields[str(step)].annotation
    else:
        inner = get_args(annotation)[1 if get_origin(annotation) is dict else 0]
    return next((part for part in get_args(inner) if _is_model(part)), inner) if _is_optional(inner) else inner


def _is_optional(annotation: Any) -> bool:
    return type(None) in get_args(annotation)


def _path(steps: list[int | str]) -> str:
    path = ""
    for step in steps:
        path = f"{path}[{step}]" if isinstance(step, int) else _join(path, step)
    return path


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
