"""What changes something, clicked through to its end."""

import json
import re

from playwright.sync_api import expect

from support import DIRECTORY, Tab, api, eventually, payin, send, seq_of


def archived(event_id):
    """What the file sink has got of an event."""
    lines = (DIRECTORY / "archive.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["id"] == event_id]


def letters_of(event_id):
    return api(f"/dead-letters?event_id={event_id}")["dead_letters"]


def refused(event_id):
    """An event that the sink `ledger` has refused for good."""
    assert send(payin(event_id, f"order-of-{event_id}", ownReference="refuse-me")) == 200
    return eventually("a dead letter", lambda: letters_of(event_id))[0]["id"]


def done(task):
    """The newest job of this kind, once it has ended."""
    jobs = lambda: [job for job in api("/jobs")["jobs"] if job["task"] == task][:1]
    return eventually(f"the end of {task}", lambda: [job for job in jobs() if job["ended_at"]])[0]


def test_a_replay_until_the_sink_has_it(browser):
    seq = seq_of("evt-people")
    before = len(archived("evt-people"))
    with Tab(browser) as tab:
        page = tab.sign_in(f"#/events/{seq}").page
        tab.button("Replay…").click()
        page.get_by_label("To the sink").select_option("archive")
        tab.button("Plan").click()
        plan = page.get_by_role("region", name="What it would do")
        expect(plan).to_contain_text("It would deliver 1 event to archive")
        tab.button("Begin…").click()
        # Without a reason nothing happens.
        dialog = page.get_by_role("dialog")
        tab.button("Begin the replay", dialog).click()
        expect(dialog).to_be_visible()
        tab.confirm("Begin the replay", reason="the archive was restored")
        page.wait_for_url("**/#/replays/*")
        expect(page.locator("#main .heading")).to_contain_text("done")
        expect(page.locator("#main")).to_contain_text("1 delivered")
        expect(page.locator("#main")).to_contain_text("the archive was restored")
        expect(page.locator("#main")).to_contain_text("Ann Auditor")
    again = eventually("the event at the sink", lambda: archived("evt-people")[before:])
    assert again[0]["ralioreplay"], again


def test_pause_and_resume(browser):
    with Tab(browser) as tab:
        page = tab.sign_in("#/sinks").page
        card = page.get_by_role("region", name="Sink archive")
        tab.button("Pause", card).click()
        tab.confirm("Pause", reason="the disk is exchanged")
        expect(card.locator(".chip")).to_contain_text("paused")
        assert send(payin("evt-while-paused", "order-while-paused")) == 200
        seq_of("evt-while-paused")
        expect(card).to_contain_text("A person paused it")
        tab.go("#/")
        expect(page.locator("#main h1")).to_have_text("Events come in, but do not reach archive.")
        page.get_by_role("region", name="Sinks").get_by_role("row", name="archive").get_by_role("link", name="1", exact=True).first.click()
        page.wait_for_url("**/#/sinks?name=archive")
        expect(card).to_contain_text(f"Waiting longest: #{seq_of('evt-while-paused')} payin.completed")
        expect(card.get_by_role("row", name="payin.completed")).to_contain_text("1")
        tab.go("#/sinks")
        assert not archived("evt-while-paused")
        tab.button("Resume", card).click()
        tab.confirm("Resume")
        expect(card.locator(".chip")).to_contain_text("running")
        eventually("the event at the sink", lambda: archived("evt-while-paused"))
        tab.go("#/record")
        row = page.get_by_role("row").filter(has_text="the disk is exchanged")
        expect(row).to_contain_text("Ann Auditor")
        expect(row).to_contain_text("pause archive")


def test_dead_letters_are_retried_and_discarded(browser):
    kept, dropped = refused("evt-retry"), refused("evt-discard")
    with Tab(browser) as tab:
        page = tab.sign_in("#/dead-letters").page
        page.get_by_role("checkbox", name=f"Choose dead letter {kept}", exact=True).check()
        (DIRECTORY / "accept").touch()
        tab.button("Retry…").click()
        tab.confirm("Retry", reason="the ledger takes it now")
        eventually("the retried event at its sink", lambda: "evt-retry" in (DIRECTORY / "ledger.ids").read_text())
        expect(page.get_by_role("row", name="evt-retry")).to_have_count(0)
        expect(page.get_by_role("checkbox", name=f"Choose dead letter {kept}", exact=True)).to_have_count(0)
        (DIRECTORY / "accept").unlink()
        page.get_by_role("link", name=str(dropped), exact=True).click()
        expect(page.get_by_role("heading", name=f"Dead letter {dropped}")).to_be_visible()
        expect(page.locator("#main")).to_contain_text("no such account")
        tab.button("Discard…").click()
        dialog = page.get_by_role("dialog")
        tab.button("Discard", dialog).click()
        expect(dialog.get_by_label("Reason")).to_be_focused()
        tab.confirm("Discard", reason="booked by hand")
        assert done("discard")["reason"] == "booked by hand"
        eventually("no dead letter left of it", lambda: not letters_of("evt-discard"))
        tab.go(f"#/events/{seq_of('evt-discard')}")
        ledger = page.locator(".sink").filter(has=page.get_by_role("link", name="ledger", exact=True))
        expect(ledger).to_contain_text("discarded")
        expect(ledger).to_contain_text("booked by hand")
    assert not letters_of("evt-retry")


def parked_at_ledger():
    return [event["event_id"] for event in api("/parked?sink=ledger")["parked"]]


def test_parked_events_are_retried_and_discarded_and_a_sink_is_tried(browser):
    """Both put off by the ledger; the later of the same order has had no attempt."""
    for event_id in ("evt-later-1", "evt-later-2"):
        assert send(payin(event_id, "order-later", ownReference="try-later")) == 200
    eventually("both parked", lambda: parked_at_ledger() == ["evt-later-1", "evt-later-2"])
    first, second = seq_of("evt-later-1"), seq_of("evt-later-2")
    with Tab(browser) as tab:
        page = tab.sign_in("#/parked").page
        expect(page.locator("#main")).to_contain_text("Filter by a sink to retry or discard.")
        tab.go("#/sinks")
        card = page.get_by_role("region", name="Sink ledger")
        card.locator("a[href='#/parked?sink=ledger']").click()
        page.wait_for_url("**/#/parked?sink=ledger")
        expect(page.locator("tbody tr")).to_have_count(2)
        expect(page.get_by_role("row").filter(has_text=f"#{first} ")).to_contain_text("come back later")
        expect(page.get_by_role("row").filter(has_text=f"#{second} ")).to_contain_text("waits behind an earlier event of its key")
        page.get_by_role("checkbox", name=f"Choose parked event {second}", exact=True).check()
        tab.button("Discard…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Your name").fill("Ann Auditor")
        tab.button("Discard", dialog).click()
        expect(dialog.get_by_label("Reason")).to_be_focused()
        tab.confirm("Discard", reason="booked by hand")
        expect(page.locator("tbody tr")).to_have_count(1)
        assert done("discard_parked")["message"] == f"1 parked event is discarded: {second} (by number, sink 'ledger')"
        tab.button("Retry all now…").click()
        expect(page.get_by_role("dialog")).to_contain_text("all 1 parked event of ledger")
        tab.confirm("Retry", reason="it may take it now")
        assert done("retry_parked")["done"] == 1
        (DIRECTORY / "now").touch()
        tab.go("#/sinks")
        tab.button("Try now", card).click()
        tab.confirm("Try", reason="the ledger is back")
        assert done("try")["message"] == "sink 'ledger' is tried now"
        eventually("the event at its sink", lambda: "evt-later-1" in (DIRECTORY / "ledger.ids").read_text())
        (DIRECTORY / "now").unlink()
        tab.go(f"#/events/{second}")
        ledger = page.locator(".sink").filter(has=page.get_by_role("link", name="ledger", exact=True))
        expect(ledger).to_contain_text("booked by hand")
    eventually("nothing parked any more", lambda: not parked_at_ledger())
    assert "evt-later-2" not in (DIRECTORY / "ledger.ids").read_text()


def test_all_that_fit_a_filter_and_no_others(browser):
    one = refused("evt-fits")
    other = [letter["id"] for letter in api("/dead-letters")["dead_letters"] if letter["id"] != one]
    assert other
    with Tab(browser) as tab:
        page = tab.sign_in("#/dead-letters?key=order-of-evt-fits").page
        expect(page.locator("tbody tr")).to_have_count(1)
        tab.button("Discard all…").click()
        expect(page.get_by_role("dialog")).to_contain_text("all 1 dead letter")
        tab.confirm("Discard")
        eventually("no dead letter left of it", lambda: not letters_of("evt-fits"))
    left = {letter["id"] for letter in api("/dead-letters")["dead_letters"]}
    assert set(other) <= left, (other, left)


def test_all_that_fit_are_named_by_their_filters_where_there_are_more_than_on_view(browser):
    """Every filter in the words of the relay. None fits these, so that nothing is decided."""
    query = "sink=archive&type=payin.*&key=nobody&event_id=none&last_error=no+such+account&since=24h&until=1h"
    with Tab(browser) as tab:
        page = tab.sign_in().page
        letter = {"id": 1, "sink": "archive", "seq": 1, "event_id": "none", "type": "payin.completed", "attempts": 1,
                  "last_error": "no such account", "died_at": "2026-01-31T10:00:00.000000Z"}
        page.route("**/api/dead-letters?*", lambda route: route.fulfill(json={"dead_letters": [letter], "next": "1"}))
        tab.go(f"#/dead-letters?{query}")
        tab.button("Retry all…").click()
        with page.expect_request("**/api/dead-letters/retry") as asked:
            tab.confirm("Retry", reason="the account is there now")
    assert asked.value.post_data_json == {
        "all": True, "sink": "archive", "type": ["payin.*"], "key": "nobody", "event_id": "none", "last_error": "no such account",
        "since": "24h", "until": "1h", "who": "Ann Auditor", "reason": "the account is there now",
    }
    assert done("retry")["done"] == 0


def test_a_list_that_is_not_looked_through_yet_does_not_say_that_there_is_nothing(browser):
    with Tab(browser) as tab:
        page = tab.sign_in().page
        page.route("**/api/dead-letters?*", lambda route: route.fulfill(json={"dead_letters": [], "next": "1"}))
        tab.go("#/dead-letters?key=nobody")
        expect(page.locator("#main .empty")).to_contain_text("Nothing found so far.")
        page.unroute("**/api/dead-letters?*")
        tab.button("Show more").click()
        expect(page.locator("#main .empty")).to_contain_text("No dead letter fits these filters.")


def test_quarantine_is_admitted_and_purged(browser):
    """Genuine, but refused while the secret here was stale: the Rust test has seen to that."""
    genuine = api("/quarantine?limit=500")["quarantine"][-1]["id"]
    with Tab(browser) as tab:
        page = tab.sign_in(f"#/quarantine/{genuine}").page
        expect(page.locator("#main .lead")).to_contain_text("not that of this body")
        tab.button("Admit…").click()
        tab.confirm("Check and admit", reason="the secret was stale")
        assert done("admit")["done"] == 1
        seq_of("evt-stale-secret")
        tab.go("#/quarantine")
        expect(page.get_by_role("checkbox", name=f"Choose request {genuine}", exact=True)).to_have_count(0)
        newest = lambda: api("/quarantine")["quarantine"][0]["id"]
        before = newest()
        forge = lambda: send(payin("evt-forged-here", "order-forged"), "somebody else's secret")
        number = eventually("a forged request", lambda: forge() == 401 and newest() > before and newest())
        tab.go(f"#/quarantine/{number}")
        tab.button("Purge…").click()
        tab.confirm("Purge")
        gone = lambda: number not in [request["id"] for request in api("/quarantine?limit=500")["quarantine"]]
        eventually("it is purged", gone)
        page.wait_for_url("**/#/quarantine")


def test_a_refused_wish_says_why(browser):
    with Tab(browser) as tab:
        tab.expected = ("400",)
        page = tab.sign_in("#/replays/new?sink=archive&from_seq=99999999").page
        expect(page.locator("#plan")).to_contain_text("Nothing to deliver")
        tab.go("#/events?since=whenever")
        expect(page.get_by_role("alert")).to_contain_text("not a time")


def test_a_name_is_asked_for_once_shown_and_changed(browser):
    """Blanks are no name; whoever was named is prefilled from then on, also after a reload, and recorded."""
    with Tab(browser) as tab:
        page = tab.sign_in("#/sinks").page
        header, card = page.locator("#tools"), page.get_by_role("region", name="Sink ledger")
        expect(tab.button("Your name…", header)).to_be_visible()
        tab.button("Try now", card).click()
        dialog = page.get_by_role("dialog")
        name = dialog.get_by_label("Your name")
        for nobody in ("", "   "):
            name.fill(nobody)
            tab.button("Try", dialog).click()
            expect(dialog).to_be_visible()
            expect(name).to_be_focused()
        name.fill("  Zoë Operator ")
        tab.button("Try", dialog).click()
        expect(dialog).to_have_count(0)
        assert done("try")["who"].startswith("Zoë Operator (admin API"), done("try")
        page.reload()
        tab.settled()
        tab.button("Try now", card).click()
        expect(name).to_have_value("Zoë Operator")
        expect(dialog.get_by_label("Reason")).to_be_focused()
        page.keyboard.press("Escape")
        tab.button("Zoë Operator", header).click()
        name.fill("Max")
        tab.button("Keep", dialog).click()
        expect(dialog).to_have_count(0)
        expect(tab.button("Max", header)).to_be_visible()
        assert page.evaluate("localStorage.getItem('ralio-relay.who')") == "Max"


def test_what_was_chosen_is_chosen_no_more_once_it_is_asked_for(browser):
    """Also while the list is as it was: the job has not ended yet."""
    refused("evt-ticks")
    job = api("/jobs")["jobs"][0]
    with Tab(browser) as tab:
        tab.expected = ("ERR_FAILED",)
        page = tab.sign_in("#/dead-letters").page
        box = page.get_by_role("checkbox", name="Choose dead letter").first
        box.check()
        expect(page.get_by_text("1 chosen")).to_be_visible()
        held = []
        page.route("**/api/dead-letters?*", lambda route: held.append(route))
        page.route("**/api/dead-letters/retry", lambda route: route.fulfill(status=202, json=job))
        tab.button("Retry…").click()
        tab.confirm("Retry")
        expect(page.get_by_text("1 chosen")).to_have_count(0)
        expect(box).not_to_be_checked()
        eventually("the list is asked for again", lambda: (page.wait_for_timeout(20), held)[1])
        for route in held:
            route.abort()
        page.unroute_all(behavior="ignoreErrors")


LETTER = {
    "id": 7, "sink": "ledger", "seq": 1, "event_id": "evt-people", "type": "payin.completed", "attempts": 3, "last_error": "HTTP 422",
    "died_at": "2026-01-31T10:00:00.000000Z", "answer": "field amount is missing", "amount": "EUR 1,234.56",
    "state": "discarded", "key": "order-people", "source": "test", "decided_at": "2026-01-31T11:00:00.000000Z",
    "decided_by": "Ann Auditor (admin API, 127.0.0.1)", "decided_reason": "booked by hand", "record": 14,
}


def test_what_was_decided_about_dead_letters_stays_to_be_found(browser):
    """A tab for each decision, and who made it, when and why."""
    with Tab(browser) as tab:
        page = tab.sign_in("#/dead-letters?sink=ledger").page
        asked = []

        def decided(route):
            asked.append(route.request.url)
            route.fulfill(json={"dead_letters": [LETTER], "next": None})

        page.route("**/api/dead-letters?*state=*", decided)
        nav = page.get_by_role("navigation", name="By what was decided")
        expect(nav.get_by_role("link", name="Open")).to_have_attribute("aria-current", "page")
        nav.get_by_role("link", name="Discarded").click()
        row = page.get_by_role("row").filter(has_text="booked by hand")
        for told in ["discarded", "EUR 1,234.56", "order-people", "Ann Auditor", "HTTP 422: field amount is missing"]:
            expect(row).to_contain_text(told)
        expect(row.get_by_role("link", name="record 14")).to_have_attribute("href", "#/record/14")
        expect(page.get_by_role("checkbox")).to_have_count(0)
        assert "sink=ledger" in asked[-1] and "state=discarded" in asked[-1], asked
        page.set_viewport_size({"width": 1440, "height": 800})
        assert page.evaluate("(() => { const table = document.querySelector('.table'); return table.scrollWidth - table.clientWidth; })()") == 0


def test_what_is_decided_leaves_the_list_at_once(browser):
    """As soon as the job has ended, and not only at the next look, ten seconds later."""
    letter = refused("evt-gone-at-once")
    with Tab(browser) as tab:
        page = tab.sign_in("#/dead-letters").page
        box = page.get_by_role("checkbox", name=f"Choose dead letter {letter}", exact=True)
        box.check()
        tab.button("Discard…").click()
        with page.expect_response(lambda answer: "/api/jobs/" in answer.url and answer.json()["ended_at"]):
            tab.confirm("Discard")
        expect(box).to_have_count(0, timeout=5000)


def test_a_dead_letter_without_an_attempt_says_why(browser):
    altered = "the stored body is not what came in: its SHA-256 differs, so it is not delivered"
    conflict = "conflict: another event with this id and other bytes came first"
    reasons = {altered: "has been altered since it came in", conflict: "came with other bytes", "HTTP 422": None}
    with Tab(browser) as tab:
        page = tab.sign_in().page
        letter = LETTER | {"attempts": [], "now": None}
        page.route("**/api/dead-letters/7", lambda route: route.fulfill(json=letter))
        for error, told in reasons.items():
            letter["last_error"] = error
            tab.go("#/sinks")
            tab.go("#/dead-letters/7")
            expect(page.locator("#main .empty")).to_have_text(re.compile(f"^No attempt was made.{f'.*{told}.*' if told else ''}$"))


ENTRY = {
    "id": 14, "kind": "discard", "sink": "ledger", "about": "dead letters of sink 'ledger', type payin.*", "state": "done", "done": 2,
    "failed": 0, "total": None, "who": "Ann Auditor (admin API, 127.0.0.1)", "reason": "booked by hand", "message": "2 dead letters are discarded",
    "created_at": "2026-01-31T11:00:00.000000Z", "ended_at": "2026-01-31T11:00:01.000000Z",
}
ITEM = {"number": 7, "seq": 1, "event_id": "evt-people", "type": "payin.completed", "sink": "ledger", "body_sha256": None}


def test_the_record_names_what_was_decided_about_and_is_filtered(browser):
    with Tab(browser) as tab:
        page = tab.sign_in().page
        asked = []

        def some(route):
            asked.append(route.request.url)
            route.fulfill(json={"record": [ENTRY], "next": None})

        def one(route):
            route.fulfill(json=ENTRY | {"filter": {"sink": "ledger"}, "items": [ITEM], "items_total": 2})

        page.route("**/api/record?*", some)
        page.route("**/api/record/14", one)
        tab.go("#/record")
        page.get_by_label("What").select_option("discard")
        page.get_by_label("Who").fill("ann")
        tab.button("Filter").click()
        page.wait_for_url("**/#/record?kind=discard&by=ann")
        eventually("the filter is asked for", lambda: (page.wait_for_timeout(20), [url for url in asked if "kind=discard&by=ann" in url])[1])
        row = page.get_by_role("row").filter(has_text="booked by hand")
        for told in ["discard of dead letters", "type payin.*", "Ann Auditor", "2 dead letters are discarded"]:
            expect(row).to_contain_text(told)
        row.get_by_role("link", name="14").click()
        expect(page.get_by_role("heading", name="Record 14")).to_be_visible()
        items = page.get_by_role("region", name="What it was about")
        expect(items).to_contain_text("The first 1 of 2 items.")
        expect(items.get_by_role("link", name="#1 payin.completed")).to_have_attribute("href", "#/events/1")
        expect(items.get_by_role("link", name="7", exact=True)).to_have_attribute("href", "#/dead-letters/7")
