"""The public views of a history: plain columns for SQL, the same names in SQLite, PostgreSQL and the exports.

Columns are only ever added. `docs/generate/numbers.py` has the meaning of every one of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from vqmon.core.scores import EXPORTED_MEASURES
from vqmon.core.types import AUDIO_MEASUREMENTS, SIGNALS
from vqmon.transport.history.backends.base import Transaction

_VIEWS_VERSION = 1
"""What `v_version` holds; it rises when a column changes its meaning."""


class Dialect(Protocol):
    """How a database reads JSON, times and ids; a path is a sequence of keys."""

    def text(self, document: str, *path: str) -> str: ...
    def number(self, document: str, *path: str) -> str: ...
    def integer(self, document: str, *path: str) -> str: ...
    def part(self, document: str, *path: str) -> str:
        """The JSON at a path, as JSON."""
        ...

    def length(self, document: str, *path: str) -> str:
        """The length of the array at a path, 0 when there is none."""
        ...

    def elements(self, document: str, *path: str, alias: str) -> str:
        """A table with the row `alias.value` (JSON) per element of the array at a path, counted by `position`."""
        ...

    def position(self, alias: str) -> str:
        """The position of such a row, from 0 on."""
        ...

    def element(self, document: str, *path: str, index: str) -> str:
        """The number at an index of the array at a path."""
        ...

    def entries(self, document: str, *path: str, alias: str) -> str:
        """A table with the row (`alias.key`, `alias.value`) per key of the object at a path."""
        ...

    def scalar(self, value: str) -> str:
        """A JSON value of `elements` or `entries` as a number."""
        ...

    def moment(self, microseconds: str) -> str: ...
    def written_moment(self, text: str) -> str:
        """A moment that is written as ISO 8601."""
        ...

    def event_id(self, packed: str) -> str: ...


class SqliteDialect:
    """SQLite: moments are ISO 8601 texts in UTC."""

    def text(self, document: str, *path: str) -> str:
        return f"json_extract({document}, '{_sqlite_path(path)}')"

    number = integer = part = text

    def length(self, document: str, *path: str) -> str:
        return f"coalesce(json_array_length({document}, '{_sqlite_path(path)}'), 0)"

    def elements(self, document: str, *path: str, alias: str) -> str:
        return f"json_each({document}, '{_sqlite_path(path)}') AS {alias}"

    entries = elements

    def position(self, alias: str) -> str:
        return f"{alias}.key"

    def element(self, document: str, *path: str, index: str) -> str:
        return f"json_extract({document}, '{_sqlite_path(path)}[' || {index} || ']')"

    def scalar(self, value: str) -> str:
        return value

    def moment(self, microseconds: str) -> str:
        seconds = f"strftime('%Y-%m-%dT%H:%M:%S', {microseconds} / 1000000, 'unixepoch')"
        return f"{seconds} || printf('.%06dZ', {microseconds} % 1000000)"

    def written_moment(self, text: str) -> str:
        return text

    def event_id(self, packed: str) -> str:
        is_text, text = f"substr({packed}, 1, 17) = zeroblob(17)", f"CAST(substr({packed}, 18) AS TEXT)"
        return f"CASE WHEN {is_text} THEN {text} ELSE lower(hex({packed})) END"


class PostgresDialect:
    """PostgreSQL: moments are `timestamptz`, JSON is `jsonb`."""

    def text(self, document: str, *path: str) -> str:
        return f"({document} #>> '{_postgres_path(path)}')"

    def number(self, document: str, *path: str) -> str:
        return f"{self.text(document, *path)}::double precision"

    def integer(self, document: str, *path: str) -> str:
        return f"{self.text(document, *path)}::bigint"

    def part(self, document: str, *path: str) -> str:
        return f"({document} #> '{_postgres_path(path)}')"

    def length(self, document: str, *path: str) -> str:
        return f"coalesce(jsonb_array_length({self.part(document, *path)}), 0)"

    def elements(self, document: str, *path: str, alias: str) -> str:
        array = f"coalesce({self.part(document, *path)}, '[]')"
        return f"jsonb_array_elements({array}) WITH ORDINALITY AS {alias} (value, place)"

    def entries(self, document: str, *path: str, alias: str) -> str:
        return f"jsonb_each(coalesce({self.part(document, *path)}, '{{}}')) AS {alias}"

    def position(self, alias: str) -> str:
        return f"{alias}.place - 1"

    def element(self, document: str, *path: str, index: str) -> str:
        return f"({self.part(document, *path)} ->> ({index})::integer)::double precision"

    def scalar(self, value: str) -> str:
        return f"({value} #>> '{{}}')::double precision"

    def moment(self, microseconds: str) -> str:
        return f"to_timestamp({microseconds} / 1000000.0)"

    def written_moment(self, text: str) -> str:
        return f"{text}::timestamptz"

    def event_id(self, packed: str) -> str:
        is_text = f"substring({packed} FROM 1 FOR 17) = decode(repeat('00', 17), 'hex')"
        text = f"convert_from(substring({packed} FROM 18), 'UTF8')"
        return f"CASE WHEN {is_text} THEN {text} ELSE encode({packed}, 'hex') END"


def _sqlite_path(path: Sequence[str]) -> str:
    return "$" + "".join(f'."{key}"' for key in path)


def _postgres_path(path: Sequence[str]) -> str:
    return "{" + ",".join(path) + "}"


def views_digest(dialect: Dialect) -> str:
    """Tells whether the views of a history are those of this vqmon."""
    return sha256("\n".join(_view_statements(dialect)).encode()).hexdigest()[:16]


def _view_statements(dialect: Dialect) -> Iterator[str]:
    """DROP and CREATE of every view, in an order in which they can run."""
    views = list(_views(dialect))
    yield from (f"DROP VIEW IF EXISTS {view.name}" for view in reversed(views))
    for view in views:
        selected = ", ".join(f'{expression} AS "{name}"' for name, expression in view.columns.items())
        yield f"CREATE VIEW {view.name} AS SELECT {selected} {view.source}"


def make_views(transaction: Transaction, dialect: Dialect) -> None:
    """Make the public views anew."""
    for statement in _view_statements(dialect):
        transaction.execute(statement)
    transaction.execute("DELETE FROM views")
    transaction.execute("INSERT INTO views VALUES (?)", (views_digest(dialect),))


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    name: str
    # column -> expression
    columns: Mapping[str, str]
    # FROM and WHERE
    source: str = ""


def _views(dialect: Dialect) -> Iterator[_View]:
    """Every view; later ones may read earlier ones."""
    outcomes = "FROM outcome o JOIN rendition r ON r.rendition_id = o.rendition_id"
    scores = dialect.elements("o.facts", "scores", alias="s")
    score_columns = _score_columns(dialect)
    yield _View(name="v_version", columns={"version": str(_VIEWS_VERSION)})
    yield _View(name="v_outcomes", columns=_outcome_columns(dialect), source=outcomes)
    yield _View(name="v_scores", columns=score_columns, source=f"{outcomes} LEFT JOIN {scores} ON 1 = 1")
    yield _View(
        name="v_signals",
        columns=_series_columns(
            dialect, signal="s.key", mean=dialect.number("s.value", "mean"), max=dialect.number("s.value", "max")
        ),
        source=f"{outcomes} CROSS JOIN {dialect.entries('o.facts', 'signals', alias='s')}",
    )
    yield _View(
        name="v_references",
        columns=_series_columns(dialect, measure="s.key", value=dialect.scalar("s.value")),
        source=f"{outcomes} CROSS JOIN {dialect.entries('o.facts', 'references', alias='s')}",
    )
    yield _View(
        name="v_scorer_failures",
        columns=_series_columns(
            dialect, **{name: dialect.text("s.value", name) for name in ("scorer", "tier", "reason", "detail")}
        ),
        source=f"{outcomes} CROSS JOIN {dialect.elements('o.facts', 'failed_scorers', alias='s')}",
    )
    position = dialect.position("f")
    yield _View(
        name="v_frames",
        columns=_series_columns(
            dialect,
            scorer=dialect.text("s.value", "scorer"),
            position=position,
            time_seconds=dialect.element("o.facts", "times_seconds", index=position),
            value=dialect.scalar("f.value"),
        ),
        source=f"{outcomes} CROSS JOIN {scores} CROSS JOIN {dialect.elements('s.value', 'frames', alias='f')}",
    )
    yield _View(name="v_alerts", columns=_alert_columns(dialect), source="FROM alert a")
    yield _View(name="v_decisions", columns=_decision_columns(dialect), source="FROM input_decision d")
    yield _View(
        name="v_experiments",
        columns={name: f'"{name}"' for name in score_columns},
        source="FROM v_scores WHERE arm IS NOT NULL",
    )


def _series_columns(dialect: Dialect, **columns: str) -> dict[str, str]:
    """Columns about one part of an outcome, between those that tell which outcome it is."""
    return {
        "event_id": dialect.event_id("o.id"),
        "stream_id": "r.stream_id",
        "rendition": "r.name",
        "arm": dialect.text("o.facts", "labels", "arm"),
        "starts_at": dialect.moment("o.starts_at"),
        **columns,
        "number": "o.number",
    }


def _outcome_columns(dialect: Dialect) -> dict[str, str]:
    return {
        "event_id": dialect.event_id("o.id"),
        "kind": "CASE WHEN o.reason IS NULL THEN 'scored' ELSE 'unscored' END",
        "stream_id": "r.stream_id",
        "rendition": "r.name",
        "width": dialect.integer("o.facts", "width"),
        "height": dialect.integer("o.facts", "height"),
        "bitrate_kbps": dialect.number("o.facts", "bitrate_kbps"),
        "codec": dialect.text("o.facts", "codec"),
        "sequence": dialect.integer("o.facts", "sequence"),
        "segment_key": dialect.text("o.facts", "segment_key"),
        "starts_at": dialect.moment("o.starts_at"),
        "duration_seconds": "o.duration_seconds",
        "observed_at": dialect.moment("o.observed_at"),
        "stage": dialect.text("o.facts", "stage"),
        "reason": "o.reason",
        "detail": dialect.text("o.facts", "detail"),
        "value": "o.score",
        "frames": dialect.length("o.facts", "times_seconds"),
        **{name: dialect.number("o.facts", "signals", name, "max") for name in SIGNALS},
        **{f"reference_{name}": dialect.number("o.facts", "references", name) for name in EXPORTED_MEASURES},
        "reference_offset_seconds": dialect.number("o.facts", "reference_offset_seconds"),
        "reference_confidence": dialect.number("o.facts", "reference_confidence"),
        "unscored_reference": dialect.text("o.facts", "unscored_reference"),
        "references": dialect.part("o.facts", "references"),
        "arm": dialect.text("o.facts", "labels", "arm"),
        "labels": dialect.part("o.facts", "labels"),
        "scorer_failures": dialect.part("o.facts", "scorer_failures"),
        **{f"audio_{name}": dialect.number("o.facts", "audio", name) for name in AUDIO_MEASUREMENTS},
        "unmeasured_audio": dialect.text("o.facts", "unmeasured_audio"),
        "subtitle_cues": dialect.part("o.facts", "subtitle_cues"),
        "subtitle_problems": dialect.part("o.facts", "subtitle_problems"),
        "number": "o.number",
    }


def _score_columns(dialect: Dialect) -> dict[str, str]:
    """The columns of the exports, one row per outcome and scorer, and `number`."""
    scores = {
        "scorer": dialect.text("s.value", "scorer"),
        "value": dialect.number("s.value", "value"),
        "native_value": dialect.number("s.value", "native_value"),
        "p5": dialect.number("s.value", "p5"),
        "min": dialect.number("s.value", "min"),
        "pooling": dialect.text("s.value", "pooling"),
    }
    columns: dict[str, str] = {}
    for name, expression in _outcome_columns(dialect).items():
        columns |= scores if name == "value" else {name: expression}
    return columns


def _alert_columns(dialect: Dialect) -> dict[str, str]:
    document = "a.document" if isinstance(dialect, SqliteDialect) else "a.document::jsonb"
    return {
        "alert_id": "a.id",
        "rule": dialect.text(document, "data", "rule"),
        "severity": dialect.text(document, "data", "severity"),
        "state": "CASE WHEN a.resolved_at IS NULL THEN 'open' ELSE 'resolved' END",
        "stream_id": "a.stream_id",
        "rendition": dialect.text(document, "data", "rendition"),
        "series": dialect.text(document, "data", "series"),
        "began_at": dialect.written_moment(dialect.text(document, "data", "began_at")),
        "opened_at": dialect.moment("a.opened_at"),
        "resolved_at": dialect.moment("a.resolved_at"),
        "summary": dialect.text(document, "data", "summary"),
        "cause": dialect.text(document, "data", "cause"),
        "muted_by": dialect.text(document, "data", "muted_by"),
        "event_id": dialect.text(document, "data", "evidence", "event_id"),
        "value": dialect.number(document, "data", "evidence", "value"),
        "threshold": dialect.number(document, "data", "evidence", "threshold"),
        "arm": dialect.text(document, "data", "labels", "arm"),
        "labels": dialect.part(document, "data", "labels"),
        "number": "a.number",
    }


def _decision_columns(dialect: Dialect) -> dict[str, str]:
    document = "d.document" if isinstance(dialect, SqliteDialect) else "d.document::jsonb"
    return {
        "decision_id": "d.id",
        "hook": "d.hook",
        "stream_id": "d.stream_id",
        "kind": "d.kind",
        "input": dialect.text(document, "data", "input"),
        "reason": dialect.text(document, "data", "reason"),
        "summary": dialect.text(document, "data", "summary"),
        "value": dialect.number(document, "data", "value"),
        "threshold": dialect.number(document, "data", "threshold"),
        "backup_stream_id": dialect.text(document, "data", "backup_stream_id"),
        "backup_value": dialect.number(document, "data", "backup_value"),
        "at": dialect.written_moment(dialect.text(document, "data", "at")),
        "event_id": dialect.text(document, "data", "event_id"),
        "decided_at": dialect.moment("d.decided_at"),
        "delivery": "d.delivery",
        "attempts": "d.attempts",
        "error": "d.error",
        "changed_at": dialect.moment("d.changed_at"),
    }


VIEW_COLUMNS: Mapping[str, Sequence[str]] = {view.name: tuple(view.columns) for view in _views(SqliteDialect())}
"""The columns of every view, in order."""
