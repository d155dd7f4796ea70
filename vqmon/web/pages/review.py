"""Blind review: voters see two pictures or clips without names, in an order and on sides shuffled per voter."""

import hmac
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import PairExample, Vote
from vqmon.core.experiments.results import ArmResult
from vqmon.plurals import plural
from vqmon.web.pages.forms import read_form
from vqmon.web.pages.frame_pairs import frame_pictures, jpeg_response
from vqmon.web.ports import ExperimentResult
from vqmon.web.serving.access import user_of_request
from vqmon.web.site import Site, site_of_request
from vqmon.web.urls import experiment_path, parse_count, unquote_stream_id, with_query

VOTER_COOKIE = "vqmon_voter"
_COOKIE_AGE_SECONDS = 31_536_000
_CHOICES = ("left", "tie", "right")
_RANGE_PATTERN = re.compile(r"bytes=([0-9]{1,15})-([0-9]{0,15})")
"""One range of bytes (RFC 9110 14.1.2) but for suffixes; browsers ask for no other ones."""

_VOTER_ID_PATTERN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReviewSession:
    """The pairs of one arm in the order in which one voter sees them, and this voter's votes by pair id."""

    experiment: str
    arm_result: ArmResult
    voter: str
    pairs: Sequence[PairExample]
    votes: dict[str, Vote]

    @property
    def path(self) -> str:
        return experiment_path(self.experiment, self.arm_result.arm, "review")

    @property
    def next_number(self) -> int | None:
        """Index of the first pair without a vote; None when all have one."""
        return next((number for number, pair in enumerate(self.pairs) if pair.id not in self.votes), None)

    def left_and_right(self, pair: PairExample) -> tuple[str, str]:
        """The arms that are shown left and right to this voter."""
        arms = (self.arm_result.control, self.arm_result.arm)
        return arms if _digest(self.voter, pair.id, "side")[0] % 2 else arms[::-1]

    def event_id(self, pair: PairExample, side: str) -> str:
        """The segment that is shown on a side."""
        left, right = self.left_and_right(pair)
        arm = left if side == "left" else right
        return pair.control_event_id if arm == self.arm_result.control else pair.arm_event_id


@dataclass(frozen=True, slots=True, kw_only=True)
class _NoReview:
    """Why a link leads to no pairs, in one sentence, and what can be done about it."""

    title: str
    # sentences; text between backticks is code
    remedies: Sequence[str]
    experiment: str
    # (label, URL) of what there is instead
    links: Sequence[tuple[str, str]] = ()
    # whether the page shall ask again by itself
    is_pending: bool = False


# ---- endpoints


def review_page(site: Site, request: Request) -> Response:
    """Answer `/experiments/{name}/{arm}/review`; a link that leads to no pairs says why."""
    voter = _voter_id(site, request) or _new_voter_id()
    may_vote = _may_vote(site, request)
    session = _review_session(site, request, voter)
    if isinstance(session, _NoReview):
        return site.render_page("no_review.html", request, review=session)
    number = _requested_pair_number(request.query_params.get("pair"), session)
    pair = session.pairs[number] if number is not None and may_vote else None
    response = site.render_page(
        "review.html",
        request,
        session=session,
        allows_votes=site.allows_votes,
        may_vote=may_vote,
        number=number,
        pair=pair,
        left_url=f"{session.path}/{number}/left",
        right_url=f"{session.path}/{number}/right",
        has_clips=pair is not None and _has_clips(site, pair),
        back_url=with_query(session.path, pair=number - 1) if number else None,
        token=_sign_token(site.reviews.secret(), voter, session.experiment, pair.id) if pair else "",
        vote_count=len(session.votes),
        choice_counts=_choice_counts(session),
        left_out=len(session.arm_result.pairs_with_role("review")) - len(session.pairs),
        previous_choice=_previous_choice(session, pair),
        experiment_url=with_query(experiment_path(session.experiment), arm=session.arm_result.arm),
    )
    needs_cookie = may_vote and user_of_request(request) is None
    return _set_voter_cookie(response, request, voter, root_path=site.root_path) if needs_cookie else response


