"""The tables of a history, in SQL for SQLite; PostgreSQL takes it with other type names."""

import re
from collections.abc import Iterator

from vqmon.errors import StoreRefusedError

APPLICATION_ID = 0x76716D6E
"""Tells a history from other SQLite files ("vqmn")."""

VERSION = 5
"""Version of the tables; a newer history is refused, an older one is upgraded by MIGRATIONS."""

_ENDED = """
-- Ends of renditions, by `number` among the outcomes; NULL = added by hand and not judged yet. The rendition '*'
-- means all renditions of the stream.
CREATE TABLE ended (
    id TEXT PRIMARY KEY,
    number INTEGER,
    stream_id TEXT NOT NULL,
    rendition TEXT NOT NULL,
    at INTEGER NOT NULL,
    why TEXT NOT NULL
);
CREATE INDEX ended_by_number ON ended (number);
"""

_EVIDENCE_HEAT_MAPS = """
-- Where quality is lost in the worst frames of an alert: JSON of `HeatMap`s, whose frames are in the order of the
-- alert's worst times; deleted together with the alert.
CREATE TABLE evidence_heat_maps (alert_id TEXT PRIMARY KEY, document TEXT NOT NULL);
"""

_VIEWS = """
-- `views_digest` of the public views; none = they are to be made.
CREATE TABLE views (digest TEXT NOT NULL);
-- The outcomes with `after_number` < number <= `up_to_number` have no facts yet: an older vqmon wrote them.
CREATE TABLE unfilled (after_number INTEGER NOT NULL, up_to_number INTEGER NOT NULL);
"""

_FACTS_FOR_MEASURES = f"""{_VIEWS}
ALTER TABLE outcome DROP COLUMN layout_id;
ALTER TABLE outcome DROP COLUMN measures;
ALTER TABLE outcome ADD COLUMN facts JSON;
DROP TABLE layout;
INSERT INTO unfilled SELECT 0, number FROM tip;
"""

_INPUT_DECISIONS = """
-- Decisions about the inputs of streams, and what became of their delivery; `document` is the CloudEvent.
CREATE TABLE input_decision (
    id TEXT PRIMARY KEY,
    hook TEXT NOT NULL,
    stream_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    decided_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    delivery TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    error TEXT NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX input_decision_by_time ON input_decision (decided_at);
CREATE INDEX input_decision_by_stream ON input_decision (stream_id, decided_at);
"""

_MIGRATIONS: dict[int, str] = {
    1: _ENDED,
    2: _EVIDENCE_HEAT_MAPS,
    3: _FACTS_FOR_MEASURES,
    4: _INPUT_DECISIONS,
}
"""Version -> the statements that upgrade it to the next version."""

