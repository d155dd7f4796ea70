"""The public views: the same questions have the same answers in every database and in the exports."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import factories
from tests.postgres import PostgresServer
from tests.transport.history.deliveries.test_decision_log import records as decision_records
from vqmon.core.types import Outcome, ReferenceScore, SubtitleFacts
from vqmon.transport.export.clickhouse import clickhouse_views
from vqmon.transport.export.tables import COLUMNS, export_outcomes
from vqmon.transport.history.backends.location import PostgresAddress
from vqmon.transport.history.backends.views import VIEW_COLUMNS
from vqmon.transport.history.history import History, open_history
from vqmon.transport.wire.cloudevents import encode_outcome

CLICKHOUSE = Path(__file__).parents[4] / "config" / "clickhouse"
CONNECT = CLICKHOUSE.parent / "kubernetes" / "connect"

Ask = Callable[[str], list[tuple[Any, ...]]]

# Databases differ in how they write a day and a label; all else is the same SQL.
_WORDS = {
    "sqlite": {
        "day": "substr(starts_at, 1, 10)",
        "team": "json_extract(labels, '$.team')",
        "hour": "substr(starts_at, 12, 2)",
    },
    "postgres": {
        "day": "to_char(starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
        "team": "labels ->> 'team'",
        "hour": "to_char(starts_at AT TIME ZONE 'UTC', 'HH24')",
    },
    "duckdb": {
        "day": "strftime(timezone('UTC', starts_at), '%Y-%m-%d')",
        "team": "labels['team']",
        "hour": "strftime(timezone('UTC', starts_at), '%H')",
    },
    "clickhouse": {
        "day": "formatDateTime(starts_at, '%F', 'UTC')",
        "team": "labels['team']",
        "hour": "formatDateTime(starts_at, '%H', 'UTC')",
    },
}

QUESTIONS = {
    "mean by arm and day": "SELECT arm, {day} AS day, avg(value) FROM v_scores WHERE kind = 'scored' GROUP BY 1, 2",
    "share below 60 by stream": (
        "SELECT stream_id, avg(CASE WHEN value < 60 THEN 1.0 ELSE 0.0 END) FROM v_scores"
        " WHERE kind = 'scored' GROUP BY 1"
    ),
    "paired difference by content": (
        "SELECT a.stream_id, avg(b.value - a.value), count(*) FROM v_experiments a JOIN v_experiments b"
        " ON b.stream_id = a.stream_id AND b.starts_at = a.starts_at AND b.scorer = a.scorer"
        " WHERE a.arm = 'v1' AND b.arm = 'v2' GROUP BY 1"
    ),
    "unscored by reason": "SELECT reason, count(*) FROM v_scores WHERE kind = 'unscored' GROUP BY 1",
    "share unscored by rendition": (
        "SELECT stream_id, rendition, avg(CASE WHEN kind = 'unscored' THEN 1.0 ELSE 0.0 END) FROM v_scores"
        " GROUP BY 1, 2"
    ),
    "outcomes per hour": "SELECT {hour} AS hour, count(*) FROM v_scores GROUP BY 1",
    "lowest segments": "SELECT event_id, value FROM v_scores WHERE value < 45",
    "worst frame by stream": "SELECT stream_id, min(min) FROM v_scores WHERE kind = 'scored' GROUP BY 1",
    "mean by codec and height": "SELECT codec, height, avg(value) FROM v_scores WHERE kind = 'scored' GROUP BY 1, 2",
    "freeze above a half": 'SELECT count(*) FROM v_scores WHERE "freeze" > 0.5',
    "mean of blur by arm": "SELECT arm, avg(blur) FROM v_scores WHERE kind = 'scored' GROUP BY 1",
    "mean by label": "SELECT {team} AS team, avg(value) FROM v_scores WHERE kind = 'scored' GROUP BY 1",
    "PSNR by arm": "SELECT arm, avg(reference_psnr) FROM v_scores WHERE reference_psnr IS NOT NULL GROUP BY 1",
    "seconds seen by rendition": "SELECT rendition, sum(duration_seconds) FROM v_scores GROUP BY 1",
    "bitrate of each arm": "SELECT arm, avg(bitrate_kbps) FROM v_scores GROUP BY 1",
    "frames looked at": "SELECT sum(frames) FROM v_scores",
    "renditions of a stream": "SELECT DISTINCT rendition FROM v_scores WHERE stream_id = 'news-1'",
    "first and last sequence": "SELECT rendition, min(sequence), max(sequence) FROM v_scores GROUP BY 1",
    "what a failure says": "SELECT detail, stage FROM v_scores WHERE reason = 'not_found'",
    "segments that a scorer lost": "SELECT arm, count(*) FROM v_scores WHERE scorer_failures IS NOT NULL GROUP BY 1",
    "loudness and drift of the sound by arm": (
        "SELECT arm, avg(audio_loudness_lufs), avg(audio_drift_seconds), avg(audio_is_mono) FROM v_scores GROUP BY 1"
    ),
    "subtitles": ("SELECT arm, count(subtitle_cues), count(subtitle_problems) FROM v_scores GROUP BY 1"),
    "sound that was not measured": "SELECT unmeasured_audio, count(*) FROM v_scores GROUP BY 1",
    "native values": "SELECT scorer, avg(native_value), avg(p5) FROM v_scores WHERE scorer IS NOT NULL GROUP BY 1",
}


def outcomes() -> Sequence[Outcome]:
    """Two arms of two streams over midnight, some of them failed, some with a reference."""
    found: list[Outcome] = []
    for stream in ("news-1", "sports"):
        for arm, gain in (("v1", 0.0), ("v2", 5.0)):
            rendition = factories.rendition(stream=stream, name=f"1080p-{arm}", labels={"arm": arm, "team": "sr"})
            for k in range(6):
                starts_at = factories.START + timedelta(hours=k)
                segment = factories.segment(sequence=k, rendition=rendition, starts_at=starts_at)
                if k == 4:
                    found.append(replace(factories.failure(sequence=k), id=f"{len(found):032x}", segment=segment))
                    continue
                event = factories.event(sequence=k, score=40.0 + 7 * k + gain)
                psnr = ReferenceScore(measure="psnr", value=30.0 + k, frame_values=(), unit="dB", higher_is_better=True)
                references = (psnr,) if k % 2 else ()
                failures = (factories.scorer_failure(),) if k == 1 else ()
                event = replace(event, references=references, scorer_failures=failures)
                sound = factories.audio(loudness_lufs=-23.0 - k, is_mono=k == 2, end_offset_seconds=0.05 if k else None)
                event = replace(event, unmeasured_audio="no_audio") if k == 5 else replace(event, audio=sound)
                subtitles = (
                    SubtitleFacts(name="en English", cues=3 * k),
                    SubtitleFacts(name="de", problem="missing", detail="404"),
                )
                event = replace(event, subtitles=subtitles[: k % 3])
                found.append(replace(event, id=f"{len(found):032x}", segment=segment))
    return found


def fill(history: History) -> None:
    history.publish(outcomes(), alerts=[factories.alert()])
    history.decisions.record(decision_records())


@pytest.fixture(
    params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres), "duckdb", "clickhouse", "topic"]
)
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Ask]]:
    """The name of a database, and a way to ask it."""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.empty_database() as url:
            import psycopg

            address = PostgresAddress(url=url, password_file=server.password_file)
            with open_history(address, "write") as history:
                fill(history)
                password = Path(server.password_file).read_text().strip() if server.password_file else None
                with psycopg.connect(url, password=password, options="-c search_path=vqmon") as connection:
                    yield "postgres", lambda sql: connection.execute(sql).fetchall()
        return
    with open_history(tmp_path / "history.db", "write") as history:
        fill(history)
        parquet = tmp_path / "outcomes.parquet"
        export_outcomes(history.documents, parquet)
    if request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "history.db")) as connection:
            yield "sqlite", lambda sql: connection.execute(sql).fetchall()
        return
    if request.param == "topic":
        yield "clickhouse", _ask_clickhouse_topic(tmp_path)
        return
    yield request.param, _ask_duckdb(parquet) if request.param == "duckdb" else _ask_clickhouse(parquet)


def _ask_duckdb(parquet: Path) -> Ask:
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"CREATE VIEW v_scores AS SELECT * FROM '{parquet}'")
    connection.execute("CREATE VIEW v_experiments AS SELECT * FROM v_scores WHERE arm IS NOT NULL")
    return lambda sql: list(connection.execute(sql).fetchall())


def _ask_clickhouse(parquet: Path) -> Ask:
    import chdb

    views = (
        f"WITH v_scores AS (SELECT * FROM file('{parquet}', Parquet)),"
        " v_experiments AS (SELECT * FROM v_scores WHERE arm IS NOT NULL) "
    )

    def ask(sql: str) -> list[tuple[Any, ...]]:
        lines = str(chdb.query(views + sql, "JSONCompactEachRow")).splitlines()
        return [tuple(json.loads(line)) for line in lines]

    return ask


def _ask_clickhouse_topic(folder: Path) -> Ask:
    """The shipped tables and views, filled by the messages of a topic; only the engine of the topic is another one."""
    from chdb.session import Session

    session = Session(str(folder / "clickhouse"))
    engine = re.compile(r"\(message String\)\nENGINE = Kafka.*?;", re.DOTALL)
    script, count = engine.subn(
        "(message String, _error String) ENGINE = Memory;", (CLICKHOUSE / "quality.sql").read_text()
    )
    assert count == 1
    for statement in re.sub("--[^\n]*", "", script + (CLICKHOUSE / "views.sql").read_text()).split(";"):
        if statement.strip():
            session.query(statement)
    rows = [json.dumps({"message": encode_outcome(outcome, source="test").decode()}) for outcome in outcomes()]
    session.query(f"INSERT INTO vqmon.quality_topic FORMAT JSONEachRow {' '.join(rows)}")

    def ask(sql: str) -> list[tuple[Any, ...]]:
        in_database = re.sub(r"(?<!vqmon\.)\b(v_scores|v_experiments)\b", r"vqmon.\1", sql)
        return [tuple(json.loads(line)) for line in str(session.query(in_database, "JSONCompactEachRow")).splitlines()]

    return ask


def rounded(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Sorted, numbers with six decimals: databases add up in different orders."""
    return sorted(
        (
            tuple(cell if cell is None or isinstance(cell, str) else round(float(cell), 6) for cell in row)
            for row in rows
        ),
        key=repr,
    )


