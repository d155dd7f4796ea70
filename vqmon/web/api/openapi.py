"""Every question of the REST interface, and its OpenAPI 3.1 description.

python -m vqmon.web.api.openapi config    writes openapi.yaml there
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vqmon.core.types import Alert, Outcome
from vqmon.web.api import v1
from vqmon.web.api.framework import AFTER, LIMIT, PREFIX, Operation, Page, Parameter, Problem
from vqmon.web.api.v1 import (
    ExperimentAnswer,
    ExperimentItem,
    OutcomeItem,
    RenditionItem,
    RenditionsCompared,
    StreamItem,
)
from vqmon.web.model.explanations import STATES
from vqmon.web.model.renditions import SORTS
from vqmon.web.model.time_range import RANGES
from vqmon.web.pages.compare import ALIGNMENTS
from vqmon.web.site import Site, in_thread

_REF = "#/components/schemas/{model}"

_WORDS = Parameter(name="q", meaning="Words that stream, rendition, state or reason must hold.")
_STATE = Parameter(name="state", meaning="Only in this state.", kind="choice", choices=tuple(STATES))
_SINCE = Parameter(name="since", meaning="From this moment on, on the media timeline.", kind="moment")
_UNTIL = Parameter(name="until", meaning="Before this moment, on the media timeline.", kind="moment")
_STREAM = Parameter(name="stream", meaning="Only this stream.")

OPERATIONS = (
    Operation(
        path="/streams",
        name="listStreams",
        summary="Every stream with the state of each rendition, by name.",
        answer=Page[StreamItem],
        make=v1.streams,
        parameters=(_WORDS, _STATE, LIMIT, AFTER),
    ),
    Operation(
        path="/renditions",
        name="listRenditions",
        summary="Every rendition as it stands now.",
        answer=Page[RenditionItem],
        make=v1.renditions,
        parameters=(
            _WORDS,
            _STATE,
            Parameter(name="sort", meaning="By what; name when not given.", kind="choice", choices=tuple(SORTS)),
            LIMIT,
            AFTER,
        ),
    ),
    Operation(
        path="/outcomes",
        name="listOutcomes",
        summary="Outcomes of a stream, the newest first: of the last day, unless `since` says otherwise.",
        answer=Page[OutcomeItem],
        make=v1.outcomes,
        parameters=(
            Parameter(name="stream", meaning="The stream.", is_required=True),
            Parameter(name="rendition", meaning="Only this rendition."),
            _SINCE,
            _UNTIL,
            LIMIT,
        ),
    ),
    Operation(
        path="/outcomes/{event_id}",
        name="getOutcome",
        summary="One outcome, whole: scores and signals frame by frame with provenance, or why there are none.",
        answer=Outcome,
        make=v1.event,
        parameters=(Parameter(name="event_id", meaning="Its id.", is_required=True, is_path=True),),
    ),
    Operation(
        path="/alerts",
        name="listAlerts",
        summary="Alerts, the newest first.",
        answer=Page[Alert],
        make=v1.alerts,
        parameters=(
            _STREAM,
            Parameter(name="state", meaning="Only these.", kind="choice", choices=("open", "resolved")),
            Parameter(name="since", meaning="Open, or resolved after this moment.", kind="moment"),
            LIMIT,
            AFTER,
        ),
    ),
    Operation(
        path="/alerts/{alert_id}",
        name="getAlert",
        summary="One alert.",
        answer=Alert,
        make=v1.alert,
        parameters=(Parameter(name="alert_id", meaning="Its id.", is_required=True, is_path=True),),
    ),
    Operation(
        path="/experiments",
        name="listExperiments",
        summary="Every experiment with its verdicts.",
        answer=Page[ExperimentItem],
        make=v1.experiments,
        parameters=(LIMIT, AFTER),
    ),
    Operation(
        path="/experiments/{name}",
        name="getExperiment",
        summary="The whole answer of an experiment: what `vqmon compare --json` prints, and when it was made.",
        answer=ExperimentAnswer,
        make=v1.answer,
        parameters=(Parameter(name="name", meaning="Its name.", is_required=True, is_path=True),),
    ),
    Operation(
        path="/comparison",
        name="compareRenditions",
        summary="Any two renditions side by side on the media timeline.",
        answer=RenditionsCompared,
        make=v1.comparison,
        parameters=(
            Parameter(name="a", meaning="STREAM/RENDITION.", is_required=True),
            Parameter(name="b", meaning="STREAM/RENDITION.", is_required=True),
            Parameter(name="scorer", meaning="name@version; the first by name when not given."),
            Parameter(
                name="align", meaning="How the timelines are laid together.", kind="choice", choices=tuple(ALIGNMENTS)
            ),
            Parameter(
                name="last", meaning="The newest of it; `recent` when not given.", kind="choice", choices=tuple(RANGES)
            ),
            _SINCE,
            _UNTIL,
        ),
    ),
)
"""All of them; the newest version of a question is added, an old one never changes."""


def routes() -> list[Route]:
    """The addresses, the description of them included."""
    found = [Route(PREFIX + it.path.replace("{name}", "{name:path}"), in_thread(it.respond)) for it in OPERATIONS]
    return [*found, Route(f"{PREFIX}/openapi.json", in_thread(_described))]


def _described(site: Site, request: Request) -> Response:
    return JSONResponse(description())


def description() -> dict[str, Any]:
    """The whole document as plain data."""
    schemas: dict[str, Any] = {}
    problem = {"application/json": {"schema": _schema(Problem, schemas)}}
    paths = {PREFIX + it.path: {"get": _operation(it, schemas, problem)} for it in OPERATIONS}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vqmon",
            "version": "1",
            "description": "What the pages show, for programs. Only reads; moments are UTC, scores are 0 to 100.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _operation(it: Operation, schemas: dict[str, Any], problem: dict[str, Any]) -> dict[str, Any]:
    refused = {"400": "A parameter is wrong.", "404": "It is not there.", "503": "The history cannot be read."}
    return {
        "operationId": it.name,
        "summary": it.summary,
        "parameters": [_parameter(one) for one in it.parameters],
        "responses": {
            "200": {
                "description": "The answer.",
                "content": {"application/json": {"schema": _schema(it.answer, schemas)}},
            },
            **{code: {"description": text, "content": problem} for code, text in refused.items()},
        },
    }


def _parameter(it: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if it.kind == "count":
        schema = {"type": "integer", "minimum": it.least, "maximum": it.most, "default": it.default}
    elif it.kind == "moment":
        schema["format"] = "date-time"
    elif it.kind == "choice":
        schema["enum"] = list(it.choices)
    place = "path" if it.is_path else "query"
    return {"name": it.name, "in": place, "required": it.is_required, "description": it.meaning, "schema": schema}


def _schema(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    found = TypeAdapter(kind).json_schema(ref_template=_REF, mode="serialization")
    for name, schema in found.pop("$defs", {}).items():
        assert schemas.setdefault(name, schema) == schema, f"two shapes are called {name}"
    name = found.get("title", "")
    if not isinstance(kind, type) or name != kind.__name__:
        # A part of a list, or one of several shapes: it stands where it is used.
        return found
    assert schemas.setdefault(name, found) == found, f"two shapes are called {name}"
    return {"$ref": _REF.format(model=name)}


def document() -> str:
    """The text of config/openapi.yaml. It is written as JSON, which is YAML too."""
    return json.dumps(description(), indent=1) + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) / "openapi.yaml").write_text(document(), encoding="utf-8")
