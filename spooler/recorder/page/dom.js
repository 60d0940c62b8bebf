// SPDX-License-Identifier: LGPL-2.1-or-later
// dom - builds elements. Text always becomes a text node; nothing in this page ever parses markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// --- foreign text. Names and reasons come from guests and hosts and may hold anything.

// Control characters, and those that reorder or hide text: bidi controls, zero-width, line separators, tags.
const HOSTILE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

const code = (c) => "U+" + c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");

// As one line of text, for attributes, SVG and titles.
export const plain = (text) => String(text ?? "").replace(HOSTILE, (c) => `\u27e8${code(c)}\u27e9`);

// As an element that keeps its direction to itself, with each hostile character shown by its code.
export function shown(text, cls) {
  const bdi = h("bdi", { class: cls });
  const whole = String(text ?? "");
  let last = 0;
  for (const m of whole.matchAll(HOSTILE)) {
    if (m.index > last) bdi.append(whole.slice(last, m.index));
    bdi.append(h("span", { class: "escaped" }, code(m[0])));
    last = m.index + m[0].length;
  }
  bdi.append(whole.slice(last));
  return bdi;
}
