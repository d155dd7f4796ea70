"""Blind review: shuffled pairs, hidden arms, one vote per voter and pair."""

import re
from collections import Counter
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from tests.web import experiment_results, seed
from tests.web.stored_history import StoredHistory
from vqmon.core.experiments.human_review import Vote
from vqmon.transport.reviews import Reviews
from vqmon.web.app import create_app
from vqmon.web.pages.review import VOTER_COOKIE
from vqmon.web.serving.access import SignIn
from vqmon.web.serving.proxies import TrustedProxies
from vqmon.web.urls import experiment_path

NAME = experiment_results.EXPERIMENT.name
PAGE = experiment_path(NAME, "sr-v2", "review")


async def page_and_token(client: httpx.AsyncClient, path: str = PAGE) -> tuple[str, str]:
    """The page and the token of its form."""
    page = (await client.get(path)).text
    token = re.search(r'name="token" value="(\w+)"', page)
    return page, token[1] if token else ""


async def submit_vote(client: httpx.AsyncClient, choice: str, token: str, **headers: str) -> httpx.Response:
    return await client.post(PAGE, data={"choice": choice, "token": token}, headers=headers)


def pair_ids(history: StoredHistory) -> list[str]:
    return [pair.id for pair in experiment_results.comparison(history.seeded).answers[0].pairs_with_role("review")]


def voting_app(history: StoredHistory, reviews: Reviews, **options: Any) -> Starlette:
    """The pages of an experiment, with votes and these options."""
    results = experiment_results.FixedResults(experiment_results.comparison(history.seeded))
    return create_app(
        history.store.queries,
        now=lambda: seed.NOW,
        experiment_results=results,
        reviews=reviews,
        allows_votes=True,
        **options,
    )


async def test_each_pair_is_shown_once_and_the_end_reveals_the_arms(
    client: httpx.AsyncClient, reviews: Reviews, history: StoredHistory
) -> None:
    """Votes are kept, the count goes up, and only the end tells the arms."""
    ids = pair_ids(history)
    for done in range(len(ids)):
        page, token = await page_and_token(client)
        assert f"{done} of {len(ids)}" in page
        main = page[page.index("<h1>") :]
        assert not any(word in main for word in ("sr-v1", "sr-v2-", "480p", "1080p", *ids[0].split(":")))
        assert (await submit_vote(client, "left", token)).status_code == 303
    page, token = await page_and_token(client)
    votes = reviews.votes(NAME)
    assert {vote.pair_id for vote in votes} == set(ids)
    assert {vote.choice for vote in votes} <= {"sr-v1", "sr-v2"}
    counts = Counter(vote.choice for vote in votes)
    assert f"sr-v2 {counts['sr-v2']} times, sr-v1 {counts['sr-v1']} times, no difference 0 times" in page
    assert token == ""


async def test_a_vote_is_idempotent_and_can_be_changed(client: httpx.AsyncClient, reviews: Reviews) -> None:
    """The same again changes nothing; another choice takes the place of the first."""
    _, token = await page_and_token(client)
    for choice in ("tie", "tie"):
        await submit_vote(client, choice, token)
    assert [vote.choice for vote in reviews.votes(NAME)] == ["tie"]
    await submit_vote(client, "right", token)
    (vote,) = reviews.votes(NAME)
    assert vote.choice in ("sr-v1", "sr-v2")
    page, _ = await page_and_token(client, f"{PAGE}?pair=0")
    assert "You chose “right” before" in page


def store_pictures(reviews: Reviews, history: StoredHistory) -> None:
    """Store pictures that contain their event id."""
    for pair_id in pair_ids(history):
        for event_id in pair_id.split(":"):
            reviews.replace_pictures(NAME, event_id, [(0.0, b"\xff\xd8\xff" + event_id.encode())])


async def test_sides_and_order_differ_between_voters(
    client: httpx.AsyncClient, reviews: Reviews, history: StoredHistory
) -> None:
    """The pictures stand where the voter's name and the pair put them: not the same for all."""
    store_pictures(reviews, history)
    seen = set()
    for voter in range(8):
        client.cookies = httpx.Cookies({VOTER_COOKIE: f"{voter:032x}"})
        await client.get(PAGE)
        left = (await client.get(f"{PAGE}/0/left.jpg")).content
        right = (await client.get(f"{PAGE}/0/right.jpg")).content
        assert left != right
        assert left == (await client.get(f"{PAGE}/0/left.jpg")).content
        seen.add(left)
    assert len(seen) > 2


