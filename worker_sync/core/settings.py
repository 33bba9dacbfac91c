"""The configuration: one YAML file as frozen, typed settings.

Reading happens once, at the edge (`load`), and reports every error with its exact path. Durations end in `_s` or
`_ms`, sizes in `_bytes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from worker_sync.core.blocks import Block, Int, Seconds
from worker_sync.core.errors import ConfigError
from worker_sync.core.ledger_section import S3_SCHEME, Ledger
from worker_sync.core.personal import contradictions as personal_contradictions
from worker_sync.core.personal import unknown_tables
from worker_sync.core.schema import TableSchema
from worker_sync.core.secrets import Url
from worker_sync.core.sections import (
    LEDGER,
    TRIGGERS,
    Audit,
    Breaker,
    Capture,
    Database,
    DeadLetters,
    Exporter,
    Flower,
    Heartbeat,
    Log,
    Name,
    Pipeline,
    Pool,
    Queue,
    Schedule,
    Spill,
    TimeZone,
    Tracing,
    Worker,
    is_trail,
    trail,
)
from worker_sync.core.selection import Selected, select
from worker_sync.core.settings_file import (
    Problem,
    SettingsError,
    complain,
    prepare,
    problems_of,
    read_yaml,
)
from worker_sync.core.table_rules import contradictions


def _control_url(url: Url) -> Url:
    if url.scheme not in {"postgresql", "postgres"}:
        raise PydanticCustomError("control", "the control store is PostgreSQL; write postgresql://...")
    return url


def _broker_url(url: Url) -> Url:
    scheme = url.scheme
    if scheme in {"redis", "rediss", "amqp", "amqps"}:
        return url
    if scheme in {"kafka", "confluentkafka"}:
        raise PydanticCustomError(
            "broker",
            "Kafka can't be the broker: it acknowledges by position, so a slow task is lost once a later one is done; "
            "write redis://... or amqp://...",
        )
    raise PydanticCustomError("broker", "no such broker; write redis://..., rediss://..., amqp://... or amqps://...")


class Settings(Block):
    """Everything that the configuration says. `control` and `broker` None: embedded servers under `state_dir`.
    Batches of more than `broker_payload_limit_bytes` wait in the control store, and the broker only holds their names.
    `timezone`: of crontabs; `clock_skew_s`: difference of clocks that is warned of."""

    control: Annotated[Url, AfterValidator(_control_url)] | None = None
    broker: Annotated[Url, AfterValidator(_broker_url)] | None = None
    broker_payload_limit_bytes: Annotated[Int, Field(ge=1024)] = 8_388_608
    state_dir: Path = Path(".worker-sync")
    databases: Annotated[dict[Name, Database], Field(min_length=1)]
    pipelines: dict[Name, Pipeline] = Field(default_factory=dict)
    audit: dict[Name, Audit] = Field(default_factory=dict)
    capture: Capture = Capture()
    spill: Spill | None = None
    worker: Worker = Worker()
    workers: dict[Queue, Pool] = Field(default_factory=dict)
    breaker: Breaker = Breaker()
    exporter: Exporter = Exporter()
    flower: Flower = Flower()
    log: Log = Log()
    tracing: Tracing | None = None
    heartbeat: Heartbeat = Heartbeat()
    dead_letters: DeadLetters = DeadLetters()
    ledger: Ledger = Ledger()
    timezone: TimeZone = "UTC"
    schedules: dict[str, Schedule] = Field(default_factory=dict)
    clock_skew_s: Annotated[Seconds, Field(gt=0)] = 2.0

    @model_validator(mode="after")
    def _name_entries(self) -> Settings:
        for name, database in self.databases.items():
            database._name = name
        for name, pipeline in self.pipelines.items():
            pipeline._name = name
        return self

    def database(self, name: str) -> Database:
        """The database called `name`; that of the ledger is the control store's, whose address has to be known by then.
        Raises ConfigError with the known names."""
        if name == LEDGER:
            return self._ledger
        if name not in self.databases:
            raise ConfigError(f"no database {name!r} (known: {', '.join(sorted(self.databases))})")
        return self.databases[name]

    def source(self, name: str) -> Database:
        """The database called `name` as its changes are captured: its URL says by what. Raises ConfigError."""
        database = self.database(name)
        if name not in self.audit or self.audit[name].capture == "log":
            return database
        return database.model_copy(update={"url": Url(f"{TRIGGERS}{database.url.reveal()}")})

    def pipeline(self, name: str) -> Pipeline:
        """The pipeline or trail called `name`. Raises ConfigError with the known names."""
        if name not in self.flows:
            raise ConfigError(f"no pipeline {name!r} (known: {', '.join(sorted(self.flows))})")
        return self.flows[name]

    @property
    def flows(self) -> dict[str, Pipeline]:
        """All that leads from a source to somewhere: the pipelines, and the audit trails into the ledger."""
        trails = [trail(source, audit) for source, audit in self.audit.items()]
        return self.pipelines | {made.name: made for made in trails}

    def pipelines_from(self, source: str) -> list[Pipeline]:
        """The pipelines that read from the database `source`, in the order of the file, and its trail."""
        return [pipeline for pipeline in self.flows.values() if pipeline.source == source]

    def select(self, pipeline: Pipeline, tables: Sequence[TableSchema]) -> list[Selected]:
        """The tables of its source that `pipeline` carries; see `worker_sync.core.selection.select`. Raises
        SettingsError for what the tables don't allow, and for personal data of a table that a trail's source lacks."""
        if is_trail(pipeline.name):
            declared = self.audit[pipeline.source].personal_data
            if problems := unknown_tables(pipeline, declared, tables):
                raise SettingsError(f"database {pipeline.source!r}", problems)
        return select(pipeline, tables)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The databases that at least one pipeline or trail reads from, in the order of the file."""
        used = {pipeline.source for pipeline in self.flows.values()}
        return tuple(name for name in self.databases if name in used)

    @property
    def _ledger(self) -> Database:
        assert self.control is not None
        database = Database(url=Url(f"ledger+{self.control.reveal()}"))
        database._name = LEDGER
        return database

    def secrets(self) -> set[str]:
        """Every password in the settings, for the log's redaction."""
        urls = [self.control, self.broker, *(database.url for database in self.databases.values())]
        found = {secret for url in urls if url for secret in url.secrets()}
        keys = [self.spill.key if self.spill else None, self.flower.password]
        found |= {key.get_secret_value() for key in keys if key is not None} | self.ledger.secrets()
        found |= self.tracing.secrets() if self.tracing else set()
        rules = [rule for pipeline in self.flows.values() for rule in pipeline.tables]
        masks = [mask for rule in rules if rule.columns for mask in rule.columns.mask.values()]
        return found | {mask.secret.get_secret_value() for mask in masks if mask.secret is not None}


