# SPDX-License-Identifier: LGPL-2.1-or-later
"""The recorder's page in a real browser: lists, time lines, live updates, hostile names, languages, narrow screens."""

import json
import re
import subprocess
import urllib.parse
import urllib.request
from datetime import datetime, timedelta, timezone

import pytest

from lib import BUILD, ROOT, domain_xml
from lib.browser import Browser
from lib.documents import domain_uuid

HOSTILE = {
    "script": "<script>document.title='owned'</script>",
    "image": "<img src=x onerror=document.title='owned'>",
    "attribute": "\" onmouseover=\"document.title='owned'",
    "rtl": "web\u202egnp.exe",
    "controls": "a\u0007b\u001b[31mc",
    "hidden": "we\u200bb",
    "arabic": "مرحبا",
    "template": "${7*7}{{7*7}}",
}


@pytest.fixture
def filled(bed):
    """A recorder with 4 hosts, 60 guests and 6,000 events; connected."""
    bed.broker.start()
    recorder = bed.recorder()
    subprocess.run([BUILD / "tests/bench/fill-store", recorder.store, "4", "60", "6000", "2"], check=True, capture_output=True)
    return recorder.start()


@pytest.fixture
def browser(filled):
    with Browser(filled.url) as page:
        yield page
        foreign = [u for u in page.requests() if urllib.parse.urlsplit(u).netloc != urllib.parse.urlsplit(filled.url).netloc]
        assert not [u for u in foreign if not u.startswith(("data:", "about:", "chrome:"))], "it asks nobody else"
        assert not page.complaints()


def api(recorder, path, **query):
    with urllib.request.urlopen(f"{recorder.url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=20) as answer:
        return json.load(answer)


def a_guest(recorder):
    return api(recorder, "guests", state="running", limit=1)["guests"][0]


def test_the_overview_counts(browser, filled):
    browser.open()
    summary = api(filled, "summary")
    browser.wait(lambda: f"{summary['events']:,}" in browser.text(".tiles"), "the tiles are filled")
    assert "Live" in browser.text("#live")
    browser.wait(lambda: "on" in browser.one("#live").get_attribute("class").split(), "the stream is open")
    assert len(browser.all("[aria-label='Recent operations'] li")) >= 20


def test_guests_are_searched_and_opened(browser, filled):
    browser.open("#/guests")
    browser.wait(lambda: len(browser.all(".vbody .vrow a")) > 20, "guests are listed")
    guest = a_guest(filled)
    browser.one("input[type=search]").send_keys(guest["name"])
    browser.wait(lambda: browser.text(".vbody .vrow:first-child a") == guest["name"], "the search finds it")
    assert guest["name"] in urllib.parse.unquote(browser.driver.current_url), "a link shows the same"
    browser.run("document.querySelector('.vbody .vrow').click()")
    browser.wait(lambda: browser.text("h1") == guest["name"], "the guest is shown")
    browser.wait(lambda: browser.all("svg.lanes rect.bar"), "its states are drawn")
    browser.driver.back()
    browser.wait(lambda: browser.text("h1") == "Guests", "back to the list")


def test_who_types_keeps_the_focus(browser, filled):
    """A view takes the focus in the frame after it is shown, however late that comes."""
    browser.open("#/")
    browser.run("window.frames_ = []; window.own = requestAnimationFrame; window.requestAnimationFrame = (f) => frames_.push(f);"
                "location.hash = '#/guests'")
    browser.wait(lambda: browser.all("input[type=search]"), "the view is shown")
    search = browser.one("input[type=search]")
    search.send_keys("gue")
    browser.run("window.requestAnimationFrame = own; for (const f of frames_) f()")
    browser.run("return document.activeElement").send_keys("st")
    assert search.get_attribute("value") == "guest"


def test_a_filter_by_state(browser, filled):
    browser.open("#/guests")
    browser.one(".chip[aria-pressed=true]")
    browser.run("[...document.querySelectorAll('.chip')].find((c) => c.textContent === 'stopped').click()")
    total = api(filled, "guests", state="stopped", limit=1)["total"]
    browser.wait(lambda: browser.text(".filters [role=status]") == str(total), "as many as the API says")
    badges = "return [...new Set([...document.querySelectorAll('.vbody .badge')].map((b) => b.textContent))]"
    browser.wait(lambda: browser.run(badges) == ["stopped"], "only those")


# Random filters, changes and answers in any order; the state that the server has when it is asked counts.
TABLE = """
const [seed, done] = arguments;
(async () => {
  const { VirtualTable } = await import("/page/table.js");
  let random = seed;
  const below = (n) => (random = (random * 48271) % 2147483647) % n;
  const frame = () => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)));
  let filter = 0, change = 0, asked = [];
  const table = new VirtualTable({ label: "x", columns: [{ title: "x", cell: (r) => r.text }], load: () => {
    const text = `${filter}.${change}`;
    return new Promise((answer) => asked.push(() => answer({ total: 1, rows: [{ text }] })));
  } });
  document.body.append(table.root);
  await frame();
  for (let step = 0; step < 12; step++) {
    const kind = below(4);
    if (kind === 0) { filter++; table.reset(); }
    else if (kind === 1) { change++; table.refresh(); }
    else if (asked.length) asked.splice(below(asked.length), 1)[0]();
    if (below(2)) await frame();
  }
  for (let quiet = 0; quiet < 3; quiet++) {
    if (asked.length) quiet = 0;
    for (const answer of asked.splice(0)) answer();
    await frame();
  }
  done([table.body.textContent, `${filter}.${change}`]);
  table.root.remove();
  table.destroy();
})();
"""


def test_a_list_shows_the_last_filter_and_the_last_change(browser, filled):
    """Whatever order the answers come in: a change while a filter's first answer is on its way must not leave the old list."""
    browser.open("#/")
    for seed in range(1, 41):
        shown, expected = browser.driver.execute_async_script(TABLE, seed)
        assert shown == expected, f"seed {seed}"


def test_older_events_belong_to_the_first_page(browser, filled):
    """Asked for once, however often the button is pressed; and left out if another filter's first page came before them."""
    browser.open("#/log")
    more = "[...document.querySelectorAll('footer button')].find((b) => !b.hidden)"
    browser.wait(lambda: browser.run(f"return Boolean({more})"), "there are older events")
    rows = "return [...document.querySelectorAll('tbody tr')].map((r) => r.children[2].textContent)"
    browser.run(f"{more}.click(); {more}.click()")
    browser.wait(lambda: len(browser.run(rows)) > 100, "older events are listed")
    assert len(browser.run(rows)) == 200
    browser.run("window.held = []; const own = fetch; window.fetch = (url, options) => String(url).includes('cursor=')"
                " ? new Promise((go) => held.push(() => go(own(url, options)))) : own(url, options)")
    browser.run(f"{more}.click()")
    guest = a_guest(filled)["name"]
    browser.one("input[name=guest]").send_keys(guest)
    browser.wait(lambda: set(browser.run(rows)) == {guest}, "the filter's first page is there")
    n = len(browser.run(rows))
    browser.run(f"window.done = 0; for (const go of held) go(); fetch('api/v1/summary').then(() => {{ done = 1; }})")
    browser.wait(lambda: browser.run(f"return done && !{more}?.disabled"), "the answer has come")
    assert set(browser.run(rows)) == {guest} and len(browser.run(rows)) == n


def window(browser):
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(browser.driver.current_url).fragment.partition("?")[2])
    return {k: v[0] for k, v in query.items()}


