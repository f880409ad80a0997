"""A browser on the page of a running relay, which the Rust test `page` has started and filled. Waits on state, never on time."""

import hashlib
import hmac
import json
import os
import pathlib
import ssl
import time
import urllib.error
import urllib.request

from playwright.sync_api import expect

DIRECTORY = pathlib.Path(os.environ["PAGE_DIRECTORY"])
URL = os.environ["PAGE_URL"]
TOKEN = os.environ["PAGE_TOKEN"]
WEBHOOK = os.environ["PAGE_WEBHOOK"]
SECRET = os.environ["PAGE_SECRET"]
SHOTS = os.environ.get("RALIO_RELAY_PAGE_SHOTS")
DEADLINE = 30.0

# The names of the addresses that every view is looked at under; `{seq}` and the like are filled in by `addresses`.
VIEWS = {
    "overview": "#/",
    "events": "#/events",
    "events-filtered": "#/events?type=payin.*&source=test",
    "events-none": "#/events?key=there-is-none",
    "event": "#/events/{seq}",
    "odd-event": "#/events/{odd}",
    "sinks": "#/sinks",
    "parked": "#/parked",
    "dead-letters": "#/dead-letters",
    "dead-letter": "#/dead-letters/{letter}",
    "quarantine": "#/quarantine",
    "quarantined": "#/quarantine/{request}",
    "replays": "#/replays",
    "replay": "#/replays/{replay}",
    "new-replay": "#/replays/new?sink=archive&from_seq={seq}&to_seq={seq}",
    "sources": "#/sources",
    "record": "#/record",
    "job": "#/record/{replay}",
    "not-found": "#/nowhere",
}

# Tells of everything that the content security policy stopped, and of scripts that ran without being the page's.
WATCH = """
window.stopped = [];
document.addEventListener('securitypolicyviolation', (event) => window.stopped.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""

# The page hears of a new address a little later; this waits until it has.
GO = """(to) => new Promise((done) => {
    const before = window.location.hash;
    window.addEventListener('hashchange', done, { once: true });
    window.location.hash = to;
    if (window.location.hash === before) done();
})"""


def api(path, body=None):
    """What the admin API answers."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{URL}api{path}", data, headers), timeout=10) as answer:
        return json.load(answer)


def send(event, secret=SECRET):
    """Delivers a webhook as Ralio would; the answer's status."""
    body = json.dumps(event).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-Signature": signature}
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    try:
        request = urllib.request.Request(WEBHOOK, body, headers)
        with urllib.request.urlopen(request, timeout=10, context=trusting) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def payin(event_id, order, **data):
    """A payin, in the current envelope."""
    data = {"status": "COMPLETED", "orderId": order, **data}
    return {"eventId": event_id, "eventType": "payin_completed", "timestamp": "2026-02-26T17:02:28.766Z", "data": data}


def eventually(what, ask):
    """The first answer that is not false; asks again and again."""
    end = time.monotonic() + DEADLINE
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, f"never saw {what}"
        time.sleep(0.05)


def seq_of(event_id):
    """An event's place in the log, once it is there."""
    found = eventually(event_id, lambda: api(f"/events?id={event_id}")["events"])
    return found[0]["seq"]


def addresses():
    """Every view's address, with what there is."""
    there = {
        "seq": seq_of("evt-people"),
        "odd": next(event["seq"] for event in api("/events?search=window.hacked")["events"] if event["id"].startswith("<img")),
        "letter": api("/dead-letters")["dead_letters"][0]["id"],
        "request": api("/quarantine")["quarantine"][0]["id"],
        "replay": (api("/replays")["replays"] or [api("/replays", {"sink": "archive", "to_seq": 1, "reason": "to look at"})])[0]["id"],
    }
    return {name: address.format(**there) for name, address in VIEWS.items()}


class Tab:
    """A tab with the page. Closing it fails on any console error, policy violation or request to somewhere else."""

    def __init__(self, browser, scheme="light", width=1280, height=800, scripts=(), zone=None):
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce", timezone_id=zone,
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(DEADLINE * 1000)
        self.complaints = []
        # An answer that says no is told in the console, too; tests that bring one about say so.
        self.expected = ()
        self.context.on("request", self._requested)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.add_init_script(WATCH)
        for script in scripts:
            self.page.add_init_script(script)

    def _requested(self, request):
        if not request.url.startswith(URL):
            self.complaints.append(f"request to {request.url}")

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(f"console {message.type}: {message.text} {message.location}")

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.check()
        elif SHOTS:
            self.page.screenshot(path=f"{SHOTS}/failed.png", full_page=True)
        self.context.close()

    def check(self):
        """Nothing to complain about so far."""
        stopped = self.page.evaluate("window.stopped ?? []")
        left = [text for text in self.complaints if not any(known in text for known in self.expected)]
        assert not stopped, f"stopped by the policy: {stopped}"
        assert not left, f"{self.page.url}: {left}"

    def sign_in(self, address="#/"):
        """With the token in the address, then on to this one."""
        self.page.goto(f"{URL}#token={TOKEN}")
        expect(self.page.locator("#main h1")).to_be_visible()
        if address != "#/":
            self.go(address)
        return self

    def go(self, address):
        """To an address of the page, and waits until it shows something."""
        self.page.evaluate(GO, address)
        self.settled()
        return self

    def settled(self):
        """Until the view has its first answer."""
        expect(self.page.locator("#main:not([aria-busy]) h1")).to_have_count(1)
        expect(self.page.locator("#found progress")).to_have_count(0)

    def button(self, name, within=None):
        """A button by its words."""
        return (within or self.page).get_by_role("button", name=name, exact=True)

    def confirm(self, verb, who="Ann Auditor", reason="because of a test"):
        """Answers the question that is open."""
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_label("Your name").fill(who)
        dialog.get_by_label("Reason").fill(reason)
        self.button(verb, dialog).click()
        expect(dialog).to_have_count(0)

    def shot(self, name):
        """A picture for people, where they want some."""
        if SHOTS:
            self.page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)
