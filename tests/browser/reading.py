"""Searching, following, and looking at one event."""

import subprocess

from playwright.sync_api import expect

from support import TOKEN, Tab, api, eventually, payin, send, seq_of

SECRETS = ["Zoë Quispe", "zoe.quispe@example.com", "+34 600 111 222", "ES9121000418450200051332", "1987-06-05", "X1234567L",
           "203.0.113.77", "4111 1111 1111 1111", "Calle Mayor 7"]


def test_filters_and_deep_links(browser):
    with Tab(browser) as tab:
        page = tab.sign_in("#/events").page
        page.get_by_label("Type").fill("payout.*")
        tab.button("Search").click()
        types = page.locator("tbody .first")
        eventually("payouts only", lambda: types.count() and all(text.startswith("payout.") for text in types.all_inner_texts()))
        assert page.url.endswith("#/events?type=payout.*"), page.url
        page.locator("tbody .first a").first.click()
        page.wait_for_url("**/#/events/*")
        expect(page.locator("#main h1")).to_be_focused()
        expect(page.locator("#main h1")).to_contain_text("payout.")
        assert "Events" in page.title()


def test_a_search_over_bodies_shows_how_far_it_is_and_can_be_stopped(browser):
    """Pieces of an answer as the relay gives them for a large inbox: one at a time, so that nothing has to be quick."""
    with Tab(browser) as tab:
        page = tab.sign_in().page
        real = api("/events?limit=1")["events"][0]
        asked, held = [], []

        def piece(route):
            asked.append(route.request.url)
            done = 1000 * len(asked)
            events = [real] if len(asked) == 2 else []
            searched = {"done": done, "total": 1000000}
            if len(asked) < 4:
                route.fulfill(json={"events": events, "next": str(done), "searched": searched})
            else:
                # The search is under way until it is stopped.
                held.append(route)

        page.route("**/api/events?*search=*", piece)
        page.evaluate("window.location.hash = '#/events?search=needle'")
        expect(page.locator("#found")).to_contain_text("Looked through 3,000 of 1,000,000 events.")
        bar = page.get_by_role("progressbar", name="Progress of the search")
        assert bar.get_attribute("value") == "3000" and bar.get_attribute("max") == "1000000"
        expect(page.locator("tbody tr")).to_have_count(1)
        tab.button("Stop").click()
        expect(page.locator("#found")).to_contain_text("Stopped. Looked through 3,000")
        assert "cursor=3000" in asked[-1], asked
        held[0].abort()
        page.unroute("**/api/events?*search=*")
        # A search that the relay answers itself, over what bodies hold.
        tab.go("#/events?search=Quispe")
        expect(page.locator("tbody tr")).to_have_count(1)


def test_the_tail_shows_events_as_they_come(browser):
    with Tab(browser) as tab:
        page = tab.sign_in("#/events").page
        tab.button("Live tail").click()
        expect(page.locator("#found .status")).to_contain_text("Live")
        for number in range(3):
            assert send(payin(f"evt-live-{number}", f"order-live-{number}")) == 200
        seq = seq_of("evt-live-2")
        expect(page.get_by_role("row", name=f"#{seq}")).to_be_visible()
        expect(page.locator("tbody tr").first).to_contain_text("order-live-2")
        expect(page.get_by_role("status").filter(has_text="new event")).to_have_count(1)
        rows = page.locator("tbody tr").count()
        tab.button("Stop the live tail").click()
        expect(tab.button("Live tail")).to_be_visible()
        assert rows >= 3


def test_the_tail_begins_where_the_search_before_it_has_ended(browser):
    """Also where that found nothing: what comes in between the two is shown."""
    with Tab(browser) as tab:
        page = tab.sign_in().page

        def slow(route):
            answer = route.fetch()
            assert send(payin("evt-between", "order-between")) == 200
            seq_of("evt-between")
            route.fulfill(response=answer)

        page.route("**/api/events?*", slow)
        page.evaluate("window.location.hash = '#/events?key=order-between&live=1'")
        expect(page.locator("#found .status")).to_contain_text("Live")
        page.unroute("**/api/events?*")
        assert send(payin("evt-after", "order-between")) == 200
        expect(page.locator("tbody tr").first).to_contain_text(f"#{seq_of('evt-after')}")
        expect(page.locator("tbody tr")).to_have_count(2)


def test_a_time_of_summer_is_told_in_the_zone_of_summer(browser):
    with Tab(browser, zone="Europe/Madrid") as tab:
        page = tab.sign_in().page
        ask = """async (times) => {
            const { time } = await import('/page/time.js');
            return times.map((iso) => time(iso, 'whole').firstChild.textContent);
        }"""
        told = page.evaluate(ask, ["2026-01-31T10:00:00Z", "2026-07-31T10:00:00Z"])
        assert told == ["2026-01-31 11:00:00 UTC+01:00", "2026-07-31 12:00:00 UTC+02:00"], told


