"""The blind look: two pictures without names, left and right shuffled per voter and pair; which looks better?"""

import hmac
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from vqmon.core.experiments.human_review import PairExample, Vote
from vqmon.core.experiments.results import ArmResult
from vqmon.web.addresses import count_of, experiment_path, unquote_stream, with_query
from vqmon.web.pages.experiments import experiment_asked
from vqmon.web.pages.frame_pairs import jpeg_of, pictures_of
from vqmon.web.site import Site, site_of

COOKIE = "vqmon_voter"
MAX_FORM_BYTES = 4096
YEAR_SECONDS = 31_536_000

_VOTER = re.compile(r"[0-9a-f]{32}")


def voter_of(request: Request) -> str | None:
    """The random name that this browser got; None when it has none yet."""
    name = request.cookies.get(COOKIE, "")
    return name if _VOTER.fullmatch(name) else None


def new_voter() -> str:
    return secrets.token_hex(16)


def remember(response: Response, request: Request, voter: str) -> Response:
    """Give the browser its name: unseen by scripts, and never sent along from other sites."""
    response.set_cookie(
        COOKIE,
        voter,
        max_age=YEAR_SECONDS,
        path="/experiments",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


def token_of(secret: bytes, *parts: str) -> str:
    """What a form carries to show that it came from a page of ours, for this voter and pair."""
    return hmac.new(secret, "\n".join(parts).encode(errors="replace"), sha256).hexdigest()


def is_token(secret: bytes, given: str, *parts: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), token_of(secret, *parts).encode())


def check_same_origin(request: Request) -> None:
    """Raise 403 when the browser says that another site made it ask."""
    told = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    host = request.headers.get("host", "")
    if told not in (None, "same-origin") or (origin is not None and urlsplit(origin).netloc != host):
        raise HTTPException(403, "A vote counts only when it is given on the page of the blind look itself.")


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a small form; raises 413 or 415."""
    kind = request.headers.get("content-type", "").split(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "A vote is sent as a form.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise HTTPException(413, "A vote is not that long.")
    return {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}


CHOICES = ("left", "tie", "right")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The pairs of one arm in the order in which one voter sees them."""

    experiment: str
    told: ArmResult
    voter: str
    pairs: Sequence[PairExample]
    votes: dict[str, Vote]

    @property
    def next_number(self) -> int | None:
        """The first pair without a vote; None at the end."""
        return next((number for number, it in enumerate(self.pairs) if it.id not in self.votes), None)

    def sides(self, it: PairExample) -> tuple[str, str]:
        """The arms that are shown left and right."""
        arms = (self.told.control, self.told.arm)
        return arms if _digest(self.voter, it.id, "side")[0] % 2 else arms[::-1]

    def event_id(self, it: PairExample, side: str) -> str:
        left, right = self.sides(it)
        arm = left if side == "left" else right
        return it.control_event_id if arm == self.told.control else it.arm_event_id


def review(site: Site, request: Request) -> Response:
    """Answer `/experiments/{name}/{arm}/review`."""
    voter = voter_of(request) or new_voter()
    it = _table(site, request, voter)
    page = review_path(it)
    number = _number(request.query_params.get("pair"), it)
    pair = it.pairs[number] if number is not None and site.allows_votes else None
    answer = site.page(
        "review.html",
        request,
        it=it,
        allows_votes=site.allows_votes,
        number=number,
        pair=pair,
        left_url=f"{page}/{number}/left.jpg",
        right_url=f"{page}/{number}/right.jpg",
        back_url=with_query(page, pair=number - 1) if number else None,
        action=page,
        token=token_of(site.reviews.secret(), voter, it.experiment, pair.id) if pair else "",
        done=len(it.votes),
        tally=_tally(it),
        left_out=len(it.told.pairs_with_role("review")) - len(it.pairs),
        chosen=_chosen(it, pair),
        experiment_url=with_query(experiment_path(it.experiment), arm=it.told.arm),
    )
    return remember(answer, request, voter) if site.allows_votes else answer


async def vote(request: Request) -> Response:
    """Answer a vote, then go on with the next pair; the same vote twice is one vote."""
    site = site_of(request)
    check_same_origin(request)
    form = await form_of(request)
    return await site.ask(_cast, site, request, form)


