"""The public views of ClickHouse: the columns of the exports over the table of config/clickhouse/quality.sql.

`python -m vqmon.transport.export.clickhouse config` writes config/clickhouse/views.sql.
"""

import sys
from pathlib import Path

from vqmon.core.scores import EXPORTED_MEASURES
from vqmon.core.types import AUDIO_MEASUREMENTS, SIGNALS
from vqmon.transport.export.tables import COLUMNS

_HEADING = "-- The public views, with the columns of `vqmon export` (docs/sql.md); NULL where there is no value.\n"
_SCORE_COLUMNS = ("scorer", "value", "native_value", "p5", "min", "pooling")
_TEXTS = ("codec", "stage", "reason", "detail", "unscored_reference", "unmeasured_audio", "arm")
_COUNTS = ("width", "height")
_MAPS = ("scorer_failures", "subtitle_cues", "subtitle_problems")


def clickhouse_views() -> str:
    """CREATE VIEW of v_scores and v_experiments."""
    selected = ",\n".join(f"    {_expression(name)} AS {name}" for name in COLUMNS)
    return (
        f"{_HEADING}CREATE OR REPLACE VIEW vqmon.v_scores AS\nSELECT\n{selected}\nFROM vqmon.quality AS q FINAL;\n\n"
        "CREATE OR REPLACE VIEW vqmon.v_experiments AS SELECT * FROM vqmon.v_scores WHERE arm IS NOT NULL;\n"
    )


def _expression(name: str) -> str:
    measure, sound = name.removeprefix("reference_"), name.removeprefix("audio_")
    if name in SIGNALS:
        return f"if(mapContains(q.signals, '{name}'), q.signals['{name}'], NULL)"
    if measure != name and measure in EXPORTED_MEASURES:
        return f"if(mapContains(q.reference_values, '{measure}'), q.reference_values['{measure}'], NULL)"
    if sound != name and sound in AUDIO_MEASUREMENTS:
        return f"if(mapContains(q.audio_values, '{sound}'), q.audio_values['{sound}'], NULL)"
    if name == "references":
        return "if(empty(q.reference_values), NULL, toJSONString(q.reference_values))"
    if name in _MAPS:
        return f"if(empty(q.{name}), NULL, toJSONString(q.{name}))"
    if name in _SCORE_COLUMNS:
        return f"if(q.scorer = '', NULL, q.{name})"
    if name in _TEXTS:
        return f"nullIf(q.{name}, '')"
    return f"nullIf(q.{name}, 0)" if name in _COUNTS else f"q.{name}"


if __name__ == "__main__":
    (Path(sys.argv[1]) / "clickhouse" / "views.sql").write_text(clickhouse_views())
