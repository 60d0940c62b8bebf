// SPDX-License-Identifier: LGPL-2.1-or-later
// views - overview, hosts, guests, one host, one guest, the log.

import { NotFound, encode, get, iso, ms } from "./api.js";
import { h, plain, shown } from "./dom.js";
import { VirtualTable } from "./table.js";
import { ago, duration, full, number, outcomeWord, precise, t, when, word } from "./text.js";
import { Timeline, controls, describe, isCrash, legend, outcomeClass, stateClass } from "./timeline.js";

const DAY = 86400000, GUEST_STATES = ["running", "paused", "incoming", "crashed", "stopped", "unknown"], HOST_STATES = ["online", "offline", "silent"];

// --- small pieces

const moment = (time, text = when) => (time === null || time === undefined ? t("never") : h("time", { datetime: iso(ms(time)), title: precise(ms(time)) }, text(ms(time))));
const badge = (state) => h("span", { class: "badge " + stateClass(state) }, word(state));
const outcome = (o) => h("span", { class: "outcome " + outcomeClass(o) }, outcomeWord(o));
// Of a stop the reason says more than that it succeeded.
const result = (o) => (o.kind === "stop" && o.reason && o.outcome === "success" ? h("span", { class: "outcome " + (isCrash(o) ? "bad" : "quiet") }, shown(word(o.reason)))
  : [outcome(o.outcome), o.reason ? h("span", { class: "quiet" }, shown(word(o.reason))) : ""]);
// The source's stop is a part of the migration.
const isOwn = (o) => !(o.kind === "stop" && o.reason === "migrated");
const guestLink = (uuid, name, query = "") => h("a", { href: `#/guest/${encode(uuid)}${query}` }, shown(name || uuid));
const hostLink = (host, query = "") => (host ? h("a", { href: `#/host/${encode(host)}${query}` }, shown(host)) : "–");
const lag = (seconds) => (seconds === null || seconds === undefined ? "–" : duration(seconds * 1000));
const lasted = (o) => duration((ms(o.end) ?? Date.now()) - ms(o.begin));
const holes = (n) => (n ? h("span", { class: "count-bad" }, t("holes.open", { n: number(n) })) : h("span", { class: "quiet" }, t("holes.none")));
const card = (title, ...content) => h("section", { class: "card", "aria-label": title }, h("header", {}, h("h2", {}, title)), content);
const around = (time, span = 1800000) => `?from=${iso(ms(time) - span)}&to=${iso(ms(time) + span)}&at=${iso(ms(time))}`;

// The browser has drawn what is there. Where it does not say when it is idle, the next frame will do.
const drawn = () => new Promise((done) => (window.requestIdleCallback ?? requestAnimationFrame)(done, { timeout: 100 }));

function debounce(f, pause) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => f(...args), pause);
  };
}

// Runs load again when asked to, one at a time, the last one wins; failures are shown and tried again.
function loader(main, load) {
  let abort = null, timer = 0, gone = false;
  const note = h("p", { class: "problem-note", role: "alert", hidden: true });
  main.append(note);
  async function run() {
    clearTimeout(timer);
    abort?.abort();
    const mine = (abort = new AbortController());
    try {
      await load(mine.signal);
      if (mine === abort) note.hidden = true;
    } catch (e) {
      if (gone || mine !== abort || e.name === "AbortError") return;
      if (e instanceof NotFound) throw e;
      note.textContent = e instanceof TypeError ? t("error.network") : t("error.answer", { text: plain(e.message) });
      note.hidden = false;
      timer = setTimeout(run, 3000);
    }
  }
  return { run, soon: debounce(run, 120), destroy: () => {
    gone = true;
    clearTimeout(timer);
    abort?.abort();
  } };
}

// --- overview