def test_a_timeline_is_zoomed_and_stepped_through_by_keyboard(browser, filled):
    guest = a_guest(filled)
    browser.open(f"#/guest/{guest['uuid']}")
    browser.wait(lambda: browser.all("svg.lanes rect.bar"), "its states are drawn")
    lanes = browser.one("svg.lanes")
    browser.run("arguments[0].focus()", lanes)
    lanes.send_keys("+")
    browser.wait(lambda: "from" in window(browser), "the window is in the address")
    before = window(browser)
    lanes.send_keys("+")
    browser.wait(lambda: window(browser)["from"] > before["from"] and window(browser)["to"] < before["to"], "a smaller window")
    lanes.send_keys("0")
    browser.run("arguments[0].focus()", lanes)
    lanes.send_keys("\ue012")  # arrow left: the last event
    browser.wait(lambda: "at" in window(browser), "the moment is in the address")
    browser.wait(lambda: "on " in browser.text(".moment"), "what was then is said")
    assert browser.text("#announce").startswith("At ")
    link = browser.driver.current_url
    browser.driver.get("about:blank")
    browser.driver.get(link)
    browser.wait(lambda: browser.all(".moment-line"), "the link shows the moment again")


def test_a_period_is_chosen_with_the_mouse(browser, filled):
    from selenium.webdriver.common.action_chains import ActionChains

    browser.open(f"#/guest/{a_guest(filled)['uuid']}")
    browser.wait(lambda: browser.all("svg.lanes rect.bar"), "its states are drawn")
    lanes = browser.one("svg.lanes")
    ActionChains(browser.driver).move_to_element_with_offset(lanes, -200, 0).click_and_hold().move_by_offset(250, 0).release().perform()
    browser.wait(lambda: "from" in window(browser), "the selected period is shown")
    shown = window(browser)
    hours = (datetime.fromisoformat(shown["to"][:-1]) - datetime.fromisoformat(shown["from"][:-1])).total_seconds() / 3600
    assert 1 < hours < 24
    browser.wait(lambda: re.search(r"What happened between .* and .*", browser.text("main")), "the events of the period are listed")
    ActionChains(browser.driver).move_to_element_with_offset(lanes, 10, 0).perform()
    browser.wait(lambda: browser.run("return document.querySelector('.tip.shown') !== null"), "hovering says what it is")