def load(path: Path | str) -> Settings:
    """Read the configuration file. Raises SettingsError (a ConfigError) that lists everything wrong with it."""
    path = Path(path).absolute()
    return parse(read_yaml(path), where=path.name, folder=path.parent)


def parse(data: Mapping[str, Any], *, where: str, folder: Path) -> Settings:
    """Settings from data of the file's form; relative paths start at `folder`. Raises SettingsError."""
    tree, problems = prepare(data, folder)
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems += problems_of(error, Settings, known={problem.path for problem in problems})
    problems += _contradictions(settings) if settings else []
    if problems or settings is None:
        raise SettingsError(where, problems)
    state_dir = folder / settings.state_dir
    spill = settings.spill and settings.spill.model_copy(
        update={"directory": folder / (settings.spill.directory or state_dir / "spill")}
    )
    anchors = tuple(place if place.startswith(S3_SCHEME) else str(folder / place) for place in settings.ledger.anchors)
    ledger = settings.ledger.model_copy(update={"anchors": anchors})
    flower = settings.flower.model_copy(update={"db": folder / (settings.flower.db or state_dir / "flower")})
    return settings.model_copy(update={"state_dir": state_dir, "spill": spill, "ledger": ledger, "flower": flower})


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the configuration file."""
    return Settings.model_json_schema()


#: Engines that keep log until we have confirmed it. The others drop theirs by age or size, whoever needs it.
_HOLDS_LOG: Final = frozenset({"postgresql", "postgres", "memory"})
_HAS_DOCUMENTS: Final = frozenset({"mongodb", "mongodb+srv"})


def _contradictions(settings: Settings) -> list[Problem]:
    found: list[Problem] = []
    if not settings.flows:
        found.append(Problem("pipelines", "is missing; add one, or an audit"))
    for name, entry in settings.databases.items():
        if entry.retained_log.policy == "spill" and settings.spill is None:
            message = "spill needs a key: set spill.key (openssl rand -base64 32 makes one)"
            found.append(Problem(f"databases.{name}.retained_log.policy", message))
        if entry.retained_log.policy == "detach" and entry.url.scheme not in _HOLDS_LOG:
            message = "detach frees nothing here: this server keeps no log for us; write hold"
            found.append(Problem(f"databases.{name}.retained_log.policy", message))
    for name, pipeline in settings.pipelines.items():
        at = f"pipelines.{name}"
        for role, database in (("source", pipeline.source), ("target", pipeline.target)):
            if database not in settings.databases:
                found.append(complain(f"{at}.{role}", f"no database {database!r}", database, settings.databases))
        if pipeline.source == pipeline.target:
            found.append(Problem(f"{at}.target", "is the source itself; name another database"))
    for source, audit in settings.audit.items():
        if source not in settings.databases:
            found.append(complain(f"audit.{source}", f"no database {source!r}", source, settings.databases))
        elif audit.context_field is not None and settings.databases[source].url.scheme not in _HAS_DOCUMENTS:
            message = "is for documents; elsewhere a transaction says who made it (worker_sync.context). Remove it"
            found.append(Problem(f"audit.{source}.context_field", message))
        found += _triggers(settings, source)
    found += _personal(settings)
    for pipeline in settings.flows.values():
        found += _repeated_tables(pipeline)
        for index, rule in enumerate(pipeline.tables):
            found += contradictions(f"{pipeline.path}.tables[{index}]", rule)
    return found + _shared_targets(settings)


def _triggers(settings: Settings, source: str) -> list[Problem]:
    """What a trail by triggers excludes."""
    database = settings.databases.get(source)
    if settings.audit[source].capture == "log" or database is None:
        return []
    at, found = f"audit.{source}.capture", []
    if database.url.scheme not in {"postgresql", "postgres"}:
        found.append(Problem(at, "only PostgreSQL has audit triggers; write log"))
    readers = [name for name, pipeline in settings.pipelines.items() if pipeline.source == source]
    if readers:
        message = f"pipelines.{readers[0]} reads the log of {source!r}, so the trail can, too; write log"
        found.append(Problem(at, message))
    if database.retained_log.policy == "detach":
        message = "detach frees nothing here: triggers go on recording; write hold"
        found.append(Problem(f"databases.{source}.retained_log.policy", message))
    return found


def _personal(settings: Settings) -> list[Problem]:
    declaring = {source: audit.personal_data for source, audit in settings.audit.items() if audit.personal_data}
    found: list[Problem] = []
    if declaring and settings.ledger.personal_key is None:
        message = (
            f"is missing; audit.{next(iter(declaring))}.personal_data needs it (openssl rand -base64 32 makes one)"
        )
        found.append(Problem("ledger.personal_key", message))
    for source, declared in declaring.items():
        found += personal_contradictions(settings.flows[f"audit.{source}"], declared)
    return found


def _repeated_tables(pipeline: Pipeline) -> list[Problem]:
    at = pipeline.path
    found: list[Problem] = []
    names: dict[str, int] = {}
    targets: dict[str, int] = {}
    for index, rule in enumerate(pipeline.tables):
        first = names.setdefault(rule.name, index)
        if first != index:
            found.append(Problem(f"{at}.tables[{index}]", f"repeats tables[{first}] ({rule.name}); remove one"))
        elif rule.to is not None and (first := targets.setdefault(rule.to, index)) != index:
            found.append(Problem(f"{at}.tables[{index}].to", f"is the target of tables[{first}] too; use another name"))
    return found


def _shared_targets(settings: Settings) -> list[Problem]:
    """Databases whose URLs are equal would be captured from or written to as if they were two."""
    first: dict[Url, str] = {}
    found: list[Problem] = []
    for name, database in settings.databases.items():
        earlier = first.setdefault(database.url, name)
        if earlier != name:
            found.append(Problem(f"databases.{name}.url", f"is the same database as {earlier!r}; use that name"))
    return found