function overview({ main }) {
  const tiles = h("div", { class: "tiles" }), problems = h("ul", { class: "list" }), recent = h("ul", { class: "list" });
  main.append(h("h1", { class: "hidden" }, t("overview")), tiles,
    h("div", { class: "columns" }, card(t("attention"), problems), card(t("recent"), recent)));
  const load = loader(main, async (signal) => {
    const [s, ops] = await Promise.all([get("summary", {}, signal), get("operations", { limit: 40 }, signal)]);
    const tile = (name, value, note, href, bad) => h("a", { class: "card tile" + (bad ? " bad" : ""), href }, h("small", {}, t(name)), h("b", {}, number(value)), h("small", {}, note));
    const states = s.guests.states, quietly = Object.entries(states).filter(([k, n]) => k !== "running" && n).map(([k, n]) => `${number(n)} ${word(k)}`).join(" · ");
    tiles.replaceChildren(
      tile("tile.hosts", s.hosts.online, t("tile.of", { n: number(s.hosts.total) }), "#/hosts", s.hosts.silent > 0),
      tile("tile.guests", states.running || 0, quietly || t("tile.of", { n: number(s.guests.total) }), "#/guests"),
      tile("tile.holes", s.holes.missing, s.holes.open ? t("tile.inholes", { n: number(s.holes.open) }) : t("tile.complete"), "#/hosts?sort=holes", s.holes.open > 0),
      tile("tile.events", s.events, s.rejects ? t("tile.rejects", { n: number(s.rejects) }) : full(ms(s.now)), "#/log"));
    const rest = s.problems.total - s.problems.items.length;
    problems.replaceChildren(...s.problems.items.map((p) => h("li", {},
      h("span", { class: "sign" + (p.kind === "guest-flapping" || p.kind === "hole-open" ? " warn" : ""), "aria-hidden": "true" }),
      h("span", { class: "main" }, t("problem." + p.kind), ": ", p.guest ? guestLink(p.guest, p.name, p.since ? around(p.since) : "") : hostLink(p.host, p.since ? around(p.since) : ""),
        p.guest && p.host ? [" · ", hostLink(p.host)] : "", p.other ? [" + ", hostLink(p.other)] : "", p.count > 1 ? ` (${number(p.count)})` : ""),
      p.since ? moment(p.since, ago) : "")), rest > 0 ? h("li", { class: "quiet" }, t("problem.more", { n: number(rest) })) : "");
    if (!s.problems.total) problems.replaceChildren(h("li", { class: "quiet" }, t("attention.none")));
    recent.replaceChildren(...ops.operations.filter(isOwn).slice(0, 25).map((o) => h("li", {}, h("span", { class: "main" },
      word(o.kind), " ", guestLink(o.guest, o.name, around(o.begin)), " · ", o.source ? [hostLink(o.source), " → "] : "", hostLink(o.host)),
    result(o), h("span", { class: "quiet" }, moment(o.begin, when)))));
    if (!ops.operations.length) recent.replaceChildren(h("li", { class: "quiet" }, t("none")));
  });
  load.run();
  const clock = setInterval(load.soon, 60000);
  return { changed: load.soon, destroy: () => {
    clearInterval(clock);
    load.destroy();
  } };
}

// --- lists of hosts and of guests

function filters({ placeholder, states, query, remember, apply }) {
  const value = { q: query.get("q") || "", state: query.get("state") || "" };
  const search = h("input", { type: "search", placeholder, "aria-label": placeholder, value: value.q, spellcheck: "false", autocomplete: "off" });
  const chips = h("span", { class: "group", role: "group", "aria-label": t("state") });
  const total = h("span", { class: "quiet", role: "status" });
  const changed = () => {
    remember(value);
    draw();
    apply();
  };
  const draw = () => chips.replaceChildren(...["", ...states].map((s) => h("button", { type: "button", class: "chip", "aria-pressed": String(value.state === s), onclick: () => {
    value.state = s;
    changed();
  } }, s ? word(s) : t("all"))));
  search.addEventListener("input", () => {
    value.q = search.value.trim();
    changed();
  });
  draw();
  return { value, root: h("div", { class: "filters" }, search, chips, total), total: (n) => (total.textContent = t("count.all", { n: number(n) })),
    navigate: (q) => {
      value.q = q.get("q") || "";
      value.state = q.get("state") || "";
      search.value = value.q;
      draw();
      apply();
    } };
}