async def submit_vote(request: Request) -> Response:
    """Store a posted vote and redirect to the next pair; a repeated vote is stored once."""
    site = site_of_request(request)
    form = await read_form(request)
    return await site.run_in_thread(_record_vote, site, request, form)


def review_picture(site: Site, request: Request) -> Response:
    """Answer `/experiments/{name}/{arm}/review/{number}/{side}.jpg`; the URL does not reveal the arm."""
    session, pair, side = _requested_side(site, request)
    pictures = [jpeg for _, jpeg in frame_pictures(site, session.event_id(pair, side))]
    other_side = frame_pictures(site, session.event_id(pair, "right" if side == "left" else "left"))
    # A hash of the pair chooses the frame, so that nobody can pick a flattering one.
    count = min(len(pictures), len(other_side))
    frame = _digest(pair.id, "moment")[0] % count if count else 0
    return jpeg_response(pictures, frame, cache_control="no-store")


def review_clip(site: Site, request: Request) -> Response:
    """Answer `/experiments/{name}/{arm}/review/{number}/{side}.mp4`, or the range of it that is asked for."""
    session, pair, side = _requested_side(site, request)
    clip = site.reviews.clip(session.event_id(pair, side))
    if clip is None:
        raise HTTPException(404, "This clip is no longer stored.")
    headers = {"Accept-Ranges": "bytes", "Cache-Control": "no-store"}
    asked = _RANGE_PATTERN.fullmatch(request.headers.get("range", ""))
    if asked is None:
        return Response(clip, media_type="video/mp4", headers=headers)
    first, last = int(asked[1]), min(int(asked[2] or len(clip) - 1), len(clip) - 1)
    if first > last:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(clip)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(clip)}"
    return Response(clip[first : last + 1], 206, media_type="video/mp4", headers=headers)


def _requested_side(site: Site, request: Request) -> tuple[_ReviewSession, PairExample, str]:
    """The pair and the side that the path names; raises 404."""
    session = _review_session(site, request, _voter_id(site, request) or "")
    number, side = request.path_params["number"], request.path_params["side"]
    if isinstance(session, _NoReview):
        raise HTTPException(404, session.title)
    if side not in ("left", "right") or number >= len(session.pairs):
        raise HTTPException(404, "There is no such side of a pair.")
    return session, session.pairs[number], side


# ---- session


def _review_session(site: Site, request: Request, voter: str) -> _ReviewSession | _NoReview:
    """The pairs that have pictures, shuffled for this voter."""
    name = unquote_stream_id(request.path_params["name"]) or ""
    arm = unquote_stream_id(request.path_params["arm"]) or ""
    experiment = next((item for item in site.experiment_results.experiments() if item.name == name), None)
    if experiment is None:
        return _without_experiment(site, name)
    result = site.experiment_results.result(name)
    arm_result = result.comparison.result_of(arm) if result.comparison else None
    if arm_result is None:
        return _without_result(experiment, arm, result)
    review_pairs = arm_result.pairs_with_role("review")
    if not review_pairs:
        return _without_pairs(experiment, arm_result)
    stored = site.reviews.event_ids_with_pictures()
    pairs = [pair for pair in review_pairs if _has_pictures(site, pair, stored)]
    pair_ids = {pair.id for pair in pairs}
    votes = site.reviews.votes(experiment.name)
    return _ReviewSession(
        experiment=experiment.name,
        arm_result=arm_result,
        voter=voter,
        pairs=sorted(pairs, key=lambda pair: _digest(voter, pair.id, "order")),
        votes={vote.pair_id: vote for vote in votes if vote.voter == voter and vote.pair_id in pair_ids},
    )


