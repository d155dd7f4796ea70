"""All operations of the REST API, and their OpenAPI 3.1 description.

python -m vqmon.web.api.openapi config    writes config/openapi.yaml
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vqmon.core.alerts.reactions.input_switching import DecisionRecord
from vqmon.core.types import Alert, Outcome
from vqmon.web.api import v1
from vqmon.web.api.framework import AFTER_PARAMETER, LIMIT_PARAMETER, PREFIX, ErrorBody, Operation, Page, Parameter
from vqmon.web.api.v1 import (
    ExperimentAnswer,
    ExperimentItem,
    OutcomeItem,
    RenditionItem,
    RenditionsCompared,
    StreamItem,
)
from vqmon.web.model.explanations import STATE_DESCRIPTIONS
from vqmon.web.model.renditions import SORT_KEYS
from vqmon.web.model.time_range import PRESETS
from vqmon.web.pages.compare import ALIGNMENTS
from vqmon.web.site import Site, threaded_endpoint

_REFERENCE = "#/components/schemas/{model}"

_WORDS = Parameter(name="q", meaning="Words that must all occur in the stream, rendition, state or reason.")
_STATE = Parameter(name="state", meaning="Only in this state.", kind="choice", choices=tuple(STATE_DESCRIPTIONS))
_SINCE = Parameter(name="since", meaning="From this moment on, on the media timeline.", kind="moment")
_UNTIL = Parameter(name="until", meaning="Before this moment, on the media timeline.", kind="moment")
_STREAM = Parameter(name="stream", meaning="Only this stream.")

OPERATIONS = (
    Operation(
        path="/streams",
        name="listStreams",
        summary="All streams with the state of each rendition, ordered by name.",
        response_type=Page[StreamItem],
        compute=v1.list_streams,
        parameters=(_WORDS, _STATE, LIMIT_PARAMETER, AFTER_PARAMETER),
    ),
    Operation(
        path="/renditions",
        name="listRenditions",
        summary="The current state of all renditions.",
        response_type=Page[RenditionItem],
        compute=v1.list_renditions,
        parameters=(
            _WORDS,
            _STATE,
            Parameter(name="sort", meaning="Order; default: name.", kind="choice", choices=tuple(SORT_KEYS)),
            LIMIT_PARAMETER,
            AFTER_PARAMETER,
        ),
    ),
    Operation(
        path="/outcomes",
        name="listOutcomes",
        summary=(
            "Outcomes of a stream, newest first, of the last day unless `since` is given; "
            "with `since=NUMBER` those of all streams, oldest write first."
        ),
        response_type=Page[OutcomeItem],
        compute=v1.list_outcomes,
        parameters=(
            Parameter(name="stream", meaning="Only this stream; required unless `since` is a number."),
            Parameter(name="rendition", meaning="Only this rendition."),
            Parameter(
                name="label",
                meaning=(
                    "Only with this label, as KEY:VALUE. A page may then hold fewer outcomes than `limit`, or none: "
                    "go on while `next` is not null."
                ),
                kind="label",
            ),
            Parameter(
                name="since",
                meaning=(
                    "From this moment on, on the media timeline; or a number: "
                    "what was written after the outcome with that `number`, 0 for all."
                ),
                kind="position",
            ),
            _UNTIL,
            LIMIT_PARAMETER,
        ),
    ),
    Operation(
        path="/outcomes/{event_id}",
        name="getOutcome",
        summary="One outcome in full: scores, signals and provenance, or why the segment is unscored.",
        response_type=Outcome,
        compute=v1.get_outcome,
        parameters=(Parameter(name="event_id", meaning="Id of the event.", is_required=True, is_path=True),),
    ),
    Operation(
        path="/alerts",
        name="listAlerts",
        summary="Alerts, newest first.",
        response_type=Page[Alert],
        compute=v1.list_alerts,
        parameters=(
            _STREAM,
            Parameter(name="state", meaning="Only in this state.", kind="choice", choices=("open", "resolved")),
            Parameter(name="since", meaning="Open, or resolved after this moment.", kind="moment"),
            LIMIT_PARAMETER,
            AFTER_PARAMETER,
        ),
    ),
    Operation(
        path="/alerts/{alert_id}",
        name="getAlert",
        summary="One alert.",
        response_type=Alert,
        compute=v1.get_alert,
        parameters=(Parameter(name="alert_id", meaning="Id of the alert.", is_required=True, is_path=True),),
    ),
    Operation(
        path="/input-decisions",
        name="listInputDecisions",
        summary="Decisions about the inputs of streams, newest first, and what became of their delivery.",
        response_type=Page[DecisionRecord],
        compute=v1.list_input_decisions,
        parameters=(_STREAM, LIMIT_PARAMETER, AFTER_PARAMETER),
    ),
    Operation(
        path="/experiments",
        name="listExperiments",
        summary="All experiments with their verdicts.",
        response_type=Page[ExperimentItem],
        compute=v1.list_experiments,
        parameters=(LIMIT_PARAMETER, AFTER_PARAMETER),
    ),
    Operation(
        path="/experiments/{name}",
        name="getExperiment",
        summary="The whole result of an experiment, as `vqmon compare --json` prints it, and when it was computed.",
        response_type=ExperimentAnswer,
        compute=v1.get_experiment,
        parameters=(Parameter(name="name", meaning="Name of the experiment.", is_required=True, is_path=True),),
    ),
    Operation(
        path="/comparison",
        name="compareRenditions",
        summary="Any two renditions aligned by media time.",
        response_type=RenditionsCompared,
        compute=v1.get_comparison,
        parameters=(
            Parameter(name="a", meaning="STREAM/RENDITION.", is_required=True),
            Parameter(name="b", meaning="STREAM/RENDITION.", is_required=True),
            Parameter(name="scorer", meaning="name@version; default: the first in alphabetical order."),
            Parameter(
                name="align",
                meaning="How the timelines are aligned; default: timeline.",
                kind="choice",
                choices=tuple(ALIGNMENTS),
            ),
            Parameter(
                name="last",
                meaning="A range that ends now; default: recent.",
                kind="choice",
                choices=tuple(PRESETS),
            ),
            _SINCE,
            _UNTIL,
        ),
    ),
)
"""Operations are only added: a published one never changes."""


def api_routes() -> list[Route]:
    """The routes of all operations and of their description."""
    operations = [
        Route(PREFIX + operation.path.replace("{name}", "{name:path}"), threaded_endpoint(operation.respond))
        for operation in OPERATIONS
    ]
    return [*operations, Route(f"{PREFIX}/openapi.json", threaded_endpoint(_openapi_json))]


def openapi_document() -> str:
    """The text of config/openapi.yaml: JSON, which is also YAML."""
    return json.dumps(_openapi_description(), indent=1) + "\n"


def _openapi_json(site: Site, request: Request) -> Response:
    return JSONResponse({**_openapi_description(), "servers": [{"url": site.root_path or "/"}]})


def _openapi_description() -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    problem = {"application/json": {"schema": _schema(ErrorBody, schemas)}}
    paths = {
        PREFIX + operation.path: {"get": _operation_object(operation, schemas, problem)} for operation in OPERATIONS
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vqmon",
            "version": "1",
            "description": "The data of the pages, read-only. Times are UTC, scores are 0 to 100.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _operation_object(operation: Operation, schemas: dict[str, Any], problem: dict[str, Any]) -> dict[str, Any]:
    errors = {"400": "A parameter is invalid.", "404": "Not found.", "503": "The history cannot be read."}
    return {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [_parameter_object(parameter) for parameter in operation.parameters],
        "responses": {
            "200": {
                "description": "The result.",
                "content": {"application/json": {"schema": _schema(operation.response_type, schemas)}},
            },
            **{code: {"description": text, "content": problem} for code, text in errors.items()},
        },
    }


def _parameter_object(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if parameter.kind == "count":
        bounds = {"minimum": parameter.min, "maximum": parameter.max}
        schema = {"type": "integer", **bounds, "default": parameter.default}
    elif parameter.kind == "moment":
        schema["format"] = "date-time"
    elif parameter.kind == "position":
        schema = {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string", "format": "date-time"}]}
    elif parameter.kind == "choice":
        schema["enum"] = list(parameter.choices)
    return {
        "name": parameter.name,
        "in": "path" if parameter.is_path else "query",
        "required": parameter.is_required,
        "description": parameter.meaning,
        "schema": schema,
    }


def _schema(response_type: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type, as a reference if it is a class; classes are added to `schemas`."""
    schema = TypeAdapter(response_type).json_schema(ref_template=_REFERENCE, mode="serialization")
    for name, definition in schema.pop("$defs", {}).items():
        assert schemas.setdefault(name, definition) == definition, f"two schemas are called {name}"
    name = schema.get("title", "")
    if not isinstance(response_type, type) or name != response_type.__name__:
        # A page of a list, or a union: it is described where it is used.
        return schema
    assert schemas.setdefault(name, schema) == schema, f"two schemas are called {name}"
    return {"$ref": _REFERENCE.format(model=name)}


if __name__ == "__main__":
    (Path(sys.argv[1]) / "openapi.yaml").write_text(openapi_document(), encoding="utf-8")
