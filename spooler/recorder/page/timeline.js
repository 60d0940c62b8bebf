// SPDX-License-Identifier: LGPL-2.1-or-later
// timeline - lanes over time, as SVG: states as bars, operations as marks, migrations as lines between
// lanes, holes hatched.
//
// The owner gives data for a window and is asked for more when the window moves (onWindow). Only what is
// visible is drawn: lanes by the scroll position, bars by the window, and bars too narrow to see become
// one dense bar that says how many changes it stands for.

import { h, plain, s, shown } from "./dom.js";
import { duration, full, outcomeWord, precise, t, tick, when, word } from "./text.js";

const LANE = 30, BAR = 16, THIN = 5, AXIS = 24, NARROW = 1.5;
const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const SPAN_MIN = 50, SPAN_MAX = 20 * 366 * DAY;
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 30 * SECOND, MINUTE, 2 * MINUTE,
  5 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY];
export const STATES = ["running", "paused", "incoming", "starting", "stopping", "stopped", "saved", "crashed", "unknown", "online", "offline", "silent"];

export const stateClass = (state) => "state-" + (STATES.includes(state) ? state : "other");
export const outcomeClass = (outcome) => ({ failed: "bad", success: "good" })[outcome] || "open";

// A stop that nobody asked for.
export const isCrash = (o) => (o.kind === "stop" || o.operation === "stop") && ["crashed", "panicked", "failed"].includes(o.reason);

let serial = 0;

export class Timeline {
  // handlers: window(from, to, following), moment(ms or null)
  constructor({ label, from, to, following, moment, handlers }) {
    this.id = "t" + ++serial;
    this.handlers = handlers;
    this.from = from;
    this.to = to;
    this.following = following;
    this.moment = moment;
    this.lanes = [];
    this.links = [];
    this.stops = [];
    this.build(label);
  }

  build(label) {
    this.tip = h("div", { class: "tip", "aria-hidden": "true" });
    this.labels = h("div", { class: "lane-labels" });
    this.back = s("g");
    this.front = s("g");
    this.over = s("g");
    this.svg = s("svg", { role: "img", "aria-label": label, tabindex: 0, class: "lanes" }, this.patterns(), this.back, this.front, this.over);
    this.axis = s("svg", { class: "axis", "aria-hidden": "true", height: AXIS });
    this.scroll = h("div", { class: "lane-scroll", onscroll: () => this.redraw() }, this.labels, this.svg);
    this.notice = h("p", { class: "notice", hidden: true }, t("truncated"));
    this.root = h("div", { class: "timeline" }, h("div", { class: "axis-row" }, h("div", { class: "corner" }), this.axis), this.scroll, this.tip, this.notice);
    this.listen();
    this.sizes = new ResizeObserver(() => this.redraw());
    this.sizes.observe(this.scroll);
  }

