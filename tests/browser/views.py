"""Every view in light, in dark and on a phone: it shows something, fits, and axe finds nothing serious."""

import datetime
import json
import pathlib
import urllib.parse

import axe_playwright_python
from playwright.sync_api import expect

from support import TOKEN, URL, Tab, addresses, api

AXE = (pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
GRAVE = ("serious", "critical")
# Only what can be grave: the others are not looked at, which halves the time.
RUN = "async () => (await axe.run(document, { resultTypes: ['violations'] })).violations"


def accessible(tab, name):
    """Nothing serious or critical."""
    found = [rule for rule in tab.page.evaluate(RUN) if rule["impact"] in GRAVE]
    told = [{"rule": rule["id"], "help": rule["help"], "at": [node["html"] for node in rule["nodes"][:3]]} for rule in found]
    assert not found, f"{name}: {json.dumps(told, indent=1)}"


def every_view(browser, scheme, width, check):
    with Tab(browser, scheme, width, 844 if width < 600 else 800, scripts=[AXE]) as tab:
        tab.sign_in()
        for name, address in addresses().items():
            tab.go(address)
            wide = tab.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{name} is {wide} wide, the window {width}"
            if check:
                accessible(tab, f"{name} in {scheme}")
            tab.shot(f"{name}-{scheme}-{width}")
            tab.check()


def test_light(browser):
    every_view(browser, "light", 1280, True)


def test_dark(browser):
    every_view(browser, "dark", 1280, True)


def test_phone(browser):
    every_view(browser, "light", 390, False)


def test_the_overview_answers_first(browser):
    """The first thing is whether money flows; what has to be done follows, worst first."""
    now = api("/overview")
    assert now["dead_letters"] > 0
    with Tab(browser) as tab:
        page = tab.sign_in().page
        first = page.locator("#main h1")
        expect(first).to_contain_text("Money is flowing")
        expect(page.locator(".findings li").first).to_contain_text("dead letter")
        expect(page.locator(".findings")).to_contain_text("refused for")
        expect(page.get_by_role("img", name="Events a minute in the last hour")).to_be_visible()
        # An id of a sink, and its state as a word.
        expect(page.get_by_role("row", name="ledger")).to_contain_text("running")


def finding(text, todo, level="warn", page=None, command=None):
    return {"level": level, "text": text, "todo": todo, "page": page, "command": command}


def test_a_finding_says_what_to_do_where_to_look_and_what_to_type(browser):
    """Commands stand as they are typed; what the page cannot show has its command beside it."""
    verdict = {
        "level": "warn", "sentence": "Money is flowing, but the last reload of the configuration failed.",
        "more": "Every sink has got every stored event that is meant for it.",
        "findings": [
            finding("The inbox has a sink 'erp' (3 to go, 1 dead letter) that is not configured, and 'erpx' is new.",
                    "If it was renamed, run `ralio-relay sinks rename erp erpx` before the next start or reload.", page="#/sinks?name=erp",
                    command="ralio-relay sinks show erp"),
            finding("The configuration was to be read again 5 min ago, and cannot be used: relay.toml:12: sinks[0].typ: unknown key",
                    "Mend the configuration, then `systemctl reload ralio-relay`.", command="ralio-relay check --probe"),
        ],
    }

    def answer(route):
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"verdict": verdict})

    for scheme, width in [("light", 1280), ("dark", 1280), ("light", 390)]:
        with Tab(browser, scheme, width, 844 if width < 600 else 800, scripts=[AXE]) as tab:
            page = tab.page
            page.route("**/api/overview", answer)
            tab.sign_in()
            renamed, reload = page.locator(".findings li").nth(0), page.locator(".findings li").nth(1)
            expect(renamed.locator("code")).to_have_text("ralio-relay sinks rename erp erpx")
            expect(renamed.get_by_role("link", name="Look.")).to_have_attribute("href", "#/sinks?name=erp")
            assert reload.locator("code").all_inner_texts() == ["systemctl reload ralio-relay", "ralio-relay check --probe"]
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"the overview is {wide} wide, the window {width}"
            accessible(tab, f"overview in {scheme} at {width}")
            tab.shot(f"findings-{scheme}-{width}")
            tab.check()