function list({ main, title, filter, table, pause = 400 }) {
  table.onTotal = filter.total;
  main.append(h("div", { class: "head" }, h("h1", {}, title)), filter.root, h("section", { class: "card" }, table.root));
  const refresh = debounce(() => table.refresh(), pause), clock = setInterval(refresh, 30000);
  return { changed: refresh, navigate: filter.navigate, destroy: () => {
    clearInterval(clock);
    table.destroy();
  } };
}

function hosts({ main, query, remember }) {
  const filter = filters({ placeholder: t("search.hosts"), states: HOST_STATES, query, remember, apply: () => table.reset() });
  const sort = query.get("sort") || undefined;
  const table = new VirtualTable({
    label: t("hosts"), href: (r) => `#/host/${encode(r.host)}`,
    load: async (offset, limit) => {
      const a = await get("hosts", { q: filter.value.q, state: filter.value.state, sort, offset, limit });
      return { total: a.total, rows: a.hosts };
    },
    columns: [
      { title: t("host"), cls: "wide", cell: (r) => hostLink(r.host) },
      { title: t("state"), cell: (r) => badge(r.state) },
      { title: t("last seen"), cls: "extra", cell: (r) => moment(r.last_seen, ago) },
      { title: t("lag"), cls: "end extra", help: t("lag.help"), cell: (r) => lag(r.lag) },
      { title: t("holes"), help: t("holes.help"), cell: (r) => holes(r.missing) },
      { title: t("guests.running"), cls: "end narrow extra", cell: (r) => number(r.running) },
    ],
  });
  return list({ main, title: t("hosts"), filter, table });
}

const guestColumns = (withHost) => [
  { title: t("name"), cls: "wide", cell: (r) => guestLink(r.uuid, r.name) },
  { title: t("state"), cell: (r) => [badge(r.state), r.also.length ? h("span", { class: "count-bad" }, " ×", number(r.also.length + 1)) : ""] },
  withHost && { title: t("host"), cell: (r) => hostLink(r.host) },
  { title: t("since"), cls: "extra", cell: (r) => moment(r.since) },
  { title: t("reason"), cls: "extra", cell: (r) => (r.reason ? shown(word(r.reason)) : "") },
].filter(Boolean);

// Since when the guests of the last list have been as they are: whoever opens one asks for the right period at once.
let listed = new Map();

function guests({ main, query, remember }) {
  const filter = filters({ placeholder: t("search.guests"), states: GUEST_STATES, query, remember, apply: () => table.reset() });
  const table = new VirtualTable({
    label: t("guests"), href: (r) => `#/guest/${encode(r.uuid)}`, columns: guestColumns(true),
    load: async (offset, limit) => {
      const a = await get("guests", { q: filter.value.q, state: filter.value.state, offset, limit });
      listed = new Map(a.guests.map((g) => [g.uuid, ms(g.since)]));
      return { total: a.total, rows: a.guests };
    },
  });
  return list({ main, title: t("guests"), filter, table });
}

// --- events as a table, newest first

function eventRows(events, { withGuest, withHost, openEvent, at }) {
  return events.map((e) => h("tr", at !== null && ms(e.time) === at ? { class: "now" } : {},
    h("td", {}, moment(e.time)), withHost && h("td", {}, hostLink(e.host)),
    withGuest && h("td", {}, e.guest ? guestLink(e.guest, e.name, around(e.time)) : shown(e.name || "–")),
    h("td", {}, h("button", { type: "button", class: "link", title: t("expand"), onclick: () => openEvent(e) }, shown(e.operation))),
    h("td", {}, e.reason ? shown(word(e.reason)) : "", e.replayed ? h("small", { class: "quiet" }, " " + t("replayed")) : "",
      e.signature === "unchecked" ? "" : h("small", { class: "signature " + plain(e.signature), title: t("signature.title." + e.signature) }, t("signature." + e.signature))),
    h("td", { class: "extra quiet" }, ["api", "hook", "spooler"].includes(e.origin) ? t(e.origin) : shown(e.origin))));
}