def expected_answers() -> dict[str, list[tuple[Any, ...]]]:
    """Some of the answers, worked out by hand in Python."""
    events = [outcome for outcome in outcomes() if hasattr(outcome, "scores")]
    low = {
        stream: [event.scores[0].value < 60 for event in events if event.segment.rendition.stream_id == stream]
        for stream in ("news-1", "sports")
    }
    return {
        "share below 60 by stream": [(stream, sum(found) / len(found)) for stream, found in low.items()],
        "paired difference by content": [("news-1", 5.0, 5), ("sports", 5.0, 5)],
        "unscored by reason": [("not_found", 4)],
        "mean by label": [("sr", sum(event.scores[0].value for event in events) / len(events))],
    }


def test_twenty_questions_have_the_same_answers(asked: tuple[str, Ask], tmp_path: Path) -> None:
    """In every database as in SQLite, and as worked out by hand."""
    name, ask = asked
    with open_history(tmp_path / "same.db", "write") as history:
        fill(history)
    with closing(sqlite3.connect(tmp_path / "same.db")) as sqlite:
        for question, sql in QUESTIONS.items():
            answers = rounded(ask(sql.format(**_WORDS[name])))
            same = rounded(sqlite.execute(sql.format(**_WORDS["sqlite"])).fetchall())
            assert answers == same, question
            assert answers == rounded(expected_answers().get(question, same)), question
            assert answers, question


