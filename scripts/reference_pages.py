"""Write the pages and dashboards that are made from the code: `python scripts/reference_pages.py [--check]`.

With --check nothing is written; the exit code is 1 when one is not what the code says.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import dashboards
import type_matrix
import yaml

from worker_sync.cli.app import COMMANDS, cli
from worker_sync.core import ledger_section, sections, settings, table_rules
from worker_sync.core.metrics import METRICS
from worker_sync.core.settings import json_schema

DOCS = Path(__file__).parents[1] / "docs"
RULES = Path(__file__).parents[1] / "chart" / "files" / "prometheus" / "alerts.rules.yaml"
PROMISES = Path(__file__).parents[1] / "tests" / "promises.toml"
MARK = "<!-- Made by scripts/reference_pages.py{}: change the code, then run `make docs`. -->"
MARK_OF_PROMISE = (
    "<!-- Made by scripts/reference_pages.py from tests/promises.toml ({}): change that, then run `make docs`. -->"
)
END = "<!-- End of what is made from the code. -->"
WIDTH = 100
_INTRODUCTION = """\
One YAML file, named by `--config FILE` or the environment variable `WORKER_SYNC_CONFIG`. An unknown key is an error.
Durations end in `_s` (seconds) or `_ms` (milliseconds), sizes in `_bytes`. Relative paths start at the file's folder.

In any text `${NAME}` and `${NAME:-default}` stand for an environment variable and `${file:/path}` for a file's
content; a whole value may be `file:/path`; `$${` is a plain `${`. What is put into the user part of a URL is
percent-encoded on the way, so that a password may hold any character:
`postgresql://ws:${file:/run/secrets/password}@db/shop`.

`worker-sync config validate` lists everything that is wrong with a file, `worker-sync config schema` prints its JSON
Schema for editors. Ready files: [examples](../../examples/README.md).
"""
_EMBEDDED = "Without `control` or `broker`, a PostgreSQL or a Redis is started under `state_dir`."

_TYPES = """\
What becomes of a value between engines. A table that is missing in the target is created with these types
(`create_tables`); the values in between have the [canonical form](values.md) of their kind.