class EventList {
  constructor({ withGuest = false, withHost = true, query, main }) {
    this.options = { withGuest, withHost, openEvent: (e) => openEvent(main, e), at: null };
    this.query = query;
    this.body = h("tbody");
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.loadOlder() }, t("events.more"));
    this.firstPages = 0; // that were shown
    this.status = h("p", { class: "empty" }, t("loading"));
    const columns = [t("time"), withHost && t("host"), withGuest && t("guest"), t("operation"), t("reason")].filter(Boolean);
    this.root = h("div", {}, h("div", { class: "scroller" }, h("table", { "aria-label": t("events") }, h("thead", {}, h("tr", {}, columns.map((c) => h("th", { scope: "col" }, c)), h("th", { scope: "col", class: "extra" }, t("origin")))), this.body)),
      this.status, h("footer", {}, this.more));
    this.footer = this.more.parentNode;
    this.footer.hidden = true;
  }

  async load(signal) {
    const answer = await get("log", { ...this.query(), limit: 100 }, signal);
    this.firstPages++;
    this.n = 0;
    this.body.replaceChildren();
    this.add(answer);
    return this.n + (answer.next ? "+" : "");
  }

  // What comes after a first page that is gone by then does not follow on the one that is there.
  async loadOlder() {
    const after = this.firstPages;
    this.more.disabled = true;
    try {
      const answer = await get("log", { ...this.query(), cursor: this.next, limit: 100 });
      if (after === this.firstPages) this.add(answer);
    } catch {
      this.status.textContent = t("error.network");
      this.status.hidden = false;
    } finally {
      this.more.disabled = false;
    }
  }

  add(answer) {
    this.body.append(...eventRows(answer.events, this.options));
    this.n += answer.events.length;
    this.next = answer.next;
    this.more.hidden = this.footer.hidden = !answer.next;
    this.status.hidden = this.n > 0;
    this.status.textContent = t("none.filter");
  }
}

async function openEvent(main, e) {
  const text = h("pre", {}, t("loading")), dialog = h("dialog", { "aria-label": t("event"), onclose: () => dialog.remove(), onclick: (c) => c.target === dialog && dialog.close() },
    h("header", {}, h("h2", {}, t("raw", { id: plain(e.id) })), h("span", { class: "grow" }), h("button", { type: "button", onclick: () => dialog.close() }, t("close"))), text);
  main.append(dialog);
  dialog.showModal();
  try {
    const event = await get(`events/${encode(e.host)}/${encode(e.id)}`);
    text.replaceChildren(...JSON.stringify(event, null, 2).split("\n").flatMap((line) => [shown(line), "\n"]));
  } catch (error) {
    text.textContent = t("error.answer", { text: plain(error.message) });
  }
}

// --- a guest, a host: a timeline, what happened in its window, and what was at a moment

function windowOf(query) {
  const from = Date.parse(query.get("from")), to = Date.parse(query.get("to")), now = Date.now();
  const at = Date.parse(query.get("at"));
  const chosen = from < to;
  return { from: chosen ? from : now - DAY, to: chosen ? to : now + DAY * 0.02, following: !chosen, at: Number.isNaN(at) ? null : at, chosen };
}

const bars = (states) => states.map((b) => ({ ...b, from: ms(b.from), to: ms(b.to) }));
const marks = (operations) => operations.filter((o) => o.kind !== "migration").map((o) => ({ operation: o.kind, host: o.host, from: ms(o.begin), to: ms(o.end), outcome: o.outcome, reason: o.reason }));
const holeMarks = (list, host) => list.filter((x) => !host || x.host === host).map((x) => ({ ...x, from: ms(x.from), to: ms(x.to) }));

