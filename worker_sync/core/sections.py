"""The sections of the configuration file, one class each; `worker_sync.core.settings` puts them together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from worker_sync.core.blocks import Block, Int, LongKey, Seconds
from worker_sync.core.crontab import BadCrontab, Crontab, UnknownTimeZone, time_zone, zone_names
from worker_sync.core.personal import PersonalTable
from worker_sync.core.secrets import Url
from worker_sync.core.settings_file import suggestion
from worker_sync.core.table_rules import TableRule

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


def _crontab(text: str) -> str:
    try:
        Crontab.parse(text)
    except BadCrontab as error:
        raise PydanticCustomError("crontab", "{reason}", {"reason": str(error)}) from None
    return text


def _time_zone(name: str) -> str:
    try:
        time_zone(name)
    except UnknownTimeZone:
        reason = f"no time zone {name!r}{suggestion(name, zone_names())}"
        raise PydanticCustomError("timezone", "{reason}", {"reason": reason}) from None
    return name


TimeZone = Annotated[str, AfterValidator(_time_zone)]


class Spill(Block):
    """Where captures keep batches while a target is away and `retained_log.policy` is `spill`: encrypted with `key`, up
    to `max_bytes` for each source, in `directory` (`spill` in `state_dir` unless it is given)."""

    key: LongKey
    directory: Path | None = None
    max_bytes: Annotated[Int, Field(ge=1)] = 10_737_418_240


class RetainedLog(Block):
    """What a source's log that is kept for us may come to. At `limit_bytes` the policy acts: `hold` says so and goes on
    waiting; `spill` keeps batches on the capture's disk instead, also when less than `warn_left_s` is left; `detach`
    gives the log up and stops the source's pipelines in the state `log-limit`. Warnings begin at half of the limit, and
    when less than `warn_left_s` is left until a limit of ours or of the server is reached."""

    limit_bytes: Annotated[Int, Field(ge=1)] | None = None
    policy: Literal["hold", "spill", "detach"] = "hold"
    warn_left_s: Annotated[Seconds, Field(ge=0)] = 3600

    @model_validator(mode="after")
    def _detaches_at_a_limit(self) -> RetainedLog:
        if self.policy == "detach" and self.limit_bytes is None:
            raise PydanticCustomError("limit", "policy detach needs limit_bytes")
        return self


class Database(Block):
    """A database to read from or write to. `retained_log` is about its log, where it is a source."""

    _name: str = PrivateAttr("")
    url: Url
    retained_log: RetainedLog = RetainedLog()

    @property
    def name(self) -> str:
        return self._name


class Pipeline(Block):
    """Tables of one source, kept in step in one target."""

    _name: str = PrivateAttr("")
    source: Name
    target: Name
    tables: Annotated[tuple[TableRule, ...], Field(min_length=1)]
    mode: Literal["one-way"] = "one-way"
    shards: Annotated[Int, Field(ge=1, le=64)] = 1
    snapshot: Literal["initial", "none"] = "initial"
    create_tables: bool = True
    schema_changes: Literal["apply", "halt", "ignore"] = "halt"
    on_rejected: Literal["park", "halt"] = "park"

    @property
    def name(self) -> str:
        return self._name

    @property
    def path(self) -> str:
        """Where the configuration says it."""
        return self._name if is_trail(self._name) else f"pipelines.{self._name}"


class Audit(Block):
    """The tables of a source database whose changes are recorded in the ledger, and which of their columns.
    `personal_data` says by table (`namespace.name`, or `name` in any namespace) which columns are encrypted there.
    `capture` says what tells of the changes: the database's `log`, or `triggers` in a PostgreSQL whose log may not be
    read, which `worker-sync audit triggers install` makes. `context_field` is the field in which documents of MongoDB
    say who wrote them."""

    tables: Annotated[tuple[TableRule, ...], Field(min_length=1)]
    capture: Literal["log", "triggers"] = "log"
    context_field: Annotated[str, StringConstraints(pattern=r"^[^.$\x00][^.\x00]*$")] | None = None
    personal_data: dict[str, PersonalTable] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _records_as_it_is(self) -> Audit:
        for rule in self.tables:
            renames = rule.columns is not None and bool(rule.columns.rename)
            given = {"to": rule.to, "where": rule.where, "fields": rule.fields, "columns.rename": renames}
            if strange := [name for name, value in given.items() if value]:
                message = f"{rule.name}: the ledger records tables as they are; remove {' and '.join(strange)}"
                raise PydanticCustomError("audit", "{message}", {"message": message})
        return self


#: In front of the URL of a database whose changes triggers write down.
TRIGGERS: Final = "triggers+"

#: The target of trails. No database can be called that.
LEDGER: Final = "the ledger"
_TRAIL: Final = "audit."


def trail(source: str, audit: Audit) -> Pipeline:
    """What records the changes of `source`: a pipeline into the ledger. Nothing of it can be parked, and it follows the
    tables' definitions: an audit trail has no holes."""
    made = Pipeline.model_construct(
        source=source,
        target=LEDGER,
        tables=audit.tables,
        snapshot="none",
        create_tables=False,
        schema_changes="apply",
        on_rejected="halt",
    )
    made._name = f"{_TRAIL}{source}"
    return made


