// SPDX-License-Identifier: LGPL-2.1-or-later
// table - a table of any length: rows are fetched by page and exist only where they are visible.

import { h } from "./dom.js";
import { t } from "./text.js";

const PAGE = 100;

export class VirtualTable {
  // columns: [{title, cls, cell(row) -> nodes}]; load(offset, limit) -> {total, rows}; open(row) on click
  constructor({ label, columns, load, href, rowHeight = 38, empty = "none.filter" }) {
    this.columns = columns;
    this.load = load;
    this.href = href;
    this.rowHeight = rowHeight;
    this.empty = empty;
    this.pages = new Map();
    this.total = null;
    this.drawn = new Map();
    const head = h("div", { role: "row", class: "vrow vhead", "aria-rowindex": 1 }, columns.map((c) => h("div", { role: "columnheader", class: c.cls, title: c.help }, c.title)));
    this.body = h("div", { role: "rowgroup", class: "vbody" });
    this.message = h("p", { class: "vmessage" }, t("loading"));
    this.root = h("div", { class: "vtable" },
      h("div", { role: "table", "aria-label": label }, h("div", { role: "rowgroup", class: "vheadgroup" }, head), this.body), this.message);
    this.table = this.root.firstChild;
    this.onscroll = () => this.schedule();
    addEventListener("scroll", this.onscroll, { passive: true });
    addEventListener("resize", this.onscroll);
    this.schedule();
  }

  destroy() {
    removeEventListener("scroll", this.onscroll);
    removeEventListener("resize", this.onscroll);
    this.gone = true;
  }

  // Another filter: from the top.
  reset() {
    this.pages.clear();
    this.total = null;
    if (this.body.getBoundingClientRect().top < 0) scrollTo(0, 0);
    this.want(0);
    this.schedule();
  }

  // The same rows may have changed: visible pages are fetched again and replace the old ones when they come.
  refresh() {
    for (const page of this.pages.values()) page.old = true;
    this.schedule();
  }

  schedule() {
    if (this.frame || this.gone) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.gone) this.draw();
    });
  }

  visible() {
    const top = this.body.getBoundingClientRect().top, tall = innerHeight;
    const first = Math.max(0, Math.floor(-top / this.rowHeight) - 5);
    return [first, Math.min(this.total ?? PAGE, first + Math.ceil(tall / this.rowHeight) + 10)];
  }

  draw() {
    const [first, last] = this.visible();
    for (let n = Math.floor(first / PAGE); n * PAGE < Math.max(last, 1); n++) this.want(n);
    if (this.total === null) return;
    this.body.style.height = this.total * this.rowHeight + "px";
    this.table.setAttribute("aria-rowcount", this.total + 1);
    this.message.hidden = this.total > 0;
    this.message.textContent = t(this.empty);
    for (const [i, d] of this.drawn) if (i < first || i >= last || d.row !== this.row(i)) {
      d.element.remove();
      this.drawn.delete(i);
    }
    for (let i = first; i < last; i++) if (!this.drawn.has(i)) this.drawRow(i);
  }

  row(i) { return this.pages.get(Math.floor(i / PAGE))?.rows[i % PAGE]; }

  drawRow(i) {
    const row = this.row(i);
    const element = h("div", { role: "row", class: "vrow" + (row ? "" : " waiting"), "aria-rowindex": i + 2 },
      row ? this.columns.map((c) => h("div", { role: "cell", class: c.cls }, c.cell(row))) : h("div", { role: "cell" }, "…"));
    if (row && this.href) element.addEventListener("click", (e) => {
      if (!e.target.closest("a") && !String(getSelection())) location.hash = this.href(row);
    });
    element.style.transform = `translateY(${i * this.rowHeight}px)`;
    this.drawn.set(i, { element, row });
    const after = [...this.drawn].filter(([k]) => k > i).sort(([a], [b]) => a - b)[0];
    this.body.insertBefore(element, after ? after[1].element : null);
  }

  // A page that becomes old while it is coming is fetched once more. After a reset its answer is another filter's.
  async want(n) {
    const page = this.pages.get(n) || { rows: [], old: true, coming: false };
    if (page.coming || !page.old) return;
    page.coming = true;
    page.old = false;
    this.pages.set(n, page);
    try {
      const answer = await this.load(n * PAGE, PAGE);
      if (this.gone || this.pages.get(n) !== page) return;
      page.rows = answer.rows;
      this.total = answer.total;
      this.onTotal?.(answer.total);
    } catch {
      if (this.gone || this.pages.get(n) !== page) return;
      this.pages.delete(n);
      if (this.total === null) this.message.textContent = t("error.network");
      setTimeout(() => this.schedule(), 2000);
      return;
    } finally {
      page.coming = false;
    }
    this.schedule();
  }
}