def shown_by(page, number):
    """How many rows the list behind a number has, with all of its pages."""
    number.click()
    expect(page.locator("#main .figures, #main .card")).to_have_count(0)
    expect(page.locator("#main:not([aria-busy]) h1")).to_have_count(1)
    expect(page.locator("#found progress")).to_have_count(0)
    while page.get_by_role("button", name="Show more").count():
        before = page.locator("tbody tr").count()
        page.get_by_role("button", name="Show more").click()
        page.wait_for_function("(before) => document.querySelectorAll('tbody tr').length > before", arg=before)
    return page.locator("tbody tr").count()


def test_each_number_leads_to_the_list_that_it_counts(browser):
    now = api("/overview")
    ledger = next(sink for sink in now["sinks"] if sink["name"] == "ledger")
    assert now["dead_letters"] and now["quarantine"]["entries"] and ledger["dead_letters"]
    with Tab(browser) as tab:
        page = tab.sign_in().page
        for name, number in [("Dead letters", now["dead_letters"]), ("Quarantine", now["quarantine"]["entries"]),
                             ("In the last 24 hours", now["last_24h"])]:
            tab.go("#/")
            link = page.locator(".figures > div").filter(has_text=name).get_by_role("link")
            expect(link).to_have_text(f"{number:,}")
            assert shown_by(page, link) == number, name
        tab.go("#/")
        row = page.get_by_role("region", name="Sinks").get_by_role("row", name="ledger")
        row.locator("a[href='#/dead-letters?sink=ledger']").click()
        page.wait_for_url("**/#/dead-letters?sink=ledger")
        expect(page.locator("tbody tr")).to_have_count(ledger["dead_letters"])
        for source in api("/sources")["sources"]:
            tab.go("#/sources")
            if source["events"]:
                card = page.get_by_role("region", name=f"Source {source['name']}")
                link = card.locator("a[href^='#/events?source=']")
                expect(link).to_have_text(f"{source['events']:,}")
                assert shown_by(page, link) == source["events"]


# Labels that do not stand on one line with the others of their row.
CROOKED = """() => {
    const fields = [...document.querySelectorAll('.fields > .field')].filter((field) => field.offsetParent);
    const rows = Map.groupBy(fields, (field) => Math.round(field.getBoundingClientRect().bottom));
    return [...rows.values()].flatMap((row) => {
        const tops = row.map((field) => field.querySelector('.label').getBoundingClientRect().top);
        return Math.max(...tops) - Math.min(...tops) > 0.5 ? [row.map((field) => field.innerText.trim()), tops] : [];
    });
}"""


def test_labels_stand_on_one_line(browser):
    for width in (1280, 390):
        with Tab(browser, "light", width) as tab:
            page = tab.sign_in().page
            for view in ["#/events", "#/dead-letters", "#/parked", "#/record"]:
                tab.go(view)
                page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
                assert page.evaluate(CROOKED) == [], view