def is_trail(pipeline: str) -> bool:
    """Whether a pipeline of this name records into the ledger."""
    return pipeline.startswith(_TRAIL)


class Capture(Block):
    """Batches, the window of batches that are not applied yet, and the snapshot."""

    batch_changes: Annotated[Int, Field(ge=1)] = 4000
    batch_bytes: Annotated[Int, Field(ge=1024)] = 1_048_576
    linger_ms: Annotated[Seconds, Field(ge=0)] = 3
    max_linger_ms: Annotated[Seconds, Field(ge=0)] = 250
    window_bytes: Annotated[Int, Field(ge=1024)] = 67_108_864
    window_batches: Annotated[Int, Field(ge=1)] = 512
    resend_after_s: Annotated[Seconds, Field(gt=0)] = 2.0
    snapshot_rows: Annotated[Int, Field(ge=1)] = 5000
    confirm_every_s: Annotated[Seconds, Field(gt=0)] = 0.5
    lease_s: Annotated[Seconds, Field(ge=1)] = 4

    @model_validator(mode="after")
    def _window_holds_a_batch(self) -> Capture:
        if self.window_bytes < self.batch_bytes:
            raise PydanticCustomError("window", "window_bytes must be at least batch_bytes")
        if self.max_linger_ms < self.linger_ms:
            raise PydanticCustomError("linger", "max_linger_ms must be at least linger_ms")
        return self


class Worker(Block):
    """The pool of `worker-sync worker` and `up`."""

    pool: Literal["solo", "prefork", "threads"] = "solo"
    concurrency: Annotated[Int, Field(ge=1, le=256)] = 1

    @model_validator(mode="after")
    def _solo_is_one(self) -> Worker:
        if self.pool == "solo" and self.concurrency != 1:
            raise PydanticCustomError("pool", "the solo pool runs one task at a time; use pool: prefork or threads")
        return self


class DeadLetters(Block):
    """How much may be parked before a pipeline halts instead: refused changes of one batch, keys of one shard, changes
    of one pipeline. More than that is no poison row but a broken target."""

    per_batch: Annotated[Int, Field(ge=1)] = 100
    keys: Annotated[Int, Field(ge=1, le=100_000)] = 1000
    letters: Annotated[Int, Field(ge=1)] = 10_000


Queue = Literal["sync", "audit", "backup", "archive", "cleanup", "default", "dead_letter"]