// What guest and host share. lanes(answer) makes the timeline's data; facts(signal) fills the head.
function detail({ main, query, remember, announce, title, path, begin, lanes, facts, events, mine }) {
  const w = windowOf(query), heading = h("div", { class: "head" }), info = h("dl", { class: "facts" });
  const counts = h("span", { class: "quiet" }), betweenTitle = h("h2", {}), point = h("div", { class: "moment", hidden: true });
  let data = null;
  const timeline = new Timeline({ label: t("timeline.of", { name: plain(title) }), from: w.from, to: w.to, following: w.following, moment: w.at, handlers: {
    window: (from, to, following) => {
      remember(following ? { from: null, to: null } : { from: iso(from), to: iso(to) });
      if (following) remember({ span: Math.round((to - from) / 1000) });
      else remember({ span: null });
      bar.update();
      load.soon();
    },
    moment: (at) => {
      remember({ at: at === null ? null : iso(at) }, true);
      timeline.setMoment(at);
      showMoment(true);
    },
  } });
  const span = Number(query.get("span")) * 1000;
  if (w.following && span > 0) timeline.setWindow(Date.now() - span, Date.now() + span * 0.02, true, true);
  const log = new EventList({ ...events, main, query: () => ({ ...events.query, from: iso(timeline.from), to: iso(timeline.to) }) });

  let first = !w.chosen && !span;
  if (first && begin) firstWindow(begin);
  const load = loader(main, async (signal) => {
    try {
      const [a] = await Promise.all([facts(heading, info, signal), draw(signal)]);
      if (first && a.begin && firstWindow(a.begin)) await draw(signal);
      first = false;
    } catch (e) {
      if (!(e instanceof NotFound)) throw e;
      clearTimeout(patience);
      main.replaceChildren(h("p", { class: "card empty" }, t(path.startsWith("hosts") ? "not.host" : "not.guest")));
    }
  });
  let patience = setTimeout(place, 150);
  load.run(); // what stands around the answer is built while it is on its way

  const bar = controls(timeline);
  const parts = [heading, h("section", { class: "card", "aria-label": t("state") }, info),
    h("section", { class: "card", "aria-label": t("timeline") }, h("header", {}, h("h2", {}, t("timeline"))), bar.bar, timeline.root, point, legend(["running", "paused", "incoming", "stopped", "crashed", "unknown"]),
      h("p", { class: "help keys" }, t("timeline.help")), h("p", { class: "help touch" }, t("timeline.touch"))),
    h("section", { class: "card events", "aria-label": t("between.pick") }, h("header", {}, betweenTitle, counts), log.root)];

  // An answer that comes soon is shown in one frame with all around it: a frame without it costs as much.
  function place() {
    if (patience) main.prepend(...parts);
    clearTimeout(patience);
    patience = 0;
  }

  function showMoment(say) {
    const at = timeline.moment;
    point.hidden = at === null;
    log.options.at = at;
    if (at === null || !data) return;
    const items = data.lanes.flatMap((lane) => [...lane.bars.filter((b) => b.from <= at && (b.to ?? Infinity) > at && b.state !== "absent").map((b) => describeState(b, lane)),
      ...lane.holes.filter((x) => x.from <= at && x.to >= at).map((x) => t("moment.hole", { host: plain(x.host), first: x.first, last: x.last }))]);
    const near = [...data.links.map((l) => ({ ...l, kind: "link" })), ...data.lanes.flatMap((l) => l.marks.map((m) => ({ ...m, kind: "mark" })))].filter((o) => o.from <= at && (o.to ?? Infinity) >= at);
    const lines = [...items, ...near.map(describe)];
    point.replaceChildren(h("strong", {}, t("moment", { time: precise(at) })), h("ul", {}, (lines.length ? lines.slice(0, 8) : [t("moment.nothing")]).map((l) => h("li", {}, l))),
      h("button", { type: "button", onclick: copyLink }, t("moment.link")), h("button", { type: "button", onclick: () => timeline.handlers.moment(null) }, t("moment.close")));
    if (say) announce(`${t("moment", { time: precise(at) })}: ${lines.slice(0, 3).join("; ") || t("moment.nothing")}`);
  }

  const describeState = (b, lane) => (lane.kind === "guest" ? plain(lane.label) + ": " : "") + t(b.to === null ? "moment.stateopen" : "moment.state",
    { state: word(b.state), host: plain(b.host ?? lane.label), from: when(b.from), to: when(b.to ?? Date.now()) });

  async function copyLink(e) {
    // The window goes into the link as well, so that it shows the same to whoever opens it.
    const [base, old] = location.href.split("?"), q = new URLSearchParams(old);
    q.delete("span");
    q.set("from", iso(timeline.from));
    q.set("to", iso(timeline.to));
    const button = e.currentTarget;
    try {
      await navigator.clipboard.writeText(`${base}?${q}`);
      button.textContent = t("copied");
      announce(t("copied"));
    } catch {
      prompt(t("moment.link"), `${base}?${q}`); // without TLS there is no clipboard
    }
  }

  // What happened in the window: first the time line, then the events below it.
  async function draw(signal) {
    const period = { from: iso(timeline.from), to: iso(timeline.to) };
    const answer = await get(path + "/timeline", period, signal);
    data = lanes(answer);
    timeline.setData({ ...data, truncated: answer.truncated });
    place();
    betweenTitle.textContent = t("between", { from: full(ms(period.from)), to: full(ms(period.to)) });
    showMoment(false);
    await drawn();
    bar.update();
    const events = await log.load(signal);
    counts.textContent = t("between.counts", { operations: number(answer.operations.length), events });
  }

  // Without a chosen period: the last day, or back to the last event if that was earlier.
  function firstWindow(begin) {
    if (begin > timeline.from) return false;
    const now = Date.now(), s = Math.max(DAY, (now - begin) * 1.1);
    timeline.setWindow(now - s, now + s * 0.02, true, true);
    return true;
  }

  const clock = setInterval(() => {
    if (!timeline.following) return;
    const s = timeline.to - timeline.from, now = Date.now();
    timeline.setWindow(now - s / 1.02, now + s - s / 1.02, true, true);
  }, 1000);
  return {
    changed: (change) => (change.all || mine(change)) && load.soon(),
    navigate: (q) => {
      const n = windowOf(q);
      timeline.setWindow(n.from, n.to, n.following, true);
      timeline.setMoment(n.at);
      showMoment(true);
      load.soon();
    },
    destroy: () => {
      clearInterval(clock);
      clearTimeout(patience);
      timeline.destroy();
      load.destroy();
    },
  };
}