def test_lists_are_short_on_a_phone(browser):
    """Three lines a row at most, where a row of a table with its labels would have six or eight."""
    with Tab(browser, "light", 390, 844) as tab:
        page = tab.sign_in().page
        for view in ["#/dead-letters", "#/events", "#/quarantine"]:
            tab.go(view)
            tall = page.evaluate("[...document.querySelectorAll('tbody tr')].map((row) => row.getBoundingClientRect().height)")
            assert tall, view
            # Those with several marks may have one more.
            usual = sorted(tall)[len(tall) // 2]
            assert usual <= 84, f"{view}: {tall}"


def in_trouble(sink, now):
    """The sink as it would be if its far side were down."""
    ago = lambda seconds: (now - datetime.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    error = 'HTTP 503: {"error":"the ledger is being moved"}'
    return sink | {
        "state": "down", "since": ago(90), "breaker_open_since": ago(90), "failing_since": ago(120), "failures": 17,
        "last_error": error, "last_error_at": ago(5), "last_success_at": ago(300), "next_try": ago(-3600),
        "undelivered": 1234, "parked": 12, "dead_letters": 3, "lag_seconds": 120,
        "words": f"It has been down for 1 min 30 s: {error}. The next try is in 1 h.",
    }


def test_a_sink_in_trouble_says_why_since_when_and_what_comes_next(browser):
    """Cards and overview: the far side's words, the next try, and links from the numbers to the lists."""
    with Tab(browser) as tab:
        page = tab.page

        def answer(route):
            answer = route.fetch()
            told = answer.json()
            now = datetime.datetime.now(datetime.timezone.utc)
            told["sinks"] = [in_trouble(sink, now) if sink["name"] == "ledger" else sink for sink in told["sinks"]]
            if "verdict" in told:
                told["verdict"] |= {"level": "bad", "sentence": "Events come in, but do not reach ledger."}
            route.fulfill(response=answer, json=told)

        page.route("**/api/sinks", answer)
        page.route("**/api/overview", answer)
        tab.sign_in("#/sinks")
        card = page.get_by_role("region", name="Sink ledger")
        expect(card.locator(".chip").first).to_contain_text("down")
        expect(card).to_contain_text("It has been down for 1 min 30 s")
        for fact in ["the ledger is being moved", "1,234", "Next try", "in 1 h", "Last success", "Last error", "/bin/sh"]:
            expect(card).to_contain_text(fact)
        expect(card.get_by_role("link", name="12", exact=True)).to_have_attribute("href", "#/parked?sink=ledger")
        expect(card.get_by_role("link", name="3", exact=True)).to_have_attribute("href", "#/dead-letters?sink=ledger")
        expect(card.locator(".error")).to_have_count(0)
        expect(page.get_by_role("navigation").get_by_role("link", name="Sinks")).to_contain_text("1")
        tab.shot("sink-in-trouble")
        tab.go("#/")
        expect(page.locator("#main h1")).to_have_text("Events come in, but do not reach ledger.")
        row = page.get_by_role("row", name="ledger")
        for fact in ["down", "ago", "1,234", "the ledger is being moved", "in 1 h"]:
            expect(row).to_contain_text(fact)
        expect(row.get_by_role("link", name="12", exact=True)).to_have_attribute("href", "#/parked?sink=ledger")
        tab.shot("overview-in-trouble")
    for scheme, width in [("dark", 1280), ("light", 390)]:
        with Tab(browser, scheme, width, 844 if width < 600 else 800) as tab:
            page = tab.page
            page.route("**/api/sinks", answer)
            page.route("**/api/overview", answer)
            tab.sign_in()
            for view in ["#/", "#/sinks"]:
                tab.go(view)
                expect(page.locator("#main")).to_contain_text("the ledger is being moved")
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{view} is {wide} wide, the window {width}"
                tab.shot(f"trouble-{'sinks' if 'sinks' in view else 'overview'}-{scheme}-{width}")


def test_the_token_is_asked_for_and_never_in_the_address(browser):
    with Tab(browser) as tab:
        tab.expected = ("401",)
        page = tab.page
        page.goto(f"{URL}#/sinks")
        page.get_by_label("Admin token").fill("wrong")
        tab.button("Open").click()
        expect(page.get_by_role("alert")).to_contain_text("This is not the token")
        page.get_by_label("Admin token").fill(TOKEN)
        tab.button("Open").click()
        expect(page.get_by_role("heading", name="Sinks", exact=True)).to_be_visible()
        assert page.url == f"{URL}#/sinks"
        # A token that is good no more leads back to the form.
        page.evaluate("sessionStorage.setItem('ralio-relay.token', 'old')")
        page.reload()
        expect(page.get_by_label("Admin token")).to_be_visible()
    with Tab(browser) as tab:
        page = tab.sign_in().page
        assert page.url == f"{URL}#/", page.url
        tab.button("Sign out").click()
        expect(page.get_by_label("Admin token")).to_be_visible()
        assert page.evaluate("sessionStorage.getItem('ralio-relay.token')") is None


def test_times_in_utc_or_here(browser):
    context = browser.new_context(timezone_id="Asia/Tokyo")
    page = context.new_page()
    page.goto(f"{URL}#token={TOKEN}")
    expect(page.locator("#main h1")).to_be_visible()
    page.evaluate("window.location.hash = '#/record'")
    stamp = page.locator("main time").first
    expect(stamp).to_be_visible()
    exact = stamp.get_attribute("datetime")
    assert stamp.get_attribute("title") == exact.replace("T", " ").replace("Z", " UTC")
    here = stamp.locator(".abs").inner_text()
    page.get_by_role("button", name="Times: UTC+09:00").click()
    expect(page.get_by_role("button", name="Times: UTC", exact=True)).to_be_visible()
    there = stamp.locator(".abs").inner_text()
    assert there.endswith(exact[11:19]) and here != there, (here, there, exact)
    context.close()


TYPED = """async ({ now, texts }) => {
    const { setNow, moment } = await import('/page/time.js');
    setNow(now);
    return texts.map(moment);
}"""


def test_a_typed_time_is_of_the_zone_that_is_shown(browser):
    """Where clocks go back, the first of the two; what has a zone, is a span or no time stays as it is typed."""
    bogota = {
        "2026-11-30": "2026-11-30T05:00:00Z", "2026-11-30 16:00": "2026-11-30T21:00:00Z", "2026-11-30T16:00:00": "2026-11-30T21:00:00Z",
        " 2026-11-30t23:59:59.25 ": "2026-12-01T04:59:59.25Z", "today": "2026-11-21T05:00:00Z", "yesterday": "2026-11-20T05:00:00Z",
    } | {same: same for same in ["2026-11-30T16:00:00Z", "2026-11-30T16:00:00+02:00", "2026-11-30T16:00[Asia/Tokyo]", "24h", "7d ago",
                                 "2026-02-31", "2026-11-30 25:00", "2026-11-30 24:00", "2026-11-30 16:00.5", "16:00", "whenever", "constructor"]}
    madrid = {"2026-10-25 02:30": "2026-10-25T00:30:00Z", "2026-10-25 03:30": "2026-10-25T02:30:00Z", "2026-07-31": "2026-07-30T22:00:00Z"}
    utc = {"2026-11-30 16:00": "2026-11-30T16:00:00Z", "today": "2026-11-22T00:00:00Z", "yesterday": "2026-11-21T00:00:00Z"}
    for zone, expected in [("America/Bogota", bogota), ("Europe/Madrid", madrid), ("UTC", utc)]:
        with Tab(browser, zone=zone) as tab:
            page = tab.sign_in().page
            told = page.evaluate(TYPED, {"now": "2026-11-22T02:00:00Z", "texts": list(expected)})
            assert dict(zip(expected, told)) == expected, zone


def test_lists_are_asked_for_times_of_the_zone_that_is_shown(browser):
    """The address and the field keep what was typed, also after a reload; with the other zone it is another time."""
    def sought(path, time):
        def fits(request):
            url = urllib.parse.urlsplit(request.url)
            return url.path == path and urllib.parse.parse_qs(url.query).get("since") == [time]
        return fits

    with Tab(browser, zone="America/Bogota") as tab:
        page = tab.sign_in().page
        for view in ["events", "dead-letters", "record"]:
            tab.go(f"#/{view}")
            page.get_by_label("Since").fill("2026-01-30 16:00")
            with page.expect_request(sought(f"/api/{view}", "2026-01-30T21:00:00Z")):
                page.get_by_label("Since").press("Enter")
            with page.expect_request(sought(f"/api/{view}", "2026-01-30T21:00:00Z")):
                page.reload()
            expect(page.get_by_label("Since")).to_have_value("2026-01-30 16:00")
            with page.expect_request(sought(f"/api/{view}", "2026-01-30T16:00:00Z")):
                page.get_by_role("button", name="Times: UTC\u221205:00").click()
            with page.expect_request(sought(f"/api/{view}", "2026-01-30T21:00:00Z")):
                page.get_by_role("button", name="Times: UTC", exact=True).click()
        with page.expect_request("**/api/replays/plan") as planned:
            tab.go("#/replays/new?sink=archive&since=2026-01-30+16:00")
        assert planned.value.post_data_json["filter"] == {"since": "2026-01-30T21:00:00Z"}
        expect(page.locator("#plan")).to_contain_text("It would deliver")
        tab.button("Begin…").click()
        with page.expect_request("**/api/replays") as begun:
            page.route("**/api/replays", lambda route: route.fulfill(status=202, json={"id": "1", "task": "replay"}))
            tab.confirm("Begin the replay")
        assert begun.value.post_data_json["filter"] == {"since": "2026-01-30T21:00:00Z"}
        page.unroute_all(behavior="ignoreErrors")
