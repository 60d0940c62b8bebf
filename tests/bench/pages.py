# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The recorder's page in a real browser, over a large record: first paint, and what an interaction takes until its result is
drawn.
"""

import json
import subprocess
import urllib.parse
import urllib.request
from statistics import median

from lib import BUILD, Process, free_port, wait_until
from lib.browser import Browser

# Acts, and calls back with the milliseconds until the condition holds and the frame after is drawn.
TIMED = """
const [act, condition, done] = arguments, holds = new Function("return " + condition);
const begin = performance.now(), deadline = begin + 20000;
new Function(act)();
const look = () => {
  if (performance.now() > deadline) done(-1);
  else if (holds()) requestAnimationFrame(() => setTimeout(() => done(performance.now() - begin)));
  else setTimeout(look, 1);
};
look();
"""
LOADED = """
const done = arguments[0];
const look = () => {
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  if (paint && document.querySelector(".tiles b")) done([paint.startTime, performance.now()]);
  else requestAnimationFrame(look);
};
look();
"""
ROWS = "document.querySelectorAll('.vbody .vrow a').length > 10"
FOUND = "document.querySelector('.vbody .vrow a')?.textContent === '{name}'"
BARS = "document.querySelectorAll('svg.lanes rect.bar').length > 0"
KEY = "document.querySelector('svg.lanes').dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))"
WINDOW = "(window.drawn !== document.querySelector('svg.lanes').innerHTML)"
MARK = "window.drawn = document.querySelector('svg.lanes').innerHTML; "


def interactions(page, guest, host):
    """{name: milliseconds}, one after the other."""
    def timed(act, condition):
        took = page.driver.execute_async_script(TIMED, act, condition)
        assert took >= 0, f"it never held: {condition}"
        return took

    name, uuid = guest
    page.open("#/guests")
    page.wait(lambda: page.run("return " + ROWS), "guests are listed")
    out = {}
    search = f"const s = document.querySelector('input[type=search]'); s.value = '{name}'; s.dispatchEvent(new Event('input'))"
    out["search a guest"] = timed(search, FOUND.format(name=name))
    out["open a guest"] = timed("document.querySelector('.vbody .vrow a').click()", BARS)
    out["zoom in"] = timed(MARK + KEY.format(key="+"), WINDOW)
    out["zoom out"] = timed(MARK + KEY.format(key="-"), WINDOW)
    page.open("#/guests")
    page.wait(lambda: page.run("return " + ROWS), "guests are listed")
    first = "document.querySelector('.vbody .vrow a').textContent"
    out["scroll by 10,000 guests"] = timed(
        f"window.first = {first}; scrollTo(0, document.body.scrollHeight / 2)",
        f"document.querySelector('.vbody .vrow a') && {first} !== window.first")
    total = "document.querySelector('.filters [role=status]').textContent"
    out["filter by state"] = timed(f"window.total = {total}; document.querySelectorAll('.chip')[2].click()", f"{total} !== window.total")
    out["open a host"] = timed(f"location.hash = '#/host/{host}'", BARS)
    out["open the log"] = timed("location.hash = '#/log'", "document.querySelector('form.filters') && document.querySelectorAll('tbody tr').length > 10")
    return out


def ask(url, path, **query):
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=60) as answer:
        return json.load(answer)


def section_page(report, arguments, new_bed):
    hosts, guests, events = (20, 400, 10000) if arguments.quick else (1000, 20000, 1000000 if arguments.full else 200000)
    report.say(f"## The page: {events:,} events of {hosts:,} hosts and {guests:,} guests, headless Chromium")
    report.say()
    with new_bed("/var/tmp") as bed:
        port, path = free_port(), bed.directory / "recorder.yaml"
        store = arguments.store or f"sqlite://{bed.directory}/record.db"
        if not arguments.store:
            subprocess.run([BUILD / "tests/bench/fill-store", store, str(hosts), str(guests), str(events), "30"], check=True,
                           stdout=subprocess.DEVNULL)
        path.write_text(f"store: {store}\nbrokers: [mqtt://127.0.0.1:1]\nhttp: {{listen: '127.0.0.1:{port}'}}\n")
        recorder = Process([BUILD / "virtspool-recorder", "run", "-c", path], bed.directory / "recorder.log")
        wait_until(lambda: "the web page is at" in recorder.output(), 60, recorder.output)
        url = f"http://localhost:{port}"
        answer = ask(url, "guests", state="running", limit=1, offset=guests // 4)["guests"][0]
        figures, paints, loads = {}, [], []
        for _ in range(2 if arguments.quick else 5):
            with Browser(url) as page:
                page.open()
                paint, load = page.driver.execute_async_script(LOADED)
                paints.append(paint)
                loads.append(load)
                for name, took in interactions(page, (answer["name"], answer["uuid"]), answer["host"]).items():
                    figures.setdefault(name, []).append(took)
        recorder.kill()
    rows = [["first paint", f"{median(paints):.0f}", f"{max(paints):.0f}"], ["overview filled", f"{median(loads):.0f}", f"{max(loads):.0f}"]]
    rows += [[name, f"{median(v):.0f}", f"{max(v):.0f}"] for name, v in figures.items()]
    report.table(["", "median ms", "most ms"], rows)
    report.figure("page: first paint, s", median(paints) / 1000, "<=", 1)
    report.figure("page: slowest interaction, ms", max(median(v) for v in figures.values()), "<=", 100)
    report.say()
