// SPDX-License-Identifier: LGPL-2.1-or-later
// api - asks the recorder (/api/v1, see openapi.json) and listens to its live stream.

export class NotFound extends Error {}

// query: an object; undefined, null and "" are left out. signal: an AbortSignal.
export async function get(path, query = {}, signal) {
  const parameters = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== undefined && v !== null && v !== ""));
  const answer = await fetch(`api/v1/${path}${parameters.size ? "?" + parameters : ""}`, { signal });
  if (answer.status === 404) throw new NotFound();
  if (!answer.ok) throw new Error((await answer.json().catch(() => null))?.error || answer.statusText);
  return answer.json();
}

export const encode = encodeURIComponent;
export const ms = (time) => (time === null || time === undefined ? null : Date.parse(time));
export const iso = (millis) => new Date(millis).toISOString();

// Calls changed({hosts, guests, all}) at most every `pause` ms, and state(true or false) as the connection
// comes and goes. all: more changed than was listed, or something may have been missed.
export function listen(changed, state, pause = 250) {
  let source, pending = null, timer = 0, retry = 1000;
  const flush = () => {
    timer = 0;
    const p = pending;
    pending = null;
    if (document.hidden) {
      pending = p;
      return;
    }
    changed(p);
  };
  const note = (what) => {
    pending ??= { hosts: new Set(), guests: new Set(), all: false };
    for (const host of what.hosts || []) pending.hosts.add(host);
    for (const guest of what.guests || []) pending.guests.add(guest);
    pending.all ||= Boolean(what.all);
    timer ||= setTimeout(flush, pause);
  };
  const open = () => {
    source = new EventSource("api/v1/live");
    source.addEventListener("hello", () => {
      retry = 1000;
      state(true);
      note({ all: true });
    });
    source.addEventListener("change", (e) => note(JSON.parse(e.data)));
    source.onerror = () => {
      state(false);
      if (source.readyState !== EventSource.CLOSED) return;
      setTimeout(open, retry); // refused (too many streams, a restart behind a proxy): try again by ourselves
      retry = Math.min(retry * 2, 30000);
    };
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && pending && !timer) timer = setTimeout(flush, 0);
  });
  open();
}