async def test_a_vote_counts_for_the_arm_on_that_side(
    client: httpx.AsyncClient, reviews: Reviews, history: StoredHistory
) -> None:
    """Left means the arm whose picture was on the left."""
    store_pictures(reviews, history)
    pairs_by_id = {
        example.id: example
        for example in experiment_results.comparison(history.seeded).answers[0].pairs_with_role("review")
    }
    before: set[str] = set()
    for _ in pairs_by_id:
        page, token = await page_and_token(client)
        number = re.search(r"review/(\d+)/left.jpg", page)
        assert number
        left = (await client.get(f"{PAGE}/{number[1]}/left.jpg")).content[3:].decode()
        await submit_vote(client, "left", token)
        (vote,) = [stored_vote for stored_vote in reviews.votes(NAME) if stored_vote.pair_id not in before]
        before.add(vote.pair_id)
        pair = pairs_by_id[vote.pair_id]
        assert left == (pair.arm_event_id if vote.choice == "sr-v2" else pair.control_event_id)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 303),
    ],
)
async def test_another_site_cannot_vote(
    client: httpx.AsyncClient, reviews: Reviews, headers: dict[str, str], status: int
) -> None:
    """The browser reports where a form was sent from."""
    _, token = await page_and_token(client)
    assert (await submit_vote(client, "left", token, **headers)).status_code == status
    assert len(reviews.votes(NAME)) == (status == 303)


async def test_a_vote_without_its_token_or_cookie_is_refused(client: httpx.AsyncClient, reviews: Reviews) -> None:
    """A token is for one voter; neither is guessed, and long or strange bodies are not read."""
    _, token = await page_and_token(client)
    assert (await submit_vote(client, "left", "0" * 64)).status_code == 403
    assert (await submit_vote(client, "both", token)).status_code == 400
    assert (await submit_vote(client, "x" * 5000, token)).status_code == 413
    assert (await client.post(PAGE, json={"choice": "left", "token": token})).status_code == 415
    client.cookies = httpx.Cookies({VOTER_COOKIE: "1" * 32})
    assert (await submit_vote(client, "left", token)).status_code == 403
    client.cookies = httpx.Cookies()
    assert (await submit_vote(client, "left", token)).status_code == 403
    assert reviews.votes(NAME) == []


async def test_the_voter_cookie_stays_on_this_site(client: httpx.AsyncClient) -> None:
    """Scripts cannot read it, and other sites and other pages do not receive it."""
    cookie = (await client.get(PAGE)).headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/experiments"):
        assert part in cookie
    assert "set-cookie" not in (await client.get("/experiments")).headers


async def test_voting_is_disabled_unless_allowed(history: StoredHistory, reviews: Reviews) -> None:
    """The page says how to enable voting, sets no cookie, and accepts no vote."""
    results = experiment_results.FixedResults(experiment_results.comparison(history.seeded))
    app = create_app(history.store.queries, now=lambda: seed.NOW, experiment_results=results, reviews=reviews)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        page = await client.get(PAGE)
        assert "web.allow_votes = true" in page.text
        assert "set-cookie" not in page.headers
        client.cookies = httpx.Cookies({VOTER_COOKIE: "1" * 32})
        assert (await submit_vote(client, "left", "x")).status_code == 403
    assert not reviews.path.exists()


async def test_who_is_signed_in_has_one_vote_in_all_browsers(history: StoredHistory, reviews: Reviews) -> None:
    """No cookie is needed, the stored id does not tell the name, and a viewer may not vote."""
    app = voting_app(
        history,
        reviews,
        proxies=TrustedProxies(["127.0.0.1"]),
        sign_in=SignIn(user_header="X-User", voters=("user:grace",)),
    )
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 4000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        client.headers["X-User"] = "ada"
        assert "You may not vote." in (await client.get(PAGE)).text
        assert (await submit_vote(client, "left", "x", Origin="http://localhost")).status_code == 403
        client.headers["X-User"] = "grace"
        reply = await client.get(f"{PAGE}?pair=0")
        assert "set-cookie" not in reply.headers
        token = re.search(r'name="token" value="(\w+)"', reply.text)
        assert token
        for choice in ("left", "right"):
            client.cookies.clear()
            assert (await submit_vote(client, choice, token[1], Origin="http://localhost")).status_code == 303
    (vote,) = reviews.votes(NAME)
    assert "grace" not in vote.voter


