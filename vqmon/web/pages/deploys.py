"""The form by which an operator announces a deployment to a stream."""

import glob

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from vqmon.core.alerts.annotations import DeployMarker, deploy_marker_id
from vqmon.errors import VqmonError
from vqmon.web.pages.forms import read_form
from vqmon.web.serving.access import user_of_request
from vqmon.web.site import Site, site_of_request
from vqmon.web.urls import stream_path

_MAX_NAME_LENGTH = 100


def may_announce(site: Site, request: Request) -> bool:
    """Whether this request is from an operator, on a site that takes deployments; without sign-in nobody is one."""
    user = user_of_request(request)
    return site.announce is not None and user is not None and user.has_role("operator")


async def announce_deployment(request: Request) -> Response:
    """Answer a posted `/deployments`: announce it, from now on, and show the stream."""
    site = site_of_request(request)
    return await site.run_in_thread(_announce, site, request, await read_form(request))


def _announce(site: Site, request: Request, form: dict[str, str]) -> Response:
    if site.announce is None or not may_announce(site, request):
        raise HTTPException(403, "Only operators announce deployments; `web.auth.operators` names their groups.")
    name, stream_id, rendition = form.get("name", "").strip(), form.get("stream", ""), form.get("rendition", "")
    renditions = [state.rendition for state in site.history.renditions(stream_id=stream_id, trend=0)]
    if not renditions or (rendition and rendition not in renditions):
        raise HTTPException(404, "The history has no such stream or rendition.")
    if not name or len(name) > _MAX_NAME_LENGTH or not name.isprintable():
        raise HTTPException(400, f"Give the change a name of at most {_MAX_NAME_LENGTH} characters.")
    stream_glob, rendition_glob = glob.escape(stream_id), glob.escape(rendition) or "*"
    at = site.now()
    try:
        site.announce(
            DeployMarker(
                id=deploy_marker_id(name, at, stream=stream_glob, rendition=rendition_glob),
                at=at,
                name=name,
                stream=stream_glob,
                rendition=rendition_glob,
            )
        )
    except VqmonError as error:
        raise HTTPException(503, f"The deployment was not announced: {error}") from error
    return RedirectResponse(stream_path(stream_id), 303)