def test_personal_fields_are_hidden_until_asked_for(browser):
    seq = seq_of("evt-people")
    with Tab(browser) as tab:
        page = tab.sign_in(f"#/events/{seq}").page
        body = page.get_by_role("region", name="What it says")
        expect(body).to_contain_text('"orderId": "order-people"')
        # Numbers stand as they came.
        expect(body).to_contain_text('"rate": 1.10')
        expect(body).to_contain_text('"amount": 123456')
        shown = page.locator("#main").inner_text()
        assert not [secret for secret in SECRETS if secret in shown]
        assert "hidden" in body.inner_text()
        tab.button("Show personal fields").click()
        for secret in SECRETS:
            expect(body).to_contain_text(secret)
        tab.button("Hide personal fields").click()
        assert not [secret for secret in SECRETS if secret in page.locator("#main").inner_text()]


MASKED = {
    "keys": [[["data", "payer", "name"], "Ann"], [["data", "beneficiary_name"], "Ann"], [["a", "contactEmail"], "x"],
             [["data", "address", "lines", 0], "Main St"], [["data", "document", "number"], "1"], [["dateOfBirth"], "2000-01-01"],
             [["kycSession", "url"], "https://x"], [["IBAN"], "x"], [["data", "bankConceptTransfer"], "for Ann"]],
    "forms": ["ann@example.com", "mail ann.b@example.co.uk now", "ES91 2100 0418 4502 0005 1332", "DE89370400440532013000", "+34600111222",
              "0034 600 111 222", "(600) 111-222", "4111111111111111", "4111-1111-1111-1111", "************4242", "10.1.2.3", "2001:db8::1",
              "fe80::1ff:fe23:4567:890a", "a" * 1000000, "*" * 1000000 + "@", "0x52908400098527886E0F7030069857D2E4169EE7", '{"name":"Ann"}'],
    "plain": [[["data", "orderId"], "9c1e0000-1111-4222-8333-444455556666"], [["data", "status"], "COMPLETED"], [["timestamp"], "2026-02-26T17:02:28.7667797-05:00"],
              [["data", "amounts", "fx", "pair"], "EUR/USD"], [["data", "amounts", "fx", "rate"], "1234.5678"], [["data", "payinType"], "bankPayin"],
              [["data", "destination", "creditedAccountId"], "00000000-0000-4000-8000-000000000000"], [["data", "source", "routingType"], "iban"],
              [["data", "payer", "type"], "individual"], [["data", "payer", "id"], "9c1e0000-1111-4222-8333-444455556666"], [["data", "failure", "code"], "SENDER_NAME_MISMATCH"]],
}


def test_what_counts_as_personal(browser):
    with Tab(browser) as tab:
        page = tab.sign_in().page
        ask = """async (wanted) => {
            const { personal } = await import('/page/mask.js');
            return {
                keys: wanted.keys.filter(([path, text]) => !personal(path, text)), forms: wanted.forms.filter((text) => !personal(['x'], text)),
                plain: wanted.plain.filter(([path, text]) => personal(path, text)),
                numbers: [['amount', '123456'], ['amount', '1234567890123'], ['rate', '1.10']].filter(([key, text]) => personal([key], text, true)),
                cards: ['4111111111111111'].filter((text) => !personal(['amount'], text, true)),
            };
        }"""
        assert page.evaluate(ask, MASKED) == {"keys": [], "forms": [], "plain": [], "numbers": [], "cards": []}


def test_copy_as_curl(browser):
    """What was copied runs in a shell, brings the bytes, and does not hold the token."""
    seq = seq_of("evt-people")
    with Tab(browser) as tab:
        page = tab.sign_in(f"#/events/{seq}").page
        tab.button("Copy as curl").click()
        expect(page.get_by_role("status").filter(has_text="copied")).to_be_visible()
        command = page.evaluate("navigator.clipboard.readText()")
        assert TOKEN not in command and "$TOKEN" in command, command
        got = subprocess.run(["sh", "-c", command], env={"PATH": "/usr/bin:/bin", "TOKEN": TOKEN}, capture_output=True, check=True, timeout=20)
        event = api(f"/events/{seq}")["events"][0]
        assert got.stdout.decode() == event["body"]


def test_times_and_order_of_what_belongs_together(browser):
    with Tab(browser) as tab:
        page = tab.sign_in(f"#/events/{seq_of('evt-order-2')}").page
        steps = page.locator(".timeline li")
        expect(steps).to_have_count(2)
        expect(steps.nth(1)).to_have_attribute("aria-current", "true")
        expect(steps.nth(0)).to_contain_text("payin.processing")
        steps.nth(0).get_by_role("link").click()
        page.wait_for_url(f"**/#/events/{seq_of('evt-order-1')}")