@pytest.mark.parametrize("asked", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_views_of_parts_have_one_row_per_part(asked: tuple[str, Ask]) -> None:
    """Frames with their times, signals, reference measures, alerts; and every column can be read."""
    _, ask = asked
    event = next(outcome for outcome in outcomes() if hasattr(outcome, "scores"))
    where = f"WHERE event_id = '{event.id}'"
    frames = ask(f"SELECT time_seconds, value FROM v_frames {where} ORDER BY position")
    assert frames == list(zip(event.times_seconds, event.scores[0].frame_values, strict=True))
    signals = {name: (mean, max) for name, mean, max in ask(f"SELECT signal, mean, max FROM v_signals {where}")}
    assert signals == {name: (signal.mean, signal.max) for name, signal in event.signals.items()}
    assert ask("SELECT measure, sum(value) FROM v_references GROUP BY 1") == [("psnr", 4 * (31.0 + 33.0 + 35.0))]
    alert = factories.alert()
    assert ask("SELECT rule, state, severity, stream_id FROM v_alerts") == [
        (alert.rule, alert.state, alert.severity, alert.stream_id)
    ]
    for view, columns in VIEW_COLUMNS.items():
        quoted = ", ".join(f'"{column}"' for column in columns)
        assert ask(f"SELECT {quoted} FROM {view} LIMIT 1"), view


def test_exports_have_the_columns_of_the_view_of_scores() -> None:
    """The same names in the same order; the view also has the number of the write."""
    assert (*COLUMNS, "number") == VIEW_COLUMNS["v_scores"] == VIEW_COLUMNS["v_experiments"]


def test_the_views_of_clickhouse_are_generated_from_the_code() -> None:
    """Regenerate: python -m vqmon.transport.export.clickhouse config"""
    assert (CLICKHOUSE / "views.sql").read_text() == clickhouse_views()


def test_no_column_is_ever_taken_away() -> None:
    """view_columns.json holds those of the first release, in order; later ones are added to it."""
    recorded = json.loads(Path(__file__).with_name("view_columns.json").read_text())
    for view, columns in recorded.items():
        assert [column for column in VIEW_COLUMNS[view] if column in columns] == columns


_SHOWN = (factories.START - timedelta(days=1), factories.START + timedelta(days=1))
"""The time range of the dashboard."""
_INTERVAL_SECONDS = 3600
_CHOSEN = {
    "stream": ["news-1", "sports"],
    "rendition": ["1080p-v1", "1080p-v2"],
    "arm": ["v1", "v2", "it's"],
    "scorer": [factories.SCORER],
    "label": ["team"],
    "label_value": ["sr"],
    "control": ["v1"],
    "treatment": ["v2"],
}
"""What is chosen in the pickers."""


def expanded_macro(macro: re.Match[str]) -> str:
    """A macro as the data sources of Grafana for PostgreSQL and ClickHouse (`_ms`, `timeInterval`) expand it."""
    column = macro["arguments"].split(",")[0].strip()
    first, last = (f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in _SHOWN)
    first_ms, last_ms = (round(1000 * moment.timestamp()) for moment in _SHOWN)
    return {
        "timeFilter": f"{column} BETWEEN '{first}' AND '{last}'",
        "timeGroup": f"floor(extract(epoch from {column})/{_INTERVAL_SECONDS})*{_INTERVAL_SECONDS}",
        "timeFilter_ms": f"{column} >= fromUnixTimestamp64Milli({first_ms}) "
        f"AND {column} <= fromUnixTimestamp64Milli({last_ms})",
        "timeInterval": f"toStartOfInterval(toDateTime({column}), INTERVAL {_INTERVAL_SECONDS} second)",
    }[macro["name"]]


def filled_in(sql: str) -> str:
    """What Grafana sends: macros and variables in the format `sqlstring` replaced."""
    sql = re.sub(
        r"\$\{(\w+):sqlstring\}",
        lambda variable: ",".join("'" + value.replace("'", "''") + "'" for value in _CHOSEN[variable[1]]),
        sql,
    )
    sql = re.sub(r"\$__(?P<name>\w+)\((?P<arguments>[^)]*)\)", expanded_macro, sql)
    assert "$" not in sql
    return sql


@pytest.mark.parametrize(
    ("asked", "dashboard"),
    [
        pytest.param("postgres", "postgres", marks=pytest.mark.postgres),
        ("topic", "clickhouse"),
    ],
    indirect=["asked"],
)
def test_every_panel_of_the_sql_dashboards_has_rows(asked: tuple[str, Ask], dashboard: str) -> None:
    """And every variable; the two arms differ by 5 in both contents."""
    _, ask = asked
    file = CLICKHOUSE.parent / "grafana" / "dashboards" / "sql" / f"vqmon-streams-{dashboard}.json"
    board = json.loads(file.read_text())
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            assert ask(filled_in(variable["query"])), variable["name"]
    rows = {
        panel["title"]: ask(filled_in(panel["targets"][0]["rawSql"]))
        for panel in board["panels"]
        if panel["type"] != "row"
    }
    assert [title for title, found in rows.items() if not found] == []
    [(arm, control, difference, low, high, contents, segments)] = rows["Mean difference with its 95 % interval"]
    assert (arm, control, float(difference), low, high) == ("v2", "v1", 5.0, None, None)
    assert (int(contents), int(segments)) == (2, 10)
    assert all(ask(filled_in(annotation["target"]["rawSql"])) for annotation in board["annotations"]["list"])


def sink_config(name: str) -> dict[str, str]:
    """The configuration of a sink of Kafka Connect."""
    document = yaml.safe_load((CONNECT / f"{name}.yaml").read_text(encoding="utf-8"))
    config: dict[str, str] = document["spec"]["config"]
    return config


def sink_documents() -> list[str]:
    """The messages of a scored and an unscored outcome."""
    outcomes: list[Outcome] = [factories.event(), factories.failure(sequence=1)]
    return [encode_outcome(outcome, source="test").decode() for outcome in outcomes]


def test_the_rows_of_the_clickhouse_sink_become_those_of_the_topic(tmp_path: Path) -> None:
    """The shipped SQL, on an embedded ClickHouse; a row written twice counts once."""
    from chdb.session import Session

    session = Session(str(tmp_path / "clickhouse"))
    script = "".join((CLICKHOUSE / name).read_text("utf-8") for name in ("connect.sql", "quality.sql", "views.sql"))
    for statement in re.sub("--[^\n]*", "", script).split(";"):
        if statement.strip():
            session.query(statement)
    config = sink_config("clickhouse")
    field, table = config["transforms.toDocument.field"], config["topic2TableMap"].split("=")[1]
    rows = " ".join(json.dumps({field: document}) for document in sink_documents())
    for _ in range(2):
        session.query(f"INSERT INTO {config['database']}.{table} ({field}) FORMAT JSONEachRow {rows}")
    counts = str(session.query("SELECT kind, count() FROM vqmon.quality FINAL GROUP BY kind ORDER BY kind", "CSV"))
    assert counts.split() == ['"scored",1', '"unscored",1']


@pytest.mark.postgres
def test_the_table_of_the_jdbc_sink_takes_the_messages(postgres: PostgresServer) -> None:
    """Its primary key is that of the connector, and its view shows scores and reasons."""
    import psycopg

    config = sink_config("jdbc-postgresql")
    sql = (CONNECT / "jdbc-postgresql.sql").read_text("utf-8")
    table, keys, field = config["table.name.format"], config["pk.fields"], config["transforms.toDocument.field"]
    with postgres.empty_database() as url:
        password = Path(postgres.password_file).read_text().strip() if postgres.password_file else None
        with psycopg.connect(url, password=password) as connection:
            connection.execute(sql)
            for _ in range(2):
                for offset, document in enumerate(sink_documents()):
                    connection.execute(
                        f"INSERT INTO {table} ({keys}, {field}) VALUES ('t', 0, %s, %s::jsonb)"
                        f" ON CONFLICT ({keys}) DO UPDATE SET {field} = excluded.{field}",
                        (offset, document),
                    )
            rows = connection.execute("SELECT scorer, value, reason FROM vqmon_scores ORDER BY scorer").fetchall()
    event = factories.event()
    assert rows == [(event.scores[0].scorer, event.scores[0].value, None), (None, None, "not_found")]