def _without_experiment(site: Site, name: str) -> _NoReview:
    """No experiment has this name: it has ended, or the file that defines experiments cannot be read."""
    links = (("All experiments", "/experiments"),)
    if site.experiment_results.problem:
        remedies = (
            site.experiment_results.problem,
            "Correct the file of `experiments.path`, then open this link again.",
        )
        return _NoReview(title="The experiments cannot be read.", remedies=remedies, experiment=name, links=links)
    votes = len(site.reviews.votes(name))
    if votes:
        title = f"This experiment has ended. {plural(votes, 'vote')} on it {'is' if votes == 1 else 'are'} stored."
        remedies = (
            "It is no longer in the file of `experiments.path`, which decides what can be reviewed.",
            "To read its verdict or to go on voting, put it back into the file under the same name; votes count again.",
        )
    else:
        title = "There is no experiment of this name."
        remedies = (
            "It was removed from the file of `experiments.path`, or it was renamed after this link was shared.",
            "Ask whoever sent the link for the new name, or look for it among the experiments.",
        )
    return _NoReview(title=title, remedies=remedies, experiment=name, links=links)


def _without_result(experiment: Experiment, arm: str, result: ExperimentResult) -> _NoReview:
    """The experiment has no answer about the arm: not yet, or because it is none of its arms."""
    links: tuple[tuple[str, str], ...] = (("The experiment", experiment_path(experiment.name)),)
    remedies: tuple[str, ...]
    if arm not in (treatment.name for treatment in experiment.treatments):
        treatments = [treatment.name for treatment in experiment.treatments]
        links += tuple((f"Review {name}", experiment_path(experiment.name, name, "review")) for name in treatments)
        what = "is the control, with which others are compared" if arm == experiment.control else "is no arm of it"
        remedies = (f"`{arm}` {what}.", "Choose an arm that is compared with the control.")
        return _NoReview(
            title="There is nothing to review at this address.",
            remedies=remedies,
            experiment=experiment.name,
            links=links,
        )
    if result.comparison is None and not result.problem:
        remedies = ("All outcomes of the history are read once. The first pair appears here as soon as that is done.",)
        title = "The pairs are being chosen."
        return _NoReview(title=title, remedies=remedies, experiment=experiment.name, links=links, is_pending=True)
    if result.problem:
        remedies = (result.problem, "Correct this, then open the link again; nothing is lost.")
        return _NoReview(title="There is no result.", remedies=remedies, experiment=experiment.name, links=links)
    remedies = (
        f"The history has no segment of `{arm}`, or none of `{experiment.control}`.",
        "Check the labels `arm` of the segments; `vqmon compare` says what it finds.",
    )
    return _NoReview(
        title="There is nothing to compare yet.", remedies=remedies, experiment=experiment.name, links=links
    )


def _without_pairs(experiment: Experiment, arm_result: ArmResult) -> _NoReview:
    """Both arms may have segments, but no two show the same source segment."""
    remedies = (
        f"No segment of `{arm_result.arm}` shows the same source, at the same time, as one of `{arm_result.control}`: "
        "not yet, never, or no longer, as the history deletes events after `history.keep_days`.",
        "The checks on the page of the experiment say what keeps segments from pairing.",
    )
    link = with_query(experiment_path(experiment.name), arm=arm_result.arm)
    return _NoReview(
        title="There are no pairs to review.",
        remedies=remedies,
        experiment=experiment.name,
        links=(("The experiment", link),),
    )


def _has_pictures(site: Site, pair: PairExample, stored: set[str]) -> bool:
    event_ids = (pair.control_event_id, pair.arm_event_id)
    return all(event_id in stored or site.history.thumbnails(event_id) for event_id in event_ids)


def _has_clips(site: Site, pair: PairExample) -> bool:
    """Whether both sides can be seen in motion: one alone would be no comparison."""
    return {pair.control_event_id, pair.arm_event_id} <= site.reviews.event_ids_with_clips()


def _requested_pair_number(text: str | None, session: _ReviewSession) -> int | None:
    number = parse_count(text)
    return number if number is not None and number < len(session.pairs) else session.next_number