_TABLES = f"""{_ENDED}{_EVIDENCE_HEAT_MAPS}{_VIEWS}{_INPUT_DECISIONS}
-- Times are microseconds since the epoch. `number` counts writes over outcomes, ends and alerts together, so that
-- "what is new since" is one comparison; the newest is in `tip`.
CREATE TABLE tip (number INTEGER NOT NULL);
INSERT INTO tip VALUES (0);

-- A random id that differs from that of every other history.
CREATE TABLE identity (id TEXT NOT NULL);

CREATE TABLE rendition (
    rendition_id INTEGER PRIMARY KEY,
    stream_id TEXT NOT NULL,
    name TEXT NOT NULL,
    width INTEGER,
    height INTEGER,
    bitrate_kbps REAL,
    UNIQUE (stream_id, name)
);

-- The columns that queries need. A segment that failed and is scored later has two rows with two ids.
CREATE TABLE outcome (
    number INTEGER PRIMARY KEY,
    -- `rows.pack_event_id`
    id BLOB NOT NULL UNIQUE,
    rendition_id INTEGER NOT NULL,
    starts_at INTEGER NOT NULL,
    observed_at INTEGER NOT NULL,
    duration_seconds REAL NOT NULL,
    -- NULL = scored
    reason TEXT,
    -- of the first scorer; NULL = unscored
    score REAL,
    -- `rows.encode_facts`: what charts and the public views need; NULL = written by an older vqmon and not filled yet
    facts JSON
);
CREATE INDEX outcome_by_time ON outcome (rendition_id, starts_at, score);
-- The segments of folders that have an outcome: `rows.segment_digest` of the segment's key.
CREATE TABLE seen (segment INTEGER PRIMARY KEY);

-- The CloudEvents themselves, the source of truth, in blocks of events written together: from `number` to `last`.
-- Compressed by zlib with one earlier event as the dictionary; `pictures` holds the fingerprints of pictures as bytes.
CREATE TABLE document (
    number INTEGER PRIMARY KEY,
    last INTEGER NOT NULL,
    dictionary_id INTEGER,
    body BLOB NOT NULL,
    pictures BLOB NOT NULL
);
CREATE TABLE dictionary (dictionary_id INTEGER PRIMARY KEY, provenance TEXT NOT NULL UNIQUE, body BLOB NOT NULL);

-- Totals per rendition and minute: the scores of one scorer, or (scorer_id 0) the count of unscored segments. They
-- contain the outcomes up to `rolled`; charts add those written later.
CREATE TABLE rollup (
    rendition_id INTEGER NOT NULL,
    begins_at INTEGER NOT NULL,
    scorer_id INTEGER NOT NULL,
    scored INTEGER NOT NULL,
    unscored INTEGER NOT NULL,
    -- over the segments: sum of scores, lowest score, sum of the fifth percentiles over frames
    score_total REAL NOT NULL,
    lowest REAL,
    p5_total REAL NOT NULL,
    PRIMARY KEY (rendition_id, begins_at, scorer_id)
);
CREATE TABLE scorer (scorer_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE rolled (number INTEGER NOT NULL);
INSERT INTO rolled VALUES (0);

CREATE TABLE thumbnail (number INTEGER NOT NULL, position INTEGER NOT NULL, time_seconds REAL NOT NULL, jpeg BLOB);
CREATE UNIQUE INDEX thumbnail_by_outcome ON thumbnail (number, position);

CREATE TABLE alert (
    id TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    stream_id TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    resolved_at INTEGER,
    document TEXT NOT NULL
);
CREATE INDEX alert_by_number ON alert (number);
CREATE INDEX alert_by_time ON alert (opened_at);
CREATE INDEX alert_open ON alert (opened_at) WHERE resolved_at IS NULL;

-- The worst frames of the outcome that triggered an alert; deleted together with the alert.
CREATE TABLE evidence (alert_id TEXT NOT NULL, position INTEGER NOT NULL, time_seconds REAL NOT NULL, jpeg BLOB);
CREATE UNIQUE INDEX evidence_by_alert ON evidence (alert_id, position);

-- Alerts that receivers have to be notified of: inserted in the transaction of the alert, deleted when every receiver
-- was notified that it is resolved.
CREATE TABLE outbox (
    alert_id TEXT PRIMARY KEY,
    -- when it was queued, and when the alert last changed, by the clock of this machine
    queued_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    -- the alert as it was when it was queued
    opened TEXT NOT NULL,
    -- JSON: receiver -> the state that it was last notified of, open or resolved
    told TEXT NOT NULL
);

-- Deploy markers: intended changes, at the time of the segments; `stream` and `rendition` are globs.
CREATE TABLE marker (
    id TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    name TEXT NOT NULL,
    stream TEXT NOT NULL,
    rendition TEXT NOT NULL
);

CREATE TABLE state (key TEXT PRIMARY KEY, document BLOB NOT NULL);
CREATE TABLE cursor (
    lane TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    segment_key TEXT NOT NULL,
    ends_at INTEGER NOT NULL
);

-- How far `vqmon record` has read each partition; written in the transaction of the records.
CREATE TABLE record_offset (
    topic TEXT NOT NULL,
    partition_number INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition_number)
);

-- How many outcomes were ever published, those that retention deleted included; reason '' = scored.
CREATE TABLE published (reason TEXT PRIMARY KEY, total INTEGER NOT NULL);
"""

COMPRESSED_COLUMNS = (("document", "body"), ("document", "pictures"), ("thumbnail", "jpeg"), ("evidence", "jpeg"))
"""Columns whose contents are compressed already, so that the database need not try."""

_POSTGRES_TYPES = {
    "INTEGER": "BIGINT",
    "REAL": "DOUBLE PRECISION",
    "BLOB": "BYTEA",
    "TEXT": 'TEXT COLLATE "C"',
    "JSON": "JSONB",
}


def check_version(version: int, name: str) -> None:
    """Raise StoreRefusedError for the tables of a newer vqmon."""
    if version > VERSION:
        raise StoreRefusedError(
            f"{name}: was written by a newer vqmon (tables {version}, this vqmon has {VERSION}); "
            "upgrade vqmon, or name another history"
        )


def upgrade_statements(version: int) -> Iterator[str]:
    """The statements that upgrade the tables of a version to VERSION; version 0 has no tables."""
    scripts = [_TABLES] if version == 0 else [_MIGRATIONS[older] for older in range(version, VERSION)]
    for script in scripts:
        yield from _split_statements(script)


def to_postgres(statement: str) -> str:
    """The statement with PostgreSQL's type names."""
    return re.sub(r"\b(INTEGER|REAL|BLOB|TEXT|JSON)\b", lambda match: _POSTGRES_TYPES[match[0]], statement)


def _split_statements(script: str) -> Iterator[str]:
    """The statements one by one, without comments."""
    bare = re.sub("--[^\n]*", "", script)
    yield from (statement.strip() for statement in bare.split(";") if statement.strip())