AMOUNTS = {
    "receivedAmount": {"currency": "COP", "value": 12345600}, "creditedAmount": {"currency": "HUF", "amount": 123456},
    "amountAfterFees": {"currency": "EUR", "amount": 9007199254740993}, "fees": {"currency": "JPY", "total": 500},
}


def test_amounts_have_the_digits_of_their_currency(browser):
    """ISO 4217's and not the browser's, in each shape; and no digit is lost."""
    assert send(payin("evt-amounts", "order-amounts", amounts=AMOUNTS)) == 200
    assert send(payin("evt-coins", "order-coins", amounts={"receivedAmount": {"currency": "USDC", "amount": 2405112}})) == 200
    with Tab(browser) as tab:
        page = tab.sign_in(f"#/events/{seq_of('evt-amounts')}").page
        for told in ["COP 123,456.00 received", "JPY 500 fees", "EUR 90,071,992,547,409.93 after fees", "HUF 1,234.56 credited"]:
            expect(page.locator(".amounts")).to_contain_text(told)
        tab.go(f"#/events/{seq_of('evt-coins')}")
        expect(page.locator(".amounts")).to_have_text("2,405,112 smallest units of USD Coin (USDC) received")


def test_what_is_odd_about_an_event_is_marked(browser):
    """Marks that the relay gives; one that it does not give shows nothing."""
    seq = seq_of("evt-people")
    odd = {"admitted": True, "digest_mismatch": True, "repeated_members": ["amount"], "time": None}
    shown = ["admitted", "altered", "members given twice", "time missing"]
    more = {"body_matches": False, "peer": "203.0.113.9", "secret": "3f9a0c12b4d56e78", "admission": {"at": "2026-01-31T10:00:00.000000Z", "record": 9, "who": "Ann"}}
    with Tab(browser) as tab:
        page = tab.sign_in(f"#/events/{seq}").page
        for mark in shown:
            expect(page.locator(".heading")).not_to_contain_text(mark)

        def with_marks(route):
            answer = route.fetch()
            route.fulfill(response=answer, json={"events": [event | odd | more for event in answer.json()["events"]]})

        page.route(f"**/api/events/{seq}", with_marks)
        tab.go("#/sources")
        tab.go(f"#/events/{seq}")
        for mark in shown:
            expect(page.locator(".heading")).to_contain_text(mark)
        expect(page.get_by_role("alert")).to_contain_text("is not the one that was signed")
        expect(page.locator(".bar-of-body")).to_contain_text("NOT as received")
        # What an altered body says of money is not to be believed.
        expect(page.locator(".amounts")).to_have_count(0)
        for told in ["203.0.113.9", "secret 3f9a0c12b4d56e78", "by Ann, record 9", "time missing"]:
            expect(page.locator(".facts").first).to_contain_text(told)


def test_a_body_that_is_whole_again_is_no_alarm(browser):
    seq = seq_of("evt-people")
    mended = {"body_matches": True, "mismatch_found_at": "2026-01-31T10:00:00.000000Z", "digest_mismatch": False}
    with Tab(browser) as tab:
        page = tab.sign_in(f"#/events/{seq}").page
        note = page.locator(".notice").filter(has_text="found altered")
        expect(page.locator(".amounts")).to_have_count(1)
        expect(note).to_have_count(0)

        def again(route):
            answer = route.fetch()
            route.fulfill(response=answer, json={"events": [event | mended for event in answer.json()["events"]]})

        page.route(f"**/api/events/{seq}", again)
        tab.go("#/sources")
        tab.go(f"#/events/{seq}")
        expect(note).to_contain_text("Its body was found altered at 2026-01-31 10:00:00")
        expect(note).to_contain_text("and is as it came in again.")
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.locator(".heading")).not_to_contain_text("altered")
        expect(page.locator(".amounts")).to_have_count(1)
        expect(page.locator(".bar-of-body")).to_contain_text("exactly as received")


def test_a_body_is_shown_as_the_relay_reads_it(browser):
    """Where the bytes are compressed, or no UTF-8: the text that filters and searches see."""
    seq = seq_of("evt-people")
    read = {"body": "H4sI", "body_encoding": "base64", "body_as_read": '{"data":{"orderId":"unpacked"}}'}
    with Tab(browser) as tab:
        page = tab.sign_in().page

        def packed(route):
            answer = route.fetch()
            route.fulfill(response=answer, json={"events": [event | read for event in answer.json()["events"]]})

        page.route(f"**/api/events/{seq}", packed)
        tab.go(f"#/events/{seq}")
        expect(page.get_by_role("region", name="What it says")).to_contain_text('"orderId": "unpacked"')
        expect(page.locator(".bar-of-body")).to_contain_text("shown as the relay reads it")
