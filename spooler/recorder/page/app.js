// SPDX-License-Identifier: LGPL-2.1-or-later
// app - the frame of the page: its address, navigation, settings and the live stream. A view is a function in
// views.js that fills <main> and returns {changed, destroy}; the address's hash says which one and what it shows.

import { listen } from "./api.js";
import { h } from "./dom.js";
import { LANGUAGES, currentLanguage, preference, setLanguage, store, t } from "./text.js";
import { views } from "./views.js";

const main = document.getElementById("main"), live = document.getElementById("live");
let view = null, shownPath = null, online = null;

// "#/guest/UUID?from=...&at=..." as {path: ["guest", UUID], query}
function address() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const decode = (part) => {
    try { return decodeURIComponent(part); } catch { return part; }
  };
  return { path: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

// Keeps what the view shows in the address, without a new entry in the history unless asked for.
function remember(values, entry = false) {
  const { query } = address(), path = location.hash.replace(/^#\/?/, "").split("?")[0];
  for (const [name, value] of Object.entries(values))
    if (value === null || value === undefined || value === "") query.delete(name);
    else query.set(name, value);
  const hash = `#/${path}${query.size ? "?" + query : ""}`;
  if (hash !== location.hash) history[entry ? "pushState" : "replaceState"](null, "", hash);
}

function show(again) {
  const { path, query } = address(), key = path.join("/");
  if (!again && view && key === shownPath && view.navigate) return view.navigate(query);
  view?.destroy?.();
  const moved = key !== shownPath && shownPath !== null;
  shownPath = key;
  main.replaceChildren();
  const make = views[path[0] || "overview"] || views.missing;
  view = make({ main, path: path.slice(1), query, remember, announce });
  for (const a of document.querySelectorAll("#nav a")) a.toggleAttribute("aria-current", a.dataset.view.split(" ").includes(path[0] || "overview"));
  // Both need the layout, which the next frame makes anyway. Who types by then keeps the focus.
  const focused = document.activeElement;
  if (moved && !again)
    requestAnimationFrame(() => {
      scrollTo(0, 0);
      if (document.activeElement === focused) main.focus({ preventScroll: true });
    });
}

function announce(text) {
  document.getElementById("announce").textContent = text;
}

function frame() {
  document.getElementById("skip").textContent = t("skip");
  const link = (name, href, of) => h("a", { href, "data-view": of }, t(name));
  const nav = document.getElementById("nav");
  nav.setAttribute("aria-label", t("pages"));
  nav.replaceChildren(link("overview", "#/", "overview"), link("hosts", "#/hosts", "hosts host"), link("guests", "#/guests", "guests guest"), link("log", "#/log", "log"));
  setting("language", LANGUAGES, currentLanguage());
  setting("theme", { auto: t("auto"), light: t("light"), dark: t("dark") }, preference("theme") || "auto");
  showLive();
}

function setting(id, values, value) {
  const select = document.getElementById(id);
  select.setAttribute("aria-label", t(id));
  select.title = t(id);
  select.replaceChildren(...Object.entries(values).map(([v, text]) => h("option", { value: v, ...(id === "language" && { lang: v === "zh" ? "zh-CN" : v }) }, text)));
  select.value = value;
}

function setTheme(theme) {
  store("theme", theme);
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

function showLive() {
  live.className = online === null ? "" : online ? "on" : "off";
  live.textContent = online === false ? t("reconnecting") : t("live");
  live.title = t("live.help");
}

setTheme(preference("theme") || "auto");
frame();
document.getElementById("language").addEventListener("change", (e) => {
  setLanguage(e.target.value);
  frame();
  show(true);
});
document.getElementById("theme").addEventListener("change", (e) => setTheme(e.target.value));
document.getElementById("skip").addEventListener("click", (e) => {
  e.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => show(false)); // also of the browser's Back: each of our entries has a hash of its own
show(true);
listen((change) => view?.changed?.(change), (up) => {
  online = up;
  showLive();
});