def _previous_choice(session: _ReviewSession, pair: PairExample | None) -> str:
    """This voter's earlier choice for the pair: left, right or tie; empty if there is none."""
    if pair is None or pair.id not in session.votes:
        return ""
    choice = session.votes[pair.id].choice
    return "tie" if choice == "tie" else _CHOICES[2 * session.left_and_right(pair).index(choice)]


def _choice_counts(session: _ReviewSession) -> list[tuple[str, int]]:
    """How often the voter chose each arm; empty until the last pair has a vote, so as not to reveal the arms."""
    if session.next_number is not None:
        return []
    counts = Counter(vote.choice for vote in session.votes.values())
    arms = (session.arm_result.arm, session.arm_result.control)
    return [*((arm, counts[arm]) for arm in arms), ("no difference", counts["tie"])]


def _digest(*parts: str) -> bytes:
    return sha256("\n".join(parts).encode(errors="replace")).digest()


# ---- votes


def _record_vote(site: Site, request: Request, form: dict[str, str]) -> Response:
    if not site.allows_votes:
        raise HTTPException(403, "Voting is disabled; `web.allow_votes = true` enables it.")
    if not _may_vote(site, request):
        raise HTTPException(403, "You may not vote: none of your groups is in web.auth.voters or web.auth.operators.")
    voter = _voter_id(site, request)
    if voter is None:
        raise HTTPException(403, "The browser did not send the voter cookie; allow cookies for this site.")
    session = _review_session(site, request, voter)
    if isinstance(session, _NoReview):
        raise HTTPException(409, f"The vote was not stored. {session.title} Open the page again.")
    if form.get("choice") not in _CHOICES:
        raise HTTPException(400, "There is no such choice.")
    secret, token = site.reviews.secret(), form.get("token", "")
    # The token identifies the pair: a pair's id in the form would reveal which side is which arm.
    pair = next(
        (pair for pair in session.pairs if _is_valid_token(secret, token, voter, session.experiment, pair.id)), None
    )
    if pair is None:
        raise HTTPException(403, "This form is invalid or has expired; open the page again.")
    left, right = session.left_and_right(pair)
    choice = {"left": left, "right": right, "tie": "tie"}[form["choice"]]
    site.reviews.store_vote(session.experiment, Vote(pair_id=pair.id, choice=choice, voter=voter, at=site.now()))
    site.meters.count("vqmon.web.vote")
    return RedirectResponse(session.path, 303)


def _sign_token(secret: bytes, *parts: str) -> str:
    """A signature that a form carries to prove that this site made it, for this voter and this pair."""
    return hmac.new(secret, "\n".join(parts).encode(errors="replace"), sha256).hexdigest()


def _is_valid_token(secret: bytes, token: str, *parts: str) -> bool:
    return hmac.compare_digest(token.encode(errors="replace"), _sign_token(secret, *parts).encode())


# ---- voters


def _may_vote(site: Site, request: Request) -> bool:
    user = user_of_request(request)
    return site.allows_votes and (user is None or user.has_role("voter"))


def _voter_id(site: Site, request: Request) -> str | None:
    """The id of who is signed in, else the random one in this browser's cookie; None when it has none yet.

    A user has one id in all browsers; without the secret of the votes it does not tell who that is.
    """
    user = user_of_request(request)
    if user is not None:
        return _sign_token(site.reviews.secret(), "user", user.name)[:32] if site.allows_votes else None
    voter = request.cookies.get(VOTER_COOKIE, "")
    return voter if _VOTER_ID_PATTERN.fullmatch(voter) else None


def _new_voter_id() -> str:
    return secrets.token_hex(16)


def _set_voter_cookie(response: Response, request: Request, voter: str, *, root_path: str) -> Response:
    """Store the voter id in the browser: invisible to scripts, and not sent with requests from other sites."""
    response.set_cookie(
        VOTER_COOKIE,
        voter,
        max_age=_COOKIE_AGE_SECONDS,
        path=f"{root_path}/experiments",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response