const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

function guest(frame) {
  const uuid = frame.path[0], path = "guests/" + encode(uuid);
  return detail({ ...frame, title: uuid, path, begin: listed.get(uuid), events: { query: { guest: uuid } }, mine: (change) => change.guests.has(uuid),
    facts: async (heading, info, signal) => {
      const g = await get(path, {}, signal);
      heading.replaceChildren(h("h1", {}, shown(g.name || g.uuid)), badge(g.state));
      document.title = `${plain(g.name || g.uuid)} · virtspool`;
      info.replaceChildren(...[fact(t("host"), hostLink(g.host), g.also.map((x) => [" + ", hostLink(x)])), fact(t("since"), moment(g.since, full)), g.reason && fact(t("reason"), shown(word(g.reason))),
        fact(t("uuid"), shown(g.uuid)), fact(t("driver"), shown(g.driver)),
        g.migration && fact(t("migration"), hostLink(g.migration.source), " → ", hostLink(g.migration.host), " ", outcome(g.migration.outcome))].filter(Boolean));
      return { begin: ms(g.since) };
    },
    lanes: (a) => {
      const names = [...new Set([...a.states.map((x) => x.host), ...a.operations.flatMap((o) => [o.source, o.host]), ...a.holes.map((x) => x.host)].filter(Boolean))];
      const operations = marks(a.operations);
      return { lanes: names.map((host) => ({ id: host, kind: "host", label: host, href: `#/host/${encode(host)}`, bars: bars(a.states.filter((x) => x.host === host)),
        marks: operations.filter((m) => m.host === host), holes: holeMarks(a.holes, host) })), links: links(a.operations), stops: stops(a) };
    } });
}