  patterns() {
    const lines = (id, cls) => s("pattern", { id: this.id + id, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      s("rect", { width: 6, height: 6, class: cls + "-back" }), s("rect", { width: 2.5, height: 6, class: cls }));
    return s("defs", {}, lines("hole", "hatch-hole"), lines("unknown", "hatch-unknown"));
  }

  destroy() {
    this.sizes.disconnect();
    cancelAnimationFrame(this.frame);
    this.frame = -1;
  }

  // lanes: [{id, label, href, note, bars: [{from, to, state, reason, host}], marks: [{from, to, kind, outcome, host}], holes: [...]}]
  // links: [{source, host, from, to, outcome}] between lanes by id; stops: moments that the keyboard steps through
  setData({ lanes, links = [], stops = [], truncated = false }) {
    for (const lane of lanes) {
      lane.bars.sort((a, b) => a.from - b.from);
      lane.marks?.sort((a, b) => a.from - b.from);
    }
    this.lanes = lanes;
    this.links = links;
    this.stops = [...new Set(stops)].sort((a, b) => a - b);
    this.notice.hidden = !truncated;
    this.index = new Map(lanes.map((l, i) => [l.id, i]));
    this.labels.replaceChildren(...lanes.map((l) => h("div", { class: "lane-label", title: plain(l.label) },
      l.href ? h("a", { href: l.href }, shown(l.label)) : shown(l.label), l.note ? h("small", {}, l.note) : null)));
    this.redraw();
  }

  setMoment(ms) {
    this.moment = ms;
    this.redraw();
  }

  setWindow(from, to, following = false, quiet = false) {
    let span = Math.min(Math.max(to - from, SPAN_MIN), SPAN_MAX);
    const middle = (from + to) / 2;
    this.from = Math.max(0, Math.round(middle - span / 2));
    this.to = Math.round(this.from + span);
    this.following = following;
    this.redraw();
    if (!quiet) this.handlers.window(this.from, this.to, following);
  }

  zoom(factor, at = (this.from + this.to) / 2) {
    this.setWindow(at - (at - this.from) * factor, at + (this.to - at) * factor);
  }

  pan(part) {
    const d = (this.to - this.from) * part;
    this.setWindow(this.from + d, this.to + d);
  }

  x(ms) { return ((ms - this.from) / (this.to - this.from)) * this.width; }
  at(x) { return this.from + (x / this.width) * (this.to - this.from); }

  // --- drawing

  redraw() {
    if (this.frame || !this.index) return; // the first data is not there yet
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw() {
    this.width = Math.max(10, Math.floor(this.scroll.clientWidth - this.labels.offsetWidth));
    const height = Math.max(1, this.lanes.length) * LANE;
    for (const [svg, tall] of [[this.svg, height], [this.axis, AXIS]]) {
      svg.setAttribute("width", this.width);
      svg.setAttribute("height", tall);
    }
    const first = Math.max(0, Math.floor(this.scroll.scrollTop / LANE) - 2);
    const last = Math.min(this.lanes.length, first + Math.ceil(this.scroll.clientHeight / LANE) + 4);
    const back = [], front = [];
    this.drawTicks(back, height);
    for (let i = first; i < last; i++) this.drawLane(this.lanes[i], i, back, front);
    for (const link of this.links) this.drawLink(link, first, last, front);
    this.back.replaceChildren(...back);
    this.front.replaceChildren(...front);
    this.drawMoment(height);
  }

  drawTicks(back, height) {
    const span = this.to - this.from, least = (span / this.width) * 84;
    const ticks = [];
    const add = (ms, kind) => {
      const x = this.x(ms);
      back.push(s("line", { x1: x, x2: x, y1: 0, y2: height, class: "grid" }));
      ticks.push(s("line", { x1: x, x2: x, y1: AXIS - 5, y2: AXIS, class: "grid" }), s("text", { x: x + 3, y: AXIS - 9 }, tick(kind, ms)));
    };
    const step = STEPS.find((n) => n >= least);
    if (step) {
      const offset = step >= HOUR ? new Date(this.from).getTimezoneOffset() * MINUTE : 0;
      for (let ms = Math.ceil((this.from - offset) / step) * step + offset; ms < this.to; ms += step) {
        const midnight = step >= MINUTE && new Date(ms).getHours() === 0 && new Date(ms).getMinutes() === 0;
        add(ms, step < SECOND ? "ms" : step < MINUTE ? "s" : step < DAY && !midnight ? "min" : "d");
      }
    } else {
      const months = [1, 2, 3, 6, 12, 24, 60, 120].find((n) => n * 30 * DAY >= least) || 240;
      const d = new Date(new Date(this.from).getFullYear(), 0, 1);
      for (; d.getTime() < this.to; d.setMonth(d.getMonth() + months)) if (d.getTime() >= this.from) add(d.getTime(), "mon");
    }
    this.axis.replaceChildren(...ticks);
  }

  drawLane(lane, i, back, front) {
    const top = i * LANE, y = top + (LANE - BAR) / 2 + 2;
    back.push(s("line", { x1: 0, x2: this.width, y1: top + LANE - 0.5, y2: top + LANE - 0.5, class: "lane-line" }));
    let dense = null;
    const flush = () => {
      if (dense && dense.n > 1) front.push(this.rect(dense.x1, dense.x2, y, BAR, "bar state-many", { kind: "bars", ...dense }));
      else if (dense) front.push(this.rect(dense.x1, Math.max(dense.x2, dense.x1 + NARROW), y, BAR, "bar " + stateClass(dense.bar.state), { kind: "bar", ...dense.bar }));
      dense = null;
    };
    for (const bar of lane.bars) {
      const to = bar.to ?? Math.max(Date.now(), bar.from);
      if (to < this.from || bar.from > this.to) continue;
      const x1 = Math.max(-2, this.x(bar.from)), x2 = Math.min(this.width + 2, this.x(to));
      if (x2 - x1 < NARROW) {
        if (dense && x1 - dense.x2 < NARROW) Object.assign(dense, { x2: Math.max(x2, dense.x2), n: dense.n + 1, to });
        else {
          flush();
          dense = { x1, x2, n: 1, from: bar.from, to, bar };
        }
        continue;
      }
      flush();
      const thin = bar.state === "stopped" || bar.state === "saved";
      front.push(this.rect(x1, x2, thin ? y + (BAR - THIN) / 2 : y, thin ? THIN : BAR, "bar " + stateClass(bar.state), { kind: "bar", ...bar }, bar.state === "unknown" ? `url(#${this.id}unknown)` : null));
      if (!thin && x2 - x1 > 64) front.push(s("text", { x: Math.max(x1, 0) + 6, y: y + 12, class: "bar-text on-" + stateClass(bar.state) }, word(bar.state)));
    }
    flush();
    for (const hole of lane.holes || []) {
      if (hole.to < this.from || hole.from > this.to) continue;
      const x1 = Math.max(-2, this.x(hole.from)), x2 = Math.min(this.width + 2, Math.max(this.x(hole.to), x1 + 5));
      front.push(this.rect(x1, x2, y - 4, BAR + 8, "hole", { kind: "hole", ...hole }, `url(#${this.id}hole)`));
    }
    this.drawMarks(lane, y, front);
  }

  drawMarks(lane, y, front) {
    let last = -100;
    for (const mark of lane.marks || []) {
      if (mark.from < this.from || mark.from > this.to) continue;
      const x = this.x(mark.from);
      const cls = isCrash(mark) ? "bad" : outcomeClass(mark.outcome);
      if (x - last < 4 && cls !== "bad") continue;
      last = x;
      const p = s("path", { d: `M${x} ${y + 1}l-4.5 -7h9z`, class: "mark " + cls });
      p.item = { kind: "mark", ...mark };
      front.push(p);
    }
  }

  drawLink(link, first, last, front) {
    const a = this.index.get(link.source), b = this.index.get(link.host), to = link.to ?? Date.now();
    if (a === undefined || b === undefined || (a < first && b < first) || (a > last && b > last) || to < this.from || link.from > this.to) return;
    const middle = (i) => i * LANE + LANE / 2 + 2, x1 = this.x(link.from), x2 = Math.max(this.x(to), x1 + 0.1), bend = Math.max(6, (x2 - x1) / 2);
    const path = s("path", { d: `M${x1} ${middle(a)}C${x1 + bend} ${middle(a)} ${x2 - bend} ${middle(b)} ${x2} ${middle(b)}`, class: "migration " + outcomeClass(link.outcome) });
    const end = s("circle", { cx: x2, cy: middle(b), r: 3.5, class: "migration-end " + outcomeClass(link.outcome) });
    const begin = s("circle", { cx: x1, cy: middle(a), r: 3, class: "migration-begin " + outcomeClass(link.outcome) });
    for (const e of [path, end, begin]) e.item = { kind: "link", ...link };
    front.push(path, begin, end);
  }

  rect(x1, x2, y, height, cls, item, paint) {
    const e = s("rect", { x: x1, y, width: Math.max(x2 - x1, 0.5), height, rx: x2 - x1 > 6 ? 3 : 0, class: cls, fill: paint });
    e.item = item;
    return e;
  }

  drawMoment(height) {
    const over = [], now = this.x(Date.now());
    if (now >= 0 && now <= this.width) over.push(s("line", { x1: now, x2: now, y1: 0, y2: height, class: "now-line" }));
    if (this.moment !== null && this.moment >= this.from && this.moment <= this.to) {
      const x = this.x(this.moment);
      over.push(s("line", { x1: x, x2: x, y1: 0, y2: height, class: "moment-line" }), s("path", { d: `M${x - 5} 0h10l-5 6z`, class: "moment-head" }));
    }
    if (this.selection) {
      const [a, b] = this.selection;
      over.push(s("rect", { x: Math.min(a, b), y: 0, width: Math.abs(b - a), height, class: "selection" }));
    }
    this.over.replaceChildren(...over);
  }

  // --- pointer, wheel, keyboard

  listen() {
    const svg = this.svg, pointers = new Map();
    let start = null, pinch = 0;
    const place = (e) => e.clientX - svg.getBoundingClientRect().left;
    svg.addEventListener("pointerdown", (e) => {
      if (e.button !== 0) return;
      pointers.set(e.pointerId, place(e));
      svg.setPointerCapture(e.pointerId);
      start = pointers.size === 1 ? { x: place(e), from: this.from, to: this.to, touch: e.pointerType === "touch", moved: false } : null;
      if (pointers.size === 2) pinch = Math.abs([...pointers.values()].reduce((a, b) => a - b));
    });
    svg.addEventListener("pointermove", (e) => {
      if (!pointers.has(e.pointerId)) return this.hover(e);
      pointers.set(e.pointerId, place(e));
      if (pointers.size === 2) {
        const [a, b] = [...pointers.values()], apart = Math.max(8, Math.abs(a - b));
        this.zoom(pinch / apart, this.at((a + b) / 2));
        pinch = apart;
      } else if (start && (start.moved || Math.abs(place(e) - start.x) > 4)) {
        start.moved = true;
        this.hideTip();
        if (start.touch) {
          const d = ((start.x - place(e)) / this.width) * (start.to - start.from);
          this.setWindow(start.from + d, start.to + d);
        } else {
          this.selection = [start.x, place(e)];
          this.drawMoment(this.lanes.length * LANE);
        }
      }
    });
    const end = (e, kept) => {
      if (!pointers.delete(e.pointerId)) return;
      const selection = this.selection, click = start && !start.moved;
      this.selection = null;
      start = null;
      if (kept && selection && Math.abs(selection[0] - selection[1]) > 6)
        this.setWindow(this.at(Math.max(0, Math.min(...selection))), this.at(Math.min(this.width, Math.max(...selection))));
      else if (kept && click) this.handlers.moment(Math.round(this.at(place(e))));
      else this.redraw();
    };
    svg.addEventListener("pointerup", (e) => end(e, true));
    svg.addEventListener("pointercancel", (e) => end(e, false));
    svg.addEventListener("pointerleave", () => this.hideTip());
    svg.addEventListener("dblclick", (e) => this.zoom(0.4, this.at(place(e))));
    svg.addEventListener("wheel", (e) => this.wheel(e, place(e)), { passive: false });
    svg.addEventListener("keydown", (e) => this.key(e));
  }

  wheel(e, x) {
    if (e.ctrlKey || e.metaKey || e.altKey) this.zoom(Math.exp(Math.max(-1, Math.min(1, e.deltaY / 300))), this.at(x));
    else if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) this.pan((e.deltaX || e.deltaY) / this.width);
    else return;
    e.preventDefault();
  }

  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const actions = {
      "+": () => this.zoom(0.5, this.moment ?? undefined), "=": () => this.zoom(0.5, this.moment ?? undefined), "-": () => this.zoom(2, this.moment ?? undefined),
      ArrowLeft: () => (e.shiftKey ? this.pan(-0.25) : this.step(-1)), ArrowRight: () => (e.shiftKey ? this.pan(0.25) : this.step(1)),
      PageUp: () => this.pan(-0.9), PageDown: () => this.pan(0.9), 0: () => this.fit(), Escape: () => this.handlers.moment(null),
    };
    if (!actions[e.key]) return;
    e.preventDefault();
    actions[e.key]();
  }