async def test_votes_work_below_a_path(history: StoredHistory, reviews: Reviews) -> None:
    """The form, the cookie and the redirect have the path."""
    app = voting_app(
        history,
        reviews,
        root_path="/tv",
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        reply = await client.get(f"/tv{PAGE}")
        assert "Path=/tv/experiments" in reply.headers["set-cookie"]
        form = re.search(r'action="([^"]+)"[^$]*name="token" value="(\w+)"', reply.text)
        assert form
        voted = await client.post(form[1], data={"choice": "left", "token": form[2]})
    assert (voted.status_code, voted.headers["location"]) == (303, f"/tv{PAGE}")
    assert len(reviews.votes(NAME)) == 1


async def test_pairs_without_pictures_are_left_out(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """Pairs without pictures are not shown for a vote."""
    number = len(pair_ids(history))
    history.store.maintenance.prune(before=seed.NOW.replace(year=2000), keep_frames_of_segments=0)
    assert "There are no pictures to review." in (await client.get(PAGE)).text
    assert number > 3


async def test_clips_are_sent_by_range(client: httpx.AsyncClient, reviews: Reviews, history: StoredHistory) -> None:
    """Both sides must have one; browsers ask for parts of it, and the address does not tell the arm."""
    control, arm = pair_ids(history)[0].split(":")
    reviews.replace_clip(NAME, control, b"0123456789")
    assert ".mp4" not in "".join([(await client.get(f"{PAGE}?pair={number}")).text for number in range(4)])
    reviews.replace_clip(NAME, arm, b"abcdefghij")
    for number in range(len(pair_ids(history))):
        page = (await client.get(f"{PAGE}?pair={number}")).text
        if "left.mp4" in page:
            break
    sides = [(await client.get(f"{PAGE}/{number}/{side}.mp4")).content for side in ("left", "right")]
    assert sorted(sides) == [b"0123456789", b"abcdefghij"]
    for asked, status, content in (
        ("bytes=2-4", 206, sides[0][2:5]),
        ("bytes=7-", 206, sides[0][7:]),
        ("bytes=99-", 416, b""),
    ):
        reply = await client.get(f"{PAGE}/{number}/left.mp4", headers={"Range": asked})
        assert (reply.status_code, reply.content) == (status, content)
    assert (await client.get(f"{PAGE}/{number + 1}/left.mp4")).status_code == 404


COLD_LINKS: list[tuple[str, dict[str, Any], str]] = [
    ("/experiments/gone/sr-v2/review", {}, "There is no experiment of this name."),
    ("/experiments/ended/sr-v2/review", {}, "This experiment has ended. 1 vote on it is stored."),
    ("/experiments/gone/sr-v2/review", {"problem": "x.toml: line 3: no `=`"}, "x.toml: line 3: no <code>=</code>"),
    (PAGE, {"is_running": True}, "The pairs are being chosen."),
    (experiment_path(NAME, "sr-v1", "review"), {}, "is the control"),
    (experiment_path(NAME, "sr-v9", "review"), {}, "is no arm of it"),
    (experiment_path(NAME, "sr-v2-fast", "review"), {}, "There are no pairs to review."),
]


async def test_a_link_that_leads_to_no_pairs_says_why(history: StoredHistory, reviews: Reviews) -> None:
    """Opened in another browser, after the end of the experiment or before its result: never `not found`."""
    reviews.store_vote("ended", Vote(pair_id="x", choice="tie", voter="1" * 32, at=seed.NOW))
    comparison = experiment_results.comparison(history.seeded)
    for path, state, text in COLD_LINKS:
        results = experiment_results.FixedResults(comparison, **state)
        app = create_app(
            history.store.queries, now=lambda: seed.NOW, experiment_results=results, reviews=reviews, allows_votes=True
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            reply = await client.get(path)
            assert (reply.status_code, text in reply.text) == (200, True), reply.text
            client.cookies = httpx.Cookies({VOTER_COOKIE: "1" * 32})
            vote = await client.post(path, data={"choice": "left", "token": "x"})
            assert (vote.status_code, "The vote was not stored." in vote.text) == (409, True)