const links = (operations) => operations.filter((o) => o.kind === "migration").map((o) => ({ source: o.source, host: o.host, from: ms(o.begin), to: ms(o.end), outcome: o.outcome, reason: o.reason }));
const stops = (a) => [...a.states.flatMap((x) => [ms(x.from), ms(x.to)]), ...a.operations.flatMap((o) => [ms(o.begin), ms(o.end)])].filter((x) => x !== null);

function host(frame) {
  const name = frame.path[0], path = "hosts/" + encode(name);
  return detail({ ...frame, title: name, path, events: { query: { host: name }, withGuest: true, withHost: false }, mine: (change) => change.hosts.has(name),
    facts: async (heading, info, signal) => {
      const x = await get(path, {}, signal);
      heading.replaceChildren(h("h1", {}, shown(x.host)), badge(x.state));
      document.title = `${plain(x.host)} · virtspool`;
      info.replaceChildren(fact(t("last seen"), moment(x.last_seen, full)), fact(t("lag"), lag(x.lag)), fact(t("holes"), holes(x.missing)), fact(t("guests.running"), number(x.running)),
        fact(t("complete to"), number(x.complete_to), " / ", number(x.sequence)), fact(t("epoch"), shown(x.epoch ?? "–")));
      return { begin: ms(x.last_seen) };
    },
    lanes: (a) => {
      const own = { id: name, kind: "host", label: name, bars: bars(a.host_states), marks: [], holes: holeMarks(a.holes) };
      const operations = Map.groupBy(a.operations, (o) => o.guest);
      const of = a.guests.map((g) => ({ id: g.uuid, kind: "guest", label: g.name || g.uuid, href: `#/guest/${encode(g.uuid)}`, bars: bars(g.states), marks: marks(operations.get(g.uuid) || []), holes: [] }));
      return { lanes: [own, ...of], links: [], stops: stops({ states: a.guests.flatMap((g) => g.states), operations: a.operations }) };
    } });
}

// --- the log: what happened between two moments, on all hosts

function logView({ main, query, remember }) {
  const value = Object.fromEntries(["host", "guest", "operation", "from", "to"].map((k) => [k, query.get(k) || ""]));
  const local = (time) => (time ? new Date(Date.parse(time) - new Date(time).getTimezoneOffset() * 60000).toISOString().slice(0, 19) : "");
  const input = (name, type, attributes = {}) => h("label", { class: "quiet" }, t(name), h("input", { type, name, value: type === "search" ? value[name] : local(value[name]), ...attributes }));
  const events = new EventList({ withGuest: true, main, query: () => value });
  const apply = () => {
    for (const i of form.querySelectorAll("input")) value[i.name] = i.type === "search" ? i.value.trim() : i.value ? iso(Date.parse(i.value)) : "";
    remember(value);
    load.soon();
  };
  const form = h("form", { class: "filters", role: "search", oninput: debounce(apply, 200), onsubmit: (e) => {
    e.preventDefault();
    apply();
  } }, input("host", "search"), input("guest", "search", { placeholder: t("search.guests") }), input("operation", "search"), input("from", "datetime-local", { step: 1 }), input("to", "datetime-local", { step: 1 }),
  h("button", { type: "button", onclick: () => {
    for (const i of form.querySelectorAll("input")) i.value = "";
    apply();
  } }, t("clear")));
  main.append(h("div", { class: "head" }, h("h1", {}, t("log"))), form, h("section", { class: "card", "aria-label": t("events") }, events.root));
  const load = loader(main, (signal) => events.load(signal));
  load.run();
  // Rows below the first page stay as they are while somebody reads them.
  return { changed: () => scrollY < 400 && events.n <= 100 && load.soon(), destroy: load.destroy };
}

function missing({ main }) {
  main.append(h("p", { class: "card empty" }, t("notfound")));
  return {};
}

export const views = { overview, hosts, guests, host, guest, log: logView, missing };