  // To the next or the last event from the chosen moment; the window follows.
  step(direction) {
    const at = this.moment ?? (direction > 0 ? this.from - 1 : this.to + 1);
    const next = direction > 0 ? this.stops.find((m) => m > at) : this.stops.findLast((m) => m < at);
    if (next === undefined) return this.pan(direction * 0.25);
    const span = this.to - this.from;
    if (next < this.from || next > this.to) this.setWindow(next - span / 2, next + span / 2);
    this.handlers.moment(next);
  }

  // From the first thing known to now.
  fit() {
    const first = Math.min(...this.stops, ...this.lanes.flatMap((l) => l.bars.map((b) => b.from)));
    const now = Date.now();
    if (Number.isFinite(first)) this.setWindow(first - (now - first) * 0.02, now, true);
  }

  hover(e) {
    const item = e.target.item, box = this.root.getBoundingClientRect();
    this.tip.replaceChildren(h("strong", {}, precise(this.at(e.clientX - this.svg.getBoundingClientRect().left))), item ? h("div", {}, describe(item)) : "",
      item?.reason ? h("div", { class: "quiet" }, t("reason") + ": ", shown(word(item.reason))) : "");
    this.tip.classList.add("shown");
    const wide = this.tip.offsetWidth, x = e.clientX - box.left, y = e.clientY - box.top;
    this.tip.style.transform = `translate(${Math.round(Math.max(4, Math.min(x + 14, box.width - wide - 4)))}px, ${Math.round(y + 18)}px)`;
  }