- **exact**: every value reads back as it was, bit for bit.
- **refuses**: values of these sorts stop the pipeline in
  [`unrepresentable-value`](../how-to/recover.md#unrepresentable-value) or
  [`target-rejected`](../how-to/recover.md#target-rejected); all others are exact. A server in parentheses is the only
  one of its family that refuses them. Nothing is ever rounded, cut, padded or made NULL.
- **parsed**: JSON is kept as the document that it stands for, with all its keys in order and all digits, but without
  the spaces, exponents and escapes of its text.

A type that MariaDB or MySQL has alone can't be created in the other, where the pipeline stops in
[`table-unsupported`](../how-to/recover.md#table-unsupported).

Every line is tried on real servers with extreme values, in a snapshot and as changes:
`test_a_value_arrives_as_it_is_or_is_refused_as_the_matrix_says`. Length, such as 16 MB of a MongoDB document, is no
matter of the type and is not listed; nor are keys, which in MySQL hold at most 768 characters and in PostgreSQL 2,704
bytes: a longer one is refused.
"""

Schema = Mapping[str, Any]


def configuration() -> str:
    """docs/reference/configuration.md: every key with its type, default and limits."""
    schema = json_schema()
    lines = [
        "# Configuration",
        "",
        MARK.format(""),
        "",
        _INTRODUCTION,
        *_section("The file", {**schema, "description": _EMBEDDED}, schema),
    ]
    for key, value in schema["properties"].items():
        block = _block_of(value, schema)
        if block is not None:
            where = f"`{key}.NAME`" if value.get("type") == "object" else f"`{key}`"
            lines += _section(where, block, schema)
            lines += _nested(where, block, schema)
    return "\n".join(lines).rstrip() + "\n"


def _nested(where: str, block: Schema, schema: Schema) -> Iterator[str]:
    for key, value in block["properties"].items():
        items = _resolved(value.get("items", {}), schema)
        for option in items.get("anyOf", []):
            inner = _resolved(option, schema)
            if "properties" in inner:
                yield from _section(f"{where} `{key}`, each a text or a mapping", inner, schema)
                yield from _nested(where, inner, schema)
        inner_block = _block_of(value, schema)
        if inner_block is not None:
            by = "table" if key == "personal_data" else "column"
            inside = f"{where} `{key}`" + (f", by {by}" if value.get("type") == "object" else "")
            yield from _section(inside, inner_block, schema)
            yield from _nested(inside, inner_block, schema)


def _resolved(value: Schema, schema: Schema) -> Schema:
    reference = value.get("$ref", "")
    found: Schema = schema["$defs"][reference.rpartition("/")[2]] if reference else value
    return found


def _block_of(value: Schema, schema: Schema) -> Schema | None:
    """The mapping that a key holds: itself, the one of each name, or the one that may be left out."""
    candidates = [value, value.get("additionalProperties", {}), *value.get("anyOf", [])]
    candidates += value.get("patternProperties", {}).values()
    resolved = [_resolved(candidate, schema) for candidate in candidates if isinstance(candidate, Mapping)]
    return next((candidate for candidate in resolved if "properties" in candidate), None)


def _section(title: str, block: Schema, schema: Schema) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    if description := block.get("description"):
        yield from (description, "")
    yield "| key | value | default |"
    yield "| --- | --- | --- |"
    for key, value in block["properties"].items():
        default = "required" if key in block.get("required", []) else _default(value)
        kind = ", ".join([_kind(value, schema), *_limits(block["title"], key)])
        yield f"| `{key}` | {kind} | {default} |"
    yield ""


def _limits(model: str, key: str) -> Iterator[str]:
    """The schema doesn't know the limits of fields that have a validator of their own."""
    block = next(
        getattr(module, model) for module in (settings, sections, ledger_section, table_rules) if hasattr(module, model)
    )
    field = block.model_fields[key]
    for limit in field.metadata:
        for name, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most")):
            if (number := getattr(limit, name, None)) is not None:
                yield f"{words} {number:g}"


def _default(value: Schema) -> str:
    default = value.get("default")
    if default is None or isinstance(default, dict):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _kind(value: Schema, schema: Schema) -> str:
    value = _resolved(value, schema)
    if "properties" in value:
        return "a mapping, see below"
    if "anyOf" in value:
        kinds = (_kind(option, schema) for option in value["anyOf"] if option.get("type") != "null")
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in value:
        return ", ".join(f"`{word}`" for word in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if value.get("type") == "array":
        return f"a list; each {_kind(value['items'], schema)}"
    if value.get("type") == "object":
        inner = value.get("additionalProperties") or next(iter(value.get("patternProperties", {}).values()))
        kind = _kind(inner, schema)
        return f"a mapping by name{kind.removeprefix('a mapping') if 'see below' in kind else f'; each {kind}'}"
    return _scalar(value)


def _scalar(value: Schema) -> str:
    words = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`", "string": "text"}
    formats = {"uri": "URL", "path": "path", "password": "secret text"}
    return formats.get(value.get("format", ""), words.get(value.get("type", ""), "text"))


def commands() -> str:
    """docs/reference/cli.md: the help of every command."""
    lines = [
        "# Commands",
        "",
        MARK.format(""),
        "",
        "`--config` and `--debug` may stand before or after the command. Everything that lists something has `--json`.",
        "",
        "| exit code | means |",
        "| --- | --- |",
        "| 0 | fine |",
        "| 1 | a finding: a failed check, a difference, a halted pipeline, a wait that took too long |",
        "| 2 | wrong usage or configuration |",
        "| 3 | a system could not be reached |",
        "| 10 to 15 | `audit`: [what was found](../how-to/audit-trail.md#what-findings-mean) |",
        "| 70 | a defect of Worker-Sync |",
        "| 130 | interrupted by Ctrl-C |",
        "",
    ]
    root = click.Context(cli, info_name="worker-sync", max_content_width=WIDTH, terminal_width=WIDTH)
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None
        lines += _command(command, name, root)
    return "\n".join(lines).rstrip() + "\n"


def _command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    context = click.Context(
        command,
        info_name=name,
        parent=parent,
        max_content_width=WIDTH,
        terminal_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    yield f"## {context.command_path}"
    yield ""
    yield "```text"
    yield command.get_help(context)
    yield "```"
    yield ""
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from _command(found, inner, context)


def metrics(page: str) -> str:
    """docs/how-to/monitor.md with the table of metrics as the code has it."""
    begin = MARK.format("")
    head, _, rest = page.partition(begin)
    _, found, tail = rest.partition(END)
    assert found, "the page has lost its markers"
    rows = [f"| `{m.name}` | {m.type} | {m.unit} | {', '.join(m.labels)} | {m.help} |" for m in METRICS]
    table = ["| name | type | unit | labels | meaning |", "| --- | --- | --- | --- | --- |", *rows]
    return "\n".join([head + begin, "", *table, "", END + tail])


def runbooks(page: str) -> str:
    """docs/runbooks/README.md with the alerts as the rules have them."""
    begin = MARK.format(" from chart/files/prometheus/alerts.rules.yaml").replace("change the code", "change that")
    head, _, rest = page.partition(begin)
    _, found, tail = rest.partition(END)
    assert found, "the page has lost its markers"
    rows = [
        f"| [{rule['alert']}]({rule['alert']}.md) | {rule['labels']['severity']} | "
        f"`{' '.join(rule['expr'].split()).replace('|', chr(92) + '|')}` | {rule.get('for', 'at once')} |"
        for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    table = ["| alert | severity | fires while | for |", "| --- | --- | --- | --- |", *rows]
    return "\n".join([head + begin, "", *table, "", END + tail])


def types() -> str:
    """docs/reference/types.md: every source type in every target."""
    return "\n".join(["# Types", "", MARK.format(""), "", _TYPES, *type_matrix.lines()]).rstrip() + "\n"


def guarantees(page: str) -> str:
    """docs/explanation/guarantees.md with each promise's rows as tests/promises.toml has them."""
    for promise, rows in tomllib.loads(PROMISES.read_text(encoding="utf-8")).items():
        begin = MARK_OF_PROMISE.format(promise)
        head, _, rest = page.partition(begin)
        _, found, tail = rest.partition(END)
        assert found, f"the page has lost its markers of {promise!r}"
        table = ["| what | tests |", "| --- | --- |", *map(_promised, rows)]
        page = "\n".join([head + begin, "", *table, "", END + tail])
    return page


def _promised(row: Mapping[str, Any]) -> str:
    tests = ", ".join(f"`{name}`" for name in row["tests"])
    return f"| {row['what']} | {tests or '**gap**: no test tries to break this yet'} |"


def pages() -> dict[Path, str]:
    """Every page that is made from the code, as it should be."""
    monitor = DOCS / "how-to" / "monitor.md"
    promises = DOCS / "explanation" / "guarantees.md"
    index = DOCS / "runbooks" / "README.md"
    return {
        **dashboards.files(),
        index: runbooks(index.read_text(encoding="utf-8")),
        DOCS / "reference" / "configuration.md": configuration(),
        DOCS / "reference" / "cli.md": commands(),
        DOCS / "reference" / "types.md": types(),
        promises: guarantees(promises.read_text(encoding="utf-8")),
        monitor: metrics(monitor.read_text(encoding="utf-8")),
    }


def main(arguments: list[str]) -> int:
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if arguments == ["--check"]:
        sys.stderr.writelines(f"{path.relative_to(DOCS.parent)} is not current: make docs\n" for path in stale)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages()[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
