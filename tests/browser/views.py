"""Every view in light, in dark and on a phone: it shows something, fits, and axe finds nothing serious."""

import json
import pathlib

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


def test_all_is_not_well_while_requests_are_refused(browser):
    """They may be genuine, and the secret here stale."""
    now = api("/overview")
    sinks = [sink | {"state": "running", "lag": 0, "lag_seconds": 0} for sink in now["sinks"]]
    well = now | {"ready": True, "dead_letters": 0, "sinks": sinks}
    ask = """async (now) => {
        const { verdict } = await import('/page/verdict.js');
        const told = (entries) => verdict({ ...now, quarantine: { entries, max_entries: 100 } });
        return [told(0), told(1)].map(({ level, sentence }) => [level, sentence]);
    }"""
    with Tab(browser) as tab:
        told = tab.sign_in().page.evaluate(ask, well)
    assert told == [["ok", "Money is flowing."], ["warn", "Money is flowing, and something waits for a person."]], told


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
