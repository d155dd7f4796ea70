"""The tables of a history, as SQL."""

APPLICATION_ID = 0x76716D6E
"""Tells a history from other SQLite files ("vqmn")."""

VERSION = 1
"""Of the tables; a newer file is refused, an older one is brought up by MIGRATIONS."""

MIGRATIONS: dict[int, str] = {}
"""Version -> what makes the next version out of it."""

TABLES = """
-- Moments are microseconds since the epoch. `number` counts writes over outcomes and alerts together, so that "what is
-- new since" is one comparison; the newest is in `tip`.
CREATE TABLE tip (number INTEGER NOT NULL);
INSERT INTO tip VALUES (0);

CREATE TABLE rendition (
    rendition_id INTEGER PRIMARY KEY,
    stream_id TEXT NOT NULL,
    name TEXT NOT NULL,
    width INTEGER,
    height INTEGER,
    bitrate_kbps REAL,
    UNIQUE (stream_id, name)
);

-- What queries need of an outcome. A segment that failed and is scored later has two rows with two ids.
CREATE TABLE outcome (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    rendition_id INTEGER NOT NULL,
    starts_at INTEGER NOT NULL,
    observed_at INTEGER NOT NULL,
    duration_seconds REAL NOT NULL,
    -- 64 bits of the digest of the segment's key
    segment INTEGER NOT NULL,
    -- NULL = scored
    reason TEXT,
    -- of the first scorer; NULL = unscored
    score REAL,
    -- JSON: scorer -> [value, p5, min]
    scores TEXT,
    -- JSON: signal -> highest frame value
    signals TEXT
);
CREATE INDEX outcome_by_time ON outcome (rendition_id, starts_at, score);
CREATE INDEX outcome_by_segment ON outcome (segment);

-- The CloudEvent itself, the source of truth: zlib with one earlier event as the dictionary.
CREATE TABLE document (number INTEGER PRIMARY KEY, dictionary_id INTEGER, body BLOB NOT NULL);
CREATE TABLE dictionary (dictionary_id INTEGER PRIMARY KEY, provenance TEXT NOT NULL UNIQUE, body BLOB NOT NULL);

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

-- The worst frames of the outcome that tipped an alert; never removed by retention.
CREATE TABLE evidence (alert_id TEXT NOT NULL, position INTEGER NOT NULL, time_seconds REAL NOT NULL, jpeg BLOB);
CREATE UNIQUE INDEX evidence_by_alert ON evidence (alert_id, position);

-- What has to be told of alerts: made in the transaction of the alert, gone when every target knows how it ended.
CREATE TABLE outbox (
    alert_id TEXT PRIMARY KEY,
    -- when it came in, and when the alert last changed, by the clock of this machine
    queued_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    -- the alert as it was when it came in
    opened TEXT NOT NULL,
    -- JSON: target -> what it was told last, open or resolved
    told TEXT NOT NULL
);

CREATE TABLE state (key TEXT PRIMARY KEY, document BLOB NOT NULL);
CREATE TABLE cursor (
    lane TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    segment_key TEXT NOT NULL,
    ends_at INTEGER NOT NULL
);

-- How many outcomes were ever published, also those that retention removed; reason '' = scored.
CREATE TABLE published (reason TEXT PRIMARY KEY, total INTEGER NOT NULL);
"""