class Pool(Block):
    """The pool of the workers of one queue, where it is to differ from the queue's own. What a solo pool can't do makes
    it prefork. `max_memory_mb` and `max_tasks` end a process of the pool after the task that reaches them; another
    takes its place."""

    pool: Literal["solo", "prefork", "threads"] | None = None
    concurrency: Annotated[Int, Field(ge=1, le=256)] | None = None
    max_memory_mb: Annotated[Int, Field(ge=64)] | None = None
    max_tasks: Annotated[Int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _can_do_it(self) -> Pool:
        if self.pool == "solo" and (self.concurrency or 1) != 1:
            raise PydanticCustomError("pool", "the solo pool runs one task at a time; use pool: prefork or threads")
        if self.pool not in {None, "prefork"} and (self.max_memory_mb or self.max_tasks):
            raise PydanticCustomError(
                "pool", "max_memory_mb and max_tasks need processes to replace; use pool: prefork, or leave them out"
            )
        return self


class Breaker(Block):
    """When a worker leaves a database or the control store alone, and for how long: `first_s` seconds after so many
    `failures` in a row, twice as long after each further one up to `longest_s`."""

    failures: Annotated[Int, Field(ge=1, le=1000)] = 5
    first_s: Annotated[Seconds, Field(gt=0)] = 0.5
    longest_s: Annotated[Seconds, Field(gt=0, le=60)] = 3.0

    @model_validator(mode="after")
    def _grows(self) -> Breaker:
        if self.longest_s < self.first_s:
            raise PydanticCustomError("breaker", "longest_s must be at least first_s")
        return self


Port = Annotated[Int, Field(ge=0, le=65535)]


class Exporter(Block):
    """Where metrics and health are served; port 0 picks a free one."""

    host: str = "127.0.0.1"
    port: Port = 9808


class Flower(Block):
    """Flower's address and, when both are given, its basic authentication. Without that it listens on no other
    address than the machine's own, unless `allow_anonymous` is set. `url_prefix` is the path under which a proxy shows
    it. What it has seen of up to `max_tasks` tasks is kept in the file `db` (`flower` in `state_dir` unless it is
    given), written every `save_every_s` seconds and at its end, unless `persistent` is false."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port = 5555
    user: Annotated[str, StringConstraints(pattern=r"^[^:,]+$")] | None = None
    password: SecretStr | None = None
    allow_anonymous: bool = False
    url_prefix: Annotated[str, StringConstraints(pattern=r"^/?[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*/?$")] | None = None
    persistent: bool = True
    db: Path | None = None
    save_every_s: Annotated[Seconds, Field(ge=1)] = 60
    max_tasks: Annotated[Int, Field(ge=1)] = 10_000

    @model_validator(mode="after")
    def _both_or_none(self) -> Flower:
        if (self.user is None) != (self.password is None):
            raise PydanticCustomError("flower", "user and password go together; give both or none")
        if self.password is not None and (
            not self.password.get_secret_value() or "," in self.password.get_secret_value()
        ):
            raise PydanticCustomError(
                "flower", "password can't be empty or hold a comma, which Flower takes for its end"
            )
        return self


def _collector_url(url: Url) -> Url:
    if url.scheme not in {"http", "https"}:
        raise PydanticCustomError("collector", "spans are sent over HTTP; write http://... or https://...")
    return url


class Tracing(Block):
    """Where the spans of captures, workers and beat are sent by OTLP over HTTP: to the collector at `endpoint` (with
    `/v1/traces` behind it, unless it has a path), with `headers`. `sample_ratio` of all traces are recorded. What of
    these three is left out is as OpenTelemetry's variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, ...) say.
    Up to `queue_spans` spans wait in each process; further ones are dropped. A request ends after `timeout_s`."""

    enabled: bool = True
    endpoint: Annotated[Url, AfterValidator(_collector_url)] | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    sample_ratio: Annotated[Seconds, Field(ge=0, le=1)] | None = None
    queue_spans: Annotated[Int, Field(ge=1, le=1_000_000)] = 4096
    timeout_s: Annotated[Seconds, Field(gt=0, le=60)] = 5.0

    def secrets(self) -> set[str]:
        """What the log must not show."""
        address = self.endpoint.secrets() if self.endpoint else set()
        return address | {value.get_secret_value() for value in self.headers.values()}


class Log(Block):
    """Form and threshold of the log on standard error."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Heartbeat(Block):
    """How often each source gets a message that makes idle differ from stuck."""

    every_s: Annotated[Seconds, Field(ge=0.1)] = 1.0


class Schedule(Block):
    """Changes of one entry of the schedule: when it runs (`crontab`: minute, hour, day of month, month, day of week),
    in which time zone (by default that of the whole file), and whether at all."""

    every_s: Annotated[Seconds, Field(ge=0.1)] | None = None
    crontab: Annotated[str, AfterValidator(_crontab)] | None = None
    timezone: TimeZone | None = None
    enabled: bool = True

    @model_validator(mode="after")
    def _one_time(self) -> Schedule:
        if self.every_s is not None and self.crontab is not None:
            raise PydanticCustomError("schedule", "every_s and crontab exclude each other")
        if self.every_s is not None and self.timezone is not None:
            raise PydanticCustomError("schedule", "every_s knows no time zone; remove timezone")
        return self
