"""The configuration: what it accepts, and exactly what it says about what it doesn't."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker_sync.core.errors import ConfigError
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.secrets import Url, redact
from worker_sync.core.sections import LEDGER
from worker_sync.core.settings import Settings, json_schema, load, parse
from worker_sync.core.settings_file import SettingsError

GOOD = """\
control: postgresql://ws@db/worker_sync
broker: redis://redis:6379/0
databases:
  shop: {url: "postgresql://ws:hunter2@pg/shop"}
  reporting: {url: postgresql://ws@pg/reporting}
pipelines:
  shop-to-reporting:
    source: shop
    target: reporting
    tables: ["public.*", {name: public.tickets, to: tickets, columns: {exclude: [card_number]}}]
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "worker-sync.yaml"


def loaded(path: Path, text: str) -> Settings:
    path.write_text(text)
    return load(path)


def problems(path: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        loaded(path, text)
    return [str(problem) for problem in caught.value.problems]


def test_a_good_file_has_its_values_and_the_defaults_of_the_rest(written: Path) -> None:
    settings = loaded(written, GOOD)
    (pipeline,) = settings.pipelines_from("shop")
    assert pipeline.name == "shop-to-reporting"
    assert (pipeline.shards, pipeline.snapshot, pipeline.create_tables) == (1, "initial", True)
    assert [rule.name for rule in pipeline.tables] == ["public.*", "public.tickets"]
    assert settings.sources == ("shop",)
    assert settings.database("shop").url.reveal() == "postgresql://ws:hunter2@pg/shop"
    assert settings.capture.batch_changes == 4000
    assert settings.state_dir == written.parent / ".worker-sync"


RULE = "pipelines.shop-to-reporting.tables[1]"

BAD = {
    "unknown key": (
        GOOD + "brokr: x\n",
        ["brokr: unknown key 'brokr'; did you mean 'broker' or 'breaker'?"],
    ),
    "unknown key in a list": (
        GOOD.replace("exclude:", "exlude:"),
        [
            (
                "pipelines.shop-to-reporting.tables[1].columns.exlude: unknown key 'exlude'; did you mean 'exclude' "
                "or 'include'?"
            )
        ],
    ),
    "unknown source": (
        GOOD.replace("source: shop", "source: shp"),
        ["pipelines.shop-to-reporting.source: no database 'shp'; did you mean 'shop'?"],
    ),
    "target is the source": (
        GOOD.replace("target: reporting", "target: shop"),
        ["pipelines.shop-to-reporting.target: is the source itself; name another database"],
    ),
    "no tables": (
        GOOD.partition("tables:")[0] + "tables: []\n",
        ["pipelines.shop-to-reporting.tables: is empty; give at least one entry"],
    ),
    "rename of a pattern": (
        GOOD.replace("name: public.tickets", 'name: "public.t*"'),
        ["pipelines.shop-to-reporting.tables[1]: `to` needs a plain table name, not a pattern"],
    ),
    "repeated table": (
        GOOD.replace('"public.*"', "public.tickets"),
        ["pipelines.shop-to-reporting.tables[1]: repeats tables[0] (public.tickets); remove one"],
    ),
    "bad table name": (
        GOOD.replace('"public.*"', '"public."'),
        [
            (
                "pipelines.shop-to-reporting.tables[0].name: not a table name; write namespace.name, or a pattern like "
                "public.*"
            )
        ],
    ),
    "too many shards": (
        GOOD + "    shards: 65\n",
        ["pipelines.shop-to-reporting.shards: should be less than or equal to 64"],
    ),
    "a boolean is no number": (
        GOOD + "    shards: true\n",
        ["pipelines.shop-to-reporting.shards: should be a number, not true or false"],
    ),
    "bad name": (
        GOOD.replace("shop:", "Shop:", 1),
        [
            "databases.Shop: bad name; use a-z, 0-9, - and _, starting with a letter or digit, at most 63 characters",
        ],
    ),
    "two databases that are one": (
        GOOD.replace("postgresql://ws@pg/reporting", "postgresql://ws:hunter2@pg/shop"),
        ["databases.reporting.url: is the same database as 'shop'; use that name"],
    ),
    "what comes later": (
        GOOD + "    mode: two-way\n    conflicts: {strategy: manual}\n",
        [
            "pipelines.shop-to-reporting.conflicts: not available yet in this version; remove it",
            "pipelines.shop-to-reporting.mode: two-way is not available yet in this version; write one-way",
        ],
    ),
    "kafka as the broker": (
        GOOD.replace("redis://redis:6379/0", "kafka://k"),
        [
            (
                "broker: Kafka can't be the broker: it acknowledges by position, so a slow task is lost once a later "
                "one is done; write redis://... or amqp://..."
            )
        ],
    ),
    "an unknown broker": (
        GOOD.replace("redis://redis:6379/0", "sqs://k"),
        ["broker: no such broker; write redis://..., rediss://..., amqp://... or amqps://..."],
    ),
    "control is no PostgreSQL": (
        GOOD.replace("postgresql://ws@db/worker_sync", "mysql://ws@db/x"),
        ["control: the control store is PostgreSQL; write postgresql://..."],
    ),
    "no URL": (
        GOOD.replace('"postgresql://ws:hunter2@pg/shop"', "hunter2"),
        ["databases.shop.url: not a URL; write scheme://user:password@host:port/name"],
    ),
    "an unencoded password": (
        GOOD.replace("hunter2", "hunt/er2"),
        [
            (
                "databases.shop.url: not a usable URL: check host and port; percent-encode special characters of the "
                "password"
            )
        ],
    ),
    "missing variable": (
        GOOD.replace("hunter2", "${WORKER_SYNC_TEST_NOT_SET}"),
        [
            (
                "databases.shop.url: the environment variable WORKER_SYNC_TEST_NOT_SET is not set; set it, or write "
                "${WORKER_SYNC_TEST_NOT_SET:-default}"
            )
        ],
    ),
    "missing secret file": (
        GOOD.replace("hunter2", "${file:/nowhere/password}"),
        ["databases.shop.url: the secret file /nowhere/password can't be read: No such file or directory"],
    ),
    "window smaller than a batch": (
        GOOD + "capture: {window_bytes: 2048}\n",
        ["capture: window_bytes must be at least batch_bytes"],
    ),
    "solo with several": (
        GOOD + "worker: {concurrency: 2}\n",
        ["worker: the solo pool runs one task at a time; use pool: prefork or threads"],
    ),
    "half an authentication": (
        GOOD + "flower: {user: me}\n",
        ["flower: user and password go together; give both or none"],
    ),
    "two times": (
        GOOD + "schedules: {heartbeat: {every_s: 1, crontab: '* * * * *'}}\n",
        ["schedules.heartbeat: every_s and crontab exclude each other"],
    ),
    "several at once": (
        GOOD.replace("    source: shop\n", "").replace("redis://", "nats://") + "log: {level: loud}\n",
        [
            "broker: no such broker; write redis://..., rediss://..., amqp://... or amqps://...",
            "pipelines.shop-to-reporting.source: is missing; add it",
            "log.level: should be 'debug', 'info', 'warning' or 'error'",
        ],
    ),
    "include and exclude": (
        GOOD.replace("exclude: [card_number]", "exclude: [a], include: [b]"),
        [f"{RULE}.columns: include and exclude can't stand together; keep one"],
    ),
    "columns that say nothing": (
        GOOD.replace("{exclude: [card_number]}", "{}"),
        [f"{RULE}.columns: is empty; give include, exclude, rename or mask"],
    ),
    "two columns of one name": (
        GOOD.replace("exclude: [card_number]", "rename: {a: x, b: x}"),
        [f"{RULE}.columns.rename.b: 'x' is the name of 'a' too; use another one"],
    ),
    "a mask of what is excluded": (
        GOOD.replace("exclude: [card_number]", "exclude: [a], mask: {a: {method: redact, text: x}}"),
        [f"{RULE}.columns.mask.a: is excluded; remove one of the two"],
    ),
    "an unknown method": (
        GOOD.replace("exclude: [card_number]", "mask: {a: {method: blur}}"),
        [f"{RULE}.columns.mask.a.method: should be 'hash', 'partial', 'redact' or 'null'"],
    ),
    "an unknown key of a mask": (
        GOOD.replace("exclude: [card_number]", "mask: {a: {method: partial, lats: 4}}"),
        [f"{RULE}.columns.mask.a.lats: unknown key 'lats'; did you mean 'last'?"],
    ),
    "a mask without what it needs": (
        GOOD.replace("exclude: [card_number]", "mask: {a: {method: hash, secret: hunter2}}"),
        [f"{RULE}.columns.mask.a: the secret is too short; use at least 16 bytes"],
    ),
    "a filter that is none": (
        GOOD.replace("columns: {exclude: [card_number]}", "where: region == 'eu'"),
        [f"{RULE}.where: expected a text in single quotes, a number, TRUE or FALSE at character 9"],
    ),
    "a field without a type": (
        GOOD.replace("columns: {exclude: [card_number]}", "fields: {a: {path: b..c}, d: {type: txt}}"),
        [
            f"{RULE}.fields.a.path: not a path; write the names of nested fields with dots between, like order.total",
            f"{RULE}.fields.a.type: is missing; add it",
            f"{RULE}.fields.d.type: no type 'txt'; did you mean 'text'?",
        ],
    ),
    "a rest of nothing": (
        GOOD.replace("columns: {exclude: [card_number]}", "rest: more"),
        [f"{RULE}: `rest` keeps what `fields` leave; declare fields too"],
    ),
    "a rest that is a field": (
        GOOD.replace("columns: {exclude: [card_number]}", "fields: {a: {type: text}}, rest: a"),
        [f"{RULE}.rest: 'a' is one of the fields too; use another name"],
    ),
    "fields of a pattern": (
        GOOD.replace('"public.*"', '{name: "o*", fields: {a: {type: text}}}'),
        ["pipelines.shop-to-reporting.tables[0]: `fields` needs a plain table name, not a pattern"],
    ),
    "an audit of no database": (
        GOOD + "audit: {shpo: {tables: [a]}}\n",
        ["audit.shpo: no database 'shpo'; did you mean 'shop'?"],
    ),
    "an audit under another name": (
        GOOD + 'audit: {shop: {tables: [{name: a, to: b, where: "x = 1"}]}}\n',
        ["audit.shop: a: the ledger records tables as they are; remove to and where"],
    ),
    "an audited table twice": (
        GOOD + "audit: {shop: {tables: [a, a]}}\n",
        ["audit.shop.tables[1]: repeats tables[0] (a); remove one"],
    ),
    "YAML syntax": ("x: 1\na: b: c\n", ["line 2, column 5: mapping values are not allowed here"]),
    "a key that stands twice": (GOOD + "broker: redis://b\n", ["line 11, column 1: the key 'broker' stands twice"]),
    "a list": ("[]", ["is no mapping; see `worker-sync config schema`"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_the_exact_path(written: Path, case: str) -> None:
    text, expected = BAD[case]
    found = problems(written, text)
    assert found == expected
    assert "hunter2" not in str(found)


def test_an_audit_trail_is_a_flow_into_the_ledger_of_the_control_store(written: Path) -> None:
    settings = loaded(written, GOOD + "audit: {reporting: {tables: [a]}}\n")
    (found,) = settings.pipelines_from("reporting")
    assert (found.name, found.target, found.on_rejected) == ("audit.reporting", LEDGER, "halt")
    assert settings.database(LEDGER).url.reveal() == "ledger+postgresql://ws@db/worker_sync"
    assert settings.sources == ("shop", "reporting")


def test_several_problems_are_one_error_with_a_line_each(written: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(written, GOOD + "x: 1\ny: 2\n")
    first, *rest = str(caught.value).splitlines()
    assert first == "Configuration error: worker-sync.yaml: 2 problems"
    assert [line.strip().partition(":")[0] for line in rest] == ["x", "y"]
    assert caught.value.exit_code == 2


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        load(tmp_path / "nothing.yaml")


def test_a_secret_may_hold_any_character(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    password = "p@ss:w/o?rd#%"
    (written.parent / "password").write_text(password + "\n")
    monkeypatch.setenv("WS_USER", "w@s")
    url = "postgresql://${WS_USER}:${file:password}@${WS_HOST:-pg:5433}/shop"
    settings = loaded(written, GOOD.replace("postgresql://ws:hunter2@pg/shop", url))
    assert settings.database("shop").url.reveal() == "postgresql://w%40s:p%40ss%3Aw%2Fo%3Frd%23%25@pg:5433/shop"
    assert password in settings.secrets()


def test_a_whole_value_may_come_from_a_file(written: Path) -> None:
    (written.parent / "url").write_text("redis://:hunter2@r/0\n")
    settings = loaded(written, GOOD.replace("redis://redis:6379/0", "file:url"))
    assert settings.broker == Url("redis://:hunter2@r/0")


def test_passwords_show_nowhere(written: Path) -> None:
    text = GOOD.replace("redis://redis:6379/0", "redis://:hunter2@r/0") + "flower: {user: u, password: hunter2}\n"
    settings = loaded(written, text)
    shown = [repr(settings), str(settings), settings.model_dump_json(), str(settings.database("shop").url)]
    assert "hunter2" not in "".join(shown)
    assert settings.secrets() == {"hunter2"}


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:hunter2@h/d",
        "redis://:hunter2@h",
        "postgresql://u:hun@ter2@h/d".replace("hun@ter2", "hunter2@hunter2"),
        "postgresql://h/d?user=u&password=hunter2",
        "failed: mongodb://u:hunter2@a:1,b:2/d and postgresql://u:hunter2@h",
    ],
)
def test_redaction_hides_the_password_and_keeps_the_rest(text: str) -> None:
    assert "hunter2" not in redact(text)
    assert "h" in redact(text)


def test_settings_are_frozen(written: Path) -> None:
    settings = loaded(written, GOOD)
    with pytest.raises(ValueError, match="frozen"):
        settings.state_dir = Path("/elsewhere")


def test_the_json_schema_names_every_block_and_no_more() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(Settings.model_fields)
    assert {"type": "string"} in schema["$defs"]["TableRule"]["anyOf"]


def table(name: str, *columns: str) -> TableSchema:
    made = tuple(Column(column, Type(Kind.INT)) for column in columns or ("id", "card_number"))
    return TableSchema(TableName.parse(name), made, (made[0].name,))


def test_a_plain_name_goes_before_a_pattern(written: Path) -> None:
    settings = loaded(written, GOOD)
    tables = [table("public.tickets"), table("public.orders"), table("private.keys")]
    chosen = settings.select(settings.pipeline("shop-to-reporting"), tables)
    assert [(str(one.source.table), one.to, one.shape.exclude) for one in chosen] == [
        ("public.orders", None, ()),
        ("public.tickets", "tickets", ("card_number",)),
    ]


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ([table("public.ticket")], "tables[1]: no table 'public.tickets'; did you mean 'public.ticket'?"),
        ([table("sales.tickets")], "tables[0]: 'public.*' matches no table"),
        ([table("public.tickets", "id", "card")], "public.tickets has no column 'card_number'; did you mean 'card'?"),
        ([table("public.tickets", "card_number", "id")], "'card_number' belongs to the key of public.tickets"),
    ],
)
def test_a_selection_that_names_nothing_is_refused(written: Path, tables: list[TableSchema], expected: str) -> None:
    settings = loaded(written, GOOD)
    with pytest.raises(ConfigError) as caught:
        settings.select(settings.pipeline("shop-to-reporting"), tables)
    assert expected in str(caught.value)


def chosen(path: Path, rules: str, *tables: TableSchema) -> list[tuple[str, str | None]]:
    settings = loaded(path, GOOD.partition("    tables:")[0] + f"    tables: {rules}\n")
    found = settings.select(settings.pipeline("shop-to-reporting"), tables)
    return [(str(one.source.table), one.to) for one in found]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("[orders]", ["private.orders", "public.orders"]),
        ("['*']", ["private.keys", "private.orders", "public.orders"]),
        ("['o*']", ["private.orders", "public.orders"]),
        ("['public.*']", ["public.orders"]),
    ],
)
def test_a_name_without_namespace_means_the_tables_of_every_namespace(
    written: Path, rules: str, expected: list[str]
) -> None:
    tables = [table("private.orders"), table("public.orders"), table("private.keys")]
    assert [name for name, _ in chosen(written, rules, *tables)] == expected


def test_a_name_with_namespace_goes_before_one_without(written: Path) -> None:
    tables = [table("private.orders"), table("public.orders")]
    rules = "['*', {name: orders}, {name: public.orders, to: mine}]"
    assert chosen(written, rules, *tables) == [("private.orders", None), ("public.orders", "mine")]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("[oders]", "tables[0]: no table 'oders'; did you mean 'orders'?"),
        ("['x*']", "tables[0]: 'x*' matches no table"),
        (
            "[{name: orders, to: all}]",
            "tables[0].to: private.orders, public.orders can't all be all; name one of them",
        ),
    ],
)
def test_a_name_without_namespace_that_means_none_or_too_many_is_refused(
    written: Path, rules: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        chosen(written, rules, table("private.orders"), table("public.orders"))
    assert expected in str(caught.value)


def test_the_secret_of_a_mask_comes_from_the_environment_and_shows_nowhere(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sixteen bytes or more"
    monkeypatch.setenv("MASK_SECRET", secret)
    mask = "mask: {a: {method: hash, secret: '${MASK_SECRET}'}}"
    settings = loaded(written, GOOD.replace("exclude: [card_number]", mask))
    assert secret in settings.secrets()
    assert secret not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize("field", ["", "a.b", "$by", "b\0y"])
def test_a_context_field_is_one_that_a_document_can_have(field: str) -> None:
    audit = {"shop": {"tables": ["*"], "context_field": field}}
    with pytest.raises(SettingsError, match=r"audit\.shop\.context_field"):
        parse({"databases": {"shop": {"url": "mongodb://m/shop"}}, "audit": audit}, where="test", folder=Path("/x"))


def test_rows_have_no_context_field() -> None:
    audit = {"shop": {"tables": ["*"], "context_field": "by"}}
    with pytest.raises(SettingsError, match=r"audit\.shop\.context_field: is for documents; .*worker_sync\.context"):
        parse({"databases": {"shop": {"url": "mysql://m/shop"}}, "audit": audit}, where="test", folder=Path("/x"))
