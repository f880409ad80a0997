"""Scripts that somebody has stored wherever something is shown: none of them runs, each is seen as text."""

from playwright.sync_api import expect

from support import Tab, api, eventually, seq_of

# Whatever would run leaves this behind.
RAN = "window.hacked === undefined"


def test_no_stored_script_runs(browser):
    hostile = api("/events?search=window.hacked&limit=50")["events"]
    assert len(hostile) >= 2, "the Rust test has sent them"
    letters = eventually("a dead letter with a script in its reason", lambda: [
        letter for letter in api("/dead-letters?limit=500")["dead_letters"] if "window.hacked" in letter["last_error"]])
    # Refused requests are many by now; the one with a script in a header is of the source that only hostile ones come to.
    refused = [one["id"] for one in api("/quarantine?source=hostile&limit=500")["quarantine"]]
    assert refused
    places = ["#/", "#/events", "#/events?search=window.hacked", "#/dead-letters", "#/quarantine", "#/record", "#/replays",
              f"#/dead-letters/{letters[0]['id']}", *(f"#/quarantine/{one}" for one in refused[:3]), *(f"#/events/{event['seq']}" for event in hostile),
              "#/events?type=%3Cimg%20src%3Dx%20onerror%3D%22window.hacked%3D1%22%3E", "#/%3Cscript%3Ewindow.hacked=1%3C/script%3E",
              "#/events/%3Cimg%20src=x%20onerror=window.hacked=1%3E"]
    with Tab(browser) as tab:
        tab.expected = ("404", "400")
        page = tab.sign_in().page
        for place in places:
            tab.go(place)
            page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
            if page.get_by_role("button", name="Show personal fields").count():
                page.get_by_role("button", name="Show personal fields").first.click()
            # Nothing but what this page makes.
            assert page.locator("main :is(img, script, iframe, style, object, base, [onerror])").count() == 0, place
            assert page.evaluate(RAN), place
        shown = next(event for event in hostile if event["id"].startswith("<img"))
        tab.go(f"#/events/{shown['seq']}")
        expect(page.locator("#main")).to_contain_text("<img src=x onerror=")
        assert "\u202e" not in page.locator("#main").inner_text()


def test_texts_that_turn_around_are_written_out(browser):
    with Tab(browser) as tab:
        page = tab.sign_in(f"#/events/{seq_of('evt-hostile-2')}").page
        tab.button("Show personal fields").click()
        expect(page.get_by_role("region", name="What it says")).to_contain_text("\\u202e")


def test_the_policy_is_strict(browser):
    """The page's own answer forbids what it does not need; and the browser holds it to that."""
    with Tab(browser) as tab:
        page = tab.page
        answer = page.goto(page.url) if page.url != "about:blank" else None
        tab.sign_in()
        answer = page.reload()
        policy = answer.headers["content-security-policy"]
        for part in ("default-src 'none'", "script-src 'self'", "require-trusted-types-for 'script'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert part in policy, policy
        assert "unsafe" not in policy, policy
        expect(page.locator("#main h1")).to_be_visible()
        outcome = page.evaluate("() => { try { document.body.innerHTML = '<b>x</b>'; return 'taken'; } catch (error) { return error.name; } }")
        assert outcome == "TypeError", outcome
        page.evaluate("window.stopped.length = 0")
        tab.complaints.clear()
