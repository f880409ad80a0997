"""Without a mouse."""

from playwright.sync_api import expect

from support import Tab, eventually

# Where the focus is, and whether one can see it there.
FOCUS = """() => {
    const at = document.activeElement, style = getComputedStyle(at);
    return { words: (at.innerText || at.getAttribute('aria-label') || at.name || '').trim(), tag: at.localName,
        seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2, inside: Boolean(at.closest('dialog')) };
}"""


def test_tab_goes_through_the_page_in_order(browser):
    with Tab(browser) as tab:
        page = tab.sign_in("#/sinks").page
        page.evaluate("document.activeElement.blur(); window.getSelection().removeAllRanges()")
        page.reload()
        tab.settled()
        stops = []
        while len(stops) < 40 and (not stops or stops[-1]["tag"] != "body"):
            page.keyboard.press("Tab")
            stops.append(page.evaluate(FOCUS))
        words = [stop["words"] for stop in stops]
        wanted = ["Skip to content", "ralio-relay", "Overview", "Events", "Sinks", "Parked", "Dead letters", "Quarantine", "Replays", "Sources", "Record", "Your name", "Times: UTC", "Sign out", "Pause"]
        found = [next((at for at, text in enumerate(words) if text.startswith(word)), None) for word in wanted]
        assert None not in found and found == sorted(found), list(zip(wanted, found))
        unseen = [stop for stop in stops if stop["tag"] != "body" and not stop["seen"]]
        assert not unseen, unseen


def test_skip_link(browser):
    with Tab(browser) as tab:
        page = tab.sign_in().page
        page.reload()
        tab.settled()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()


def test_a_dialog_holds_the_focus_and_gives_it_back(browser):
    with Tab(browser) as tab:
        page = tab.sign_in("#/sinks").page
        opener = tab.button("Pause").first
        opener.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        expect(dialog.get_by_label("Your name")).to_be_focused()
        for key in ["Tab"] * 8 + ["Shift+Tab"] * 8:
            page.keyboard.press(key)
            at = page.evaluate(FOCUS)
            # Chromium's own controls are part of the round; the page behind is not.
            assert at["inside"] or at["tag"] == "body", at
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(opener).to_be_focused()


def test_a_new_view_gets_the_focus_and_painting_again_keeps_it(browser):
    with Tab(browser) as tab:
        page = tab.sign_in().page
        page.get_by_role("navigation").get_by_role("link", name="Sinks").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Sinks", exact=True)).to_be_focused()
        tab.go("#/dead-letters")
        box = page.get_by_role("checkbox").nth(1)
        box.focus()
        page.keyboard.press("Space")
        expect(box).to_be_checked()
        expect(page.get_by_text("1 chosen")).to_be_visible()
        expect(box).to_be_focused()


def test_nobody_asks_while_nobody_looks(browser):
    """No question more often than every 2 seconds from a view, and none while the tab is hidden."""
    with Tab(browser) as tab:
        page = tab.sign_in().page
        page.clock.install()
        tab.go("#/sinks")
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.evaluate("""() => {
            Object.defineProperty(document, 'hidden', { value: true, configurable: true });
            document.dispatchEvent(new Event('visibilitychange'));
        }""")
        page.clock.run_for(60000)
        assert not asked, asked
        page.evaluate("() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); }")
        eventually("a question as soon as somebody looks again", lambda: (page.wait_for_timeout(20), asked)[1])


def test_a_slash_leads_to_the_search(browser):
    """That of the view; from a view without one, that of the events. Whoever types a slash into a field, types it."""
    with Tab(browser) as tab:
        page = tab.sign_in("#/dead-letters").page
        page.keyboard.press("/")
        expect(page.get_by_label("Sink")).to_be_focused()
        tab.go("#/sinks")
        page.keyboard.press("/")
        field = page.get_by_label("Text in the body")
        expect(field).to_be_focused()
        assert page.url.endswith("#/events"), page.url
        page.keyboard.press("/")
        expect(field).to_have_value("/")
        tab.go("#/sinks")
        tab.button("Pause").first.click()
        page.keyboard.press("/")
        expect(page.get_by_label("Your name")).to_have_value("/")