  hideTip() { this.tip.classList.remove("shown"); }
}

// One sentence for what is drawn.
export function describe(item) {
  const took = (i) => duration((i.to ?? Date.now()) - i.from);
  const names = { host: plain(item.host), source: plain(item.source), from: when(item.from), to: when(item.to ?? Date.now()), duration: took(item) };
  switch (item.kind) {
    case "bar":
      return t(item.to === null ? "bar.open" : "bar", { ...names, state: word(item.state) });
    case "bars":
      return t("bars", { ...names, n: item.n });
    case "mark":
      return t(item.to === null ? "mark.open" : "mark", { ...names, kind: word(item.operation), outcome: outcomeWord(item.outcome) });
    case "link":
      return t(item.to === null ? "link.open" : "link", { ...names, outcome: outcomeWord(item.outcome) });
    case "hole":
      return t("hole", { ...names, n: item.missing, first: item.first, last: item.last }) + (item.status === "lost" ? ", " + t("hole.lost") : "");
    default:
      return full(item.from);
  }
}

// The toolbar over a timeline: presets, exact moments, zoom.
export function controls(timeline) {
  const local = (ms) => {
    const d = new Date(ms - new Date(ms).getTimezoneOffset() * MINUTE);
    return d.toISOString().slice(0, 19);
  };
  const from = h("input", { type: "datetime-local", step: 1, "aria-label": t("from") }), to = h("input", { type: "datetime-local", step: 1, "aria-label": t("to") });
  const preset = (key, span) => h("button", { type: "button", class: "chip", onclick: () => timeline.setWindow(Date.now() - span, Date.now() + span * 0.02, true) }, t(key));
  const button = (key, sign, act) => h("button", { type: "button", class: "icon", "aria-label": t(key), title: t(key), onclick: act }, sign);
  const form = h("form", { class: "between", "aria-label": t("between.pick"), onsubmit: (e) => {
    e.preventDefault();
    const a = Date.parse(from.value), b = Date.parse(to.value);
    if (a < b) timeline.setWindow(a, b);
  } });
  // The first call puts the fields in: making them takes a browser longer than drawing a time line.
  const update = () => {
    if (!form.hasChildNodes()) form.append(h("label", {}, t("from") + " ", from), h("label", {}, t("to") + " ", to), h("button", { type: "submit" }, t("apply")));
    if (!form.contains(document.activeElement)) {
      from.value = local(timeline.from);
      to.value = local(timeline.to);
    }
  };
  const bar = h("div", { class: "toolbar", role: "toolbar", "aria-label": t("period") },
    h("span", { class: "group" }, preset("hour", HOUR), preset("hours6", 6 * HOUR), preset("day", DAY), preset("week", 7 * DAY), preset("month", 30 * DAY)),
    h("span", { class: "group" }, button("earlier", "‹", () => timeline.pan(-0.5)), button("zoom.out", "−", () => timeline.zoom(2)),
      button("zoom.in", "+", () => timeline.zoom(0.5)), button("later", "›", () => timeline.pan(0.5))), form);
  return { bar, update };
}

export function legend(states) {
  const item = (cls, text) => h("li", {}, h("i", { class: "swatch " + cls, "aria-hidden": "true" }), text);
  return h("ul", { class: "legend", "aria-label": t("legend") }, states.map((state) => item(stateClass(state), word(state))),
    item("swatch-mark", t("operation1")), item("swatch-link", t("migration1")), item("swatch-hole", t("hole1")));
}