def test_a_host_shows_its_guests(browser, filled):
    host = api(filled, "hosts", limit=1)["hosts"][0]["host"]
    browser.open(f"#/host/{host}")
    guests = api(filled, f"hosts/{host}/timeline")["guests"]
    browser.wait(lambda: len(browser.all(".lane-label")) == 1 + len(guests), "a lane for it and for each guest")
    browser.wait(lambda: browser.all("svg.lanes rect.bar"), "states are drawn")


ASKED = """
const [hash, done] = arguments;
performance.clearResourceTimings();
location.hash = hash;
setTimeout(() => done(performance.getEntriesByType("resource").map((e) => e.name.split("/api/v1/")[1].split("?")[0]).sort()), 600);
"""


def test_a_view_asks_each_question_once(browser, filled):
    browser.open("#/hosts")
    lists = "return performance.getEntriesByType('resource').filter((e) => e.name.includes('/api/v1/hosts?')).length"
    browser.wait(lambda: browser.run(lists) >= 2, "the live stream has begun, and the list was read again because of that")
    guest = max(api(filled, "guests", limit=100)["guests"], key=lambda g: g["since"])["uuid"]
    for view, questions in [
        (f"#/guest/{guest}", [f"guests/{guest}", f"guests/{guest}/timeline", "log"]),
        ("#/host/host1", ["hosts/host1", "hosts/host1/timeline", "log"]),
        ("#/log", ["log"]),
        ("#/guests", ["guests"]),
        ("#/", ["operations", "summary"]),
    ]:
        assert browser.driver.execute_async_script(ASKED, view) == questions


def test_an_event_can_be_looked_at(browser):
    browser.open("#/log")
    browser.wait(lambda: browser.all("td button.link"), "events are listed")
    browser.run("document.querySelector('td button.link').click()")
    browser.wait(lambda: '"specversion": "1.0"' in browser.text("dialog pre"), "it is shown as it was sent")
    browser.run("document.querySelector('dialog button').click()")
    browser.wait(lambda: not browser.all("dialog"), "it closes")


def test_the_log_answers_what_happened_between_two_moments(browser, filled):
    now = datetime.now(timezone.utc)
    begin, end = (now - timedelta(hours=h) for h in (20, 19))
    text = [t.strftime("%Y-%m-%dT%H:%M:%SZ") for t in (begin, end)]
    expected = api(filled, "log", **{"from": text[0], "to": text[1], "limit": 1000})["events"]
    browser.open(f"#/log?from={text[0]}&to={text[1]}")
    browser.wait(lambda: len(browser.all("tbody tr")) == min(100, len(expected)), "exactly these events")


def test_live(bed, browser):
    browser.open("#/guests?q=fresh")
    browser.wait(lambda: "Nothing matches" in browser.text(".vmessage"), "it is not there yet")
    browser.wait(lambda: "on" in browser.one("#live").get_attribute("class").split(), "the stream is open")
    bed.daemon.start()
    for operation in ("prepare", "start", "started"):
        bed.hook(operation, "begin", domain="fresh-guest")
    browser.wait(lambda: "fresh-guest" in browser.text(".vbody") and "running" in browser.text(".vbody"), "it appears by itself")
    browser.run("document.querySelector('.vbody .vrow').click()")
    browser.wait(lambda: browser.text("h1") == "fresh-guest", "the guest is shown")
    bed.hook("stopped", "end", domain="fresh-guest")
    bed.hook("release", "end", "destroyed", domain="fresh-guest")
    browser.wait(lambda: browser.text(".head .badge") == "stopped", "it stops before our eyes")