def review_picture(site: Site, request: Request) -> Response:
    """Answer `/experiments/{name}/{arm}/review/{number}/{side}.jpg`: its address says nothing of the arm."""
    it = _table(site, request, voter_of(request) or "")
    number, side = request.path_params["number"], request.path_params["side"]
    if side not in ("left", "right") or number >= len(it.pairs):
        raise HTTPException(404, "There is no such picture.")
    pair = it.pairs[number]
    pictures = [jpeg for _, jpeg in pictures_of(site, it.event_id(pair, side))]
    others = pictures_of(site, it.event_id(pair, "right" if side == "left" else "left"))
    # The moment is chosen by the pair, so that nobody picks telling ones.
    count = min(len(pictures), len(others))
    return jpeg_of(pictures, _digest(pair.id, "moment")[0] % count if count else 0, cache="no-store")


def review_path(it: Table) -> str:
    return experiment_path(it.experiment, it.told.arm, "review")


def _cast(site: Site, request: Request, form: dict[str, str]) -> Response:
    if not site.allows_votes:
        raise HTTPException(403, "Votes are switched off here; `web.allow_votes = true` switches them on.")
    voter = voter_of(request)
    if voter is None:
        raise HTTPException(403, "The browser did not send the name it got; allow cookies for this site.")
    it = _table(site, request, voter)
    if form.get("choice") not in CHOICES:
        raise HTTPException(400, "There is no such choice.")
    secret, token = site.reviews.secret(), form.get("token", "")
    # The token names the pair, too: an id of ours would tell which side is which.
    pair = next((one for one in it.pairs if is_token(secret, token, voter, it.experiment, one.id)), None)
    if pair is None:
        raise HTTPException(403, "This form is not from here, or too old; open the page again.")
    left, right = it.sides(pair)
    choice = {"left": left, "right": right, "tie": "tie"}[form["choice"]]
    site.reviews.cast(it.experiment, Vote(pair_id=pair.id, choice=choice, voter=voter, at=site.now()))
    return RedirectResponse(review_path(it), 303)


def _table(site: Site, request: Request, voter: str) -> Table:
    """The pairs that have pictures, shuffled for this voter; raises 404."""
    experiment = experiment_asked(site, request)
    comparison = site.answers.answer(experiment.name).comparison
    told = comparison.result_of(unquote_stream(request.path_params["arm"]) or "") if comparison else None
    if told is None:
        raise HTTPException(404, "There is no answer about that arm yet; the page of the experiment says more.")
    kept = site.reviews.pictured()
    pairs = [it for it in told.pairs_with_role("review") if _has_pictures(site, it, kept)]
    ids = {it.id for it in pairs}
    votes = {it.pair_id: it for it in site.reviews.votes(experiment.name) if it.voter == voter and it.pair_id in ids}
    return Table(
        experiment=experiment.name,
        told=told,
        voter=voter,
        pairs=sorted(pairs, key=lambda it: _digest(voter, it.id, "order")),
        votes=votes,
    )


def _has_pictures(site: Site, it: PairExample, kept: set[str]) -> bool:
    return all(id in kept or site.history.thumbnails(id) for id in (it.control_event_id, it.arm_event_id))


def _number(text: str | None, it: Table) -> int | None:
    number = count_of(text)
    return number if number is not None and number < len(it.pairs) else it.next_number


def _chosen(it: Table, pair: PairExample | None) -> str:
    """What this voter said of the pair before, as left, right or tie."""
    if pair is None or pair.id not in it.votes:
        return ""
    choice = it.votes[pair.id].choice
    return "tie" if choice == "tie" else CHOICES[2 * it.sides(pair).index(choice)]


def _tally(it: Table) -> list[tuple[str, int]]:
    """What the voter chose, told at the end only."""
    if it.next_number is not None:
        return []
    counts = Counter(vote.choice for vote in it.votes.values())
    return [*((arm, counts[arm]) for arm in (it.told.arm, it.told.control)), ("no difference", counts["tie"])]


def _digest(*parts: str) -> bytes:
    return sha256("\n".join(parts).encode(errors="replace")).digest()