def test_hostile_names_are_text(bed, browser):
    bed.daemon.start()
    for i, name in enumerate(HOSTILE.values()):
        xml = domain_xml("vm").replace(domain_uuid("vm").encode(), b"00000000-0000-0000-0000-%012d" % i)
        for operation in ("prepare", "start", "started"):
            bed.hook(operation, "begin", domain=name, document=xml)
    browser.open("#/guests?q=")
    seen = lambda: browser.run("return [...document.querySelectorAll('.vbody .vrow a bdi')].map((b) => b.textContent)")
    browser.one("input[type=search]").send_keys("owned")
    browser.wait(lambda: len(browser.all(".vbody .vrow")) == 3, "those with markup are found by their text")
    assert {HOSTILE["script"], HOSTILE["image"], HOSTILE["attribute"]} <= set(seen())
    for i in range(len(HOSTILE)):
        browser.open(f"#/guest/00000000-0000-0000-0000-{i:012d}")
        browser.wait(lambda: browser.all("svg.lanes rect.bar"), "it is drawn")
        assert "owned" not in browser.driver.title or "<" in browser.driver.title or '"' in browser.driver.title
        assert not browser.all("main script, main img"), "nothing became markup"
        heading = browser.text("h1")
        assert not re.search("[\u0000-\u001f\u202a-\u202e\u200b]", heading), "no character drives the page"
    browser.open("#/guest/00000000-0000-0000-0000-000000000003")
    browser.wait(lambda: "U+202E" in browser.text("h1"), "a reordering character is shown as what it is")


@pytest.mark.parametrize("path", ["#/", "#/hosts", "#/guests", "#/log", "guest", "host"])
def test_chinese_and_a_narrow_screen(filled, path):
    guest = a_guest(filled)
    path = {"guest": f"#/guest/{guest['uuid']}", "host": f"#/host/{guest['host']}"}.get(path, path)
    with Browser(filled.url, width=390, height=844, language="zh-CN", dark=True) as page:
        page.open(path)
        page.wait(lambda: page.all(".vbody .vrow a, .tiles .tile, rect.bar, td button.link"), "it is shown")
        assert page.run("return document.documentElement.lang") == "zh-CN"
        assert "虚拟机" in page.text("#nav") and not re.search(r"\b(Hosts|Guests|Loading|Since)\b", page.text("main"))
        assert page.run("return document.documentElement.scrollWidth") <= 390, "nothing is wider than the screen"
        background = page.run("return getComputedStyle(document.body).backgroundColor")
        assert max(map(int, re.findall(r"\d+", background)[:3])) < 64, f"dark: {background}"
        assert not page.complaints()


def test_every_word_is_in_both_languages():
    text = (ROOT / "spooler/recorder/page/text.js").read_text()
    english, chinese = re.search(r"en: {(.*?)\n  },\n  zh: {(.*?)\n  },", text, re.S).groups()
    keys = lambda s: set(re.findall(r'(?:^|[,{]\s*|\n\s*)"?([\w.\- ]+)"?: "', s))
    assert keys(english) - keys(chinese) == set()
    used = set()
    for file in (ROOT / "spooler/recorder/page").glob("*.js"):
        used |= set(re.findall(r'\bt\("([^"]+)"', file.read_text()))
    assert {u for u in used if not u.endswith(".")} <= keys(english), used - keys(english)
    for prefix in (u for u in used if u.endswith(".")):  # and what it is joined with
        assert [k for k in keys(english) if k.startswith(prefix)], prefix


def test_controls_have_names(browser, filled):
    """For a screen reader: each control and each drawing says what it is."""
    for path in ("#/", "#/guests", "#/log", f"#/guest/{a_guest(filled)['uuid']}"):
        browser.open(path)
        browser.wait(lambda: browser.all(".vbody .vrow a, .tiles .tile, rect.bar, td button.link"), "it is shown")
        nodes = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        roles = ("button", "link", "textbox", "searchbox", "combobox", "image", "table", "dialog")
        nameless = [n["role"]["value"] for n in nodes if not n.get("ignored") and n.get("role", {}).get("value") in roles and not n.get("name", {}).get("value")]
        assert not nameless, (path, nameless)


def test_a_real_destroy_is_seen(bed, filled):
    """virsh destroy, and the page says so: libvirt, hook, spool, daemon, broker, recorder, browser."""
    node = bed.node()
    bed.daemon.start()
    guest = node.guest("real").start()
    with Browser(filled.url) as page:
        page.open("#/guests?q=real")
        page.wait(lambda: "running" in page.text(".vbody"), "it runs", deadline=40)
        guest.destroy()
        page.wait(lambda: "stopped" in page.text(".vbody"), "it has stopped", deadline=40)
        assert not page.complaints()


def test_without_the_recorder_it_says_so_and_comes_back(filled):
    with Browser(filled.url) as page:
        page.open("#/guests")
        page.wait(lambda: "on" in page.one("#live").get_attribute("class").split(), "the stream is open")
        filled.stop()
        page.wait(lambda: "Reconnecting" in page.text("#live"), "it says that the connection is lost")
        filled.start()
        page.wait(lambda: page.text("#live") == "Live", "it comes back by itself", deadline=40)
