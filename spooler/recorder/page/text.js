// SPDX-License-Identifier: LGPL-2.1-or-later
// text - every word that the page says, in each language, and times and numbers as people read them.

const WORDS = {
  en: {
    language: "Language", theme: "Theme", auto: "Auto", light: "Light", dark: "Dark",
    skip: "Skip to content", pages: "Pages",
    overview: "Overview", hosts: "Hosts", guests: "Guests", log: "Log", host: "Host", guest: "Guest",
    live: "Live", reconnecting: "Reconnecting …", "live.help": "Updates arrive as events are stored",
    loading: "Loading …", none: "Nothing here", "none.filter": "Nothing matches this filter",
    "error.network": "The recorder does not answer. Trying again …", "error.answer": "The recorder answered: {text}",
    retry: "Try again", more: "Show more", all: "All", search: "Search", clear: "Clear",
    "search.guests": "Name or UUID", "search.hosts": "Host name",
    online: "online", offline: "offline", silent: "silent",
    state: "State", since: "Since", reason: "Reason", name: "Name", "last seen": "Last seen", lag: "Lag", holes: "Holes",
    running: "running", paused: "paused", stopped: "stopped", crashed: "crashed", incoming: "incoming", unknown: "unknown",
    starting: "starting", stopping: "stopping", absent: "gone", saved: "saved", migrated: "migrated", undefined: "undefined",
    "lag.help": "Time from the event on the host to its commit here",
    "holes.none": "complete", "holes.open": "{n} missing", "holes.help": "Events whose sequence numbers never arrived",
    "tile.hosts": "Hosts online", "tile.guests": "Guests running", "tile.holes": "Events missing", "tile.events": "Events stored",
    "tile.rejects": "{n} rejected", "tile.of": "of {n}", "tile.complete": "Every sequence is complete", "tile.inholes": "in {n} holes",
    attention: "Needs attention", "attention.none": "All hosts report, nothing is missing, no guest is in trouble.",
    "problem.host-silent": "Host went silent", "problem.hole-open": "Events are missing",
    "problem.guest-on-two-hosts": "Runs on two hosts at once", "problem.guest-crashed": "Guest crashed",
    "problem.event-forged": "Forged events claim to be from",
    "signature.verified": "verified", "signature.unsigned": "unsigned", "signature.unknown": "unknown key",
    "signature.title.verified": "Signed by the host, and not changed since", "signature.title.unsigned": "It carries no signature: anyone who controls the broker can have made it",
    "signature.title.unknown": "Signed with a key whose certificate the host has not reported",
    "problem.guest-flapping": "Guest keeps restarting", "problem.more": "{n} more",
    recent: "Recent operations", events: "Events", operations: "Operations", operation: "Operation", outcome: "Outcome",
    duration: "Duration", time: "Time", from: "From", to: "To", uuid: "UUID", driver: "Driver", also: "Also on", event: "Event",
    sequence: "Sequence", epoch: "Epoch", count: "{n} of {m}", "count.all": "{n}",
    start: "start", stop: "stop", migration: "migration", restore: "restore", save: "save",
    "outcome.success": "succeeded", "outcome.failed": "failed", "outcome.running": "in progress", "outcome.incomplete": "ended unseen",
    timeline: "Timeline", "timeline.of": "Timeline of {name}",
    "timeline.help": "Drag to select a period. Ctrl + wheel or + and − zoom; ← and → step through the events; Shift + ← → pan; 0 shows everything to now.",
    "timeline.touch": "Drag to pan, pinch to zoom, tap for a moment.",
    "zoom.in": "Zoom in", "zoom.out": "Zoom out", earlier: "Earlier", later: "Later", now: "Now", "now.help": "Follow live events",
    hour: "1 h", hours6: "6 h", day: "24 h", week: "7 d", month: "30 d", apply: "Apply", period: "Period",
    between: "What happened between {from} and {to}", "between.counts": "operations: {operations}, events: {events}",
    "between.pick": "What happened between two moments",
    "moment": "At {time}", "moment.link": "Copy link to this moment", copied: "Link copied", "moment.close": "Close",
    "moment.state": "{state} on {host}, from {from} to {to}", "moment.stateopen": "{state} on {host} since {from}",
    "moment.nothing": "Nothing is known for this moment", "moment.hole": "Events {first}–{last} of {host} are missing around here",
    truncated: "Only part of this period is drawn. Zoom in for the rest.",
    "bar": "{state} on {host}, {from} to {to}, {duration}", "bar.open": "{state} on {host} since {from}",
    "bars": "{n} changes between {from} and {to}; zoom in",
    "mark": "{kind} on {host}: {outcome}, {from}, {duration}", "mark.open": "{kind} on {host} in progress since {from}",
    "link": "migration from {source} to {host}: {outcome}, {from}, {duration}", "link.open": "migration from {source} to {host} in progress since {from}",
    "hole": "missing on {host}: {n} (sequence {first}–{last})", "hole.lost": "lost on the host", "hole.filled": "filled",
    "no.lanes": "No events of this period", legend: "Legend", hole1: "events missing", migration1: "migration", operation1: "operation",
    "raw": "Event {id}", close: "Close", "guests.on": "Guests on this host", "guests.more": "Show {n} more guests",
    "notfound": "Nothing is recorded under this address.", "not.host": "No host of this name has reported.", "not.guest": "No guest with this UUID has been seen.",
    back: "Back", filter: "Filter", "complete to": "Complete to", "events.more": "Older events",
    replayed: "replayed", api: "libvirt event API", hook: "hook", spooler: "virtspoold", origin: "Reported by", received: "Stored",
    "sec": "{n} s", "min": "{n} min", "h": "{n} h", "d": "{n} d", "ms": "{n} ms",
    expand: "Show the event", "guests.running": "Running", never: "never",
  },
  zh: {
    language: "语言", theme: "主题", auto: "跟随系统", light: "浅色", dark: "深色",
    skip: "跳到正文", pages: "页面",
    overview: "概览", hosts: "主机", guests: "虚拟机", log: "日志", host: "主机", guest: "虚拟机",
    live: "实时", reconnecting: "正在重新连接…", "live.help": "事件入库后立即更新",
    loading: "正在加载…", none: "暂无内容", "none.filter": "没有符合条件的结果",
    "error.network": "记录服务没有响应，正在重试…", "error.answer": "记录服务返回：{text}",
    retry: "重试", more: "显示更多", all: "全部", search: "搜索", clear: "清除",
    "search.guests": "名称或 UUID", "search.hosts": "主机名",
    online: "在线", offline: "离线", silent: "失联",
    state: "状态", since: "开始时间", reason: "原因", name: "名称", "last seen": "最近上报", lag: "延迟", holes: "缺失",
    running: "运行中", paused: "已暂停", stopped: "已停止", crashed: "已崩溃", incoming: "迁入中", unknown: "未知",
    starting: "启动中", stopping: "停止中", absent: "已不在此", saved: "已保存", migrated: "已迁出", undefined: "已删除",
    "lag.help": "从主机上发生事件到在此入库的时间",
    "holes.none": "完整", "holes.open": "缺 {n} 条", "holes.help": "序列号从未到达的事件",
    "tile.hosts": "在线主机", "tile.guests": "运行中的虚拟机", "tile.holes": "缺失事件", "tile.events": "已入库事件",
    "tile.rejects": "拒收 {n} 条", "tile.of": "共 {n}", "tile.complete": "所有序列均完整", "tile.inholes": "分布在 {n} 处缺口",
    attention: "需要关注", "attention.none": "所有主机正常上报，没有事件缺失，虚拟机没有异常。",
    "problem.host-silent": "主机失联", "problem.hole-open": "事件缺失",
    "problem.guest-on-two-hosts": "同时在两台主机上运行", "problem.guest-crashed": "虚拟机崩溃",
    "problem.event-forged": "伪造事件，声称来自",
    "signature.verified": "已验证", "signature.unsigned": "未签名", "signature.unknown": "未知密钥",
    "signature.title.verified": "由该主机签名，此后未被更改", "signature.title.unsigned": "没有签名：控制代理的人都可能伪造",
    "signature.title.unknown": "签名所用密钥的证书未经该主机报告",
    "problem.guest-flapping": "虚拟机反复重启", "problem.more": "另有 {n} 项",
    recent: "最近操作", events: "事件", operations: "操作", operation: "操作", outcome: "结果",
    duration: "耗时", time: "时间", from: "起始", to: "截止", uuid: "UUID", driver: "驱动", also: "同时位于", event: "事件",
    sequence: "序列号", epoch: "纪元", count: "{n} / {m}", "count.all": "{n}",
    start: "启动", stop: "停止", migration: "迁移", restore: "恢复", save: "保存",
    "outcome.success": "成功", "outcome.failed": "失败", "outcome.running": "进行中", "outcome.incomplete": "未见结束",
    timeline: "时间线", "timeline.of": "{name} 的时间线",
    "timeline.help": "拖动选择时段；Ctrl + 滚轮或 + / − 缩放；← → 逐个查看事件；Shift + ← → 平移；按 0 显示截至当前的全部内容。",
    "timeline.touch": "拖动平移，双指缩放，轻点查看某一时刻。",
    "zoom.in": "放大", "zoom.out": "缩小", earlier: "更早", later: "更晚", now: "现在", "now.help": "跟随实时事件",
    hour: "1 小时", hours6: "6 小时", day: "24 小时", week: "7 天", month: "30 天", apply: "应用", period: "时段",
    between: "{from} 至 {to} 之间发生了什么", "between.counts": "{operations} 次操作，{events} 条事件",
    "between.pick": "两个时刻之间发生了什么",
    "moment": "{time} 的状态", "moment.link": "复制此时刻的链接", copied: "链接已复制", "moment.close": "关闭",
    "moment.state": "在 {host} 上{state}，{from} 至 {to}", "moment.stateopen": "自 {from} 起在 {host} 上{state}",
    "moment.nothing": "没有这一时刻的记录", "moment.hole": "{host} 在此前后缺失事件 {first}–{last}",
    truncated: "仅显示了该时段的一部分，放大可查看其余内容。",
    "bar": "在 {host} 上{state}，{from} 至 {to}，持续 {duration}", "bar.open": "自 {from} 起在 {host} 上{state}",
    "bars": "{from} 至 {to} 之间有 {n} 次变化，请放大查看",
    "mark": "{host} 上的{kind}：{outcome}，{from}，耗时 {duration}", "mark.open": "{host} 上的{kind}自 {from} 起进行中",
    "link": "从 {source} 迁移到 {host}：{outcome}，{from}，耗时 {duration}", "link.open": "从 {source} 到 {host} 的迁移自 {from} 起进行中",
    "hole": "{host} 缺失 {n} 条事件（序列号 {first}–{last}）", "hole.lost": "已在主机上丢失", "hole.filled": "已补齐",
    "no.lanes": "该时段没有事件", legend: "图例", hole1: "事件缺失", migration1: "迁移", operation1: "操作",
    "raw": "事件 {id}", close: "关闭", "guests.on": "此主机上的虚拟机", "guests.more": "再显示 {n} 台虚拟机",
    "notfound": "此地址下没有任何记录。", "not.host": "没有这个名称的主机上报过事件。", "not.guest": "没有见过这个 UUID 的虚拟机。",
    back: "返回", filter: "筛选", "complete to": "完整至", "events.more": "更早的事件",
    replayed: "重放", api: "libvirt 事件接口", hook: "钩子", spooler: "virtspoold", origin: "来源", received: "入库时间",
    "sec": "{n} 秒", "min": "{n} 分", "h": "{n} 小时", "d": "{n} 天", "ms": "{n} 毫秒",
    expand: "查看事件内容", "guests.running": "运行中", never: "从未",
    shutdown: "正常关机", destroyed: "被强制关闭", booted: "已启动", daemon: "守护进程", "from snapshot": "来自快照", unpaused: "恢复运行", restored: "已恢复", panicked: "内核崩溃", failed: "失败",
  },
};

export const LANGUAGES = { en: "English", zh: "中文" };

function stored(name) {
  try { return localStorage.getItem(name); } catch { return null; }
}
export function store(name, value) {
  try { localStorage.setItem(name, value); } catch { /* private mode: the choice lasts for this page */ }
}

let language = stored("language");
if (!(language in WORDS)) language = (navigator.languages || []).some((l) => /^zh/i.test(l) && !/^en/i.test(navigator.language)) ? "zh" : "en";
export const currentLanguage = () => language;
export function setLanguage(l) { language = l; store("language", l); apply(); }
export const preference = stored;

export function t(key, values) {
  const text = WORDS[language][key] ?? WORDS.en[key] ?? key;
  return values ? text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole) : text;
}
// A word of the data (a state, an outcome): translated where we know it, as it stands where not.
export const word = (w) => (Object.hasOwn(WORDS[language], w) ? WORDS[language][w] : w);
export const outcomeWord = (o) => word("outcome." + o).replace(/^outcome\./, "");

// --- numbers and times

let formats;
function apply() {
  const tag = language === "zh" ? "zh-CN" : navigator.languages?.find((l) => /^en/i.test(l)) || "en-GB";
  const make = (o) => new Intl.DateTimeFormat(tag, { hourCycle: "h23", ...o });
  const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
  formats = {
    number: new Intl.NumberFormat(tag),
    full: make({ year: "numeric", month: "short", day: "numeric", ...clock }),
    precise: make({ year: "numeric", month: "short", day: "numeric", ...clock, fractionalSecondDigits: 3 }),
    day: make({ month: "short", day: "numeric", ...clock }),
    clock: make(clock),
    tick: {
      ms: make({ minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 }),
      s: make(clock), min: make({ hour: "2-digit", minute: "2-digit" }), d: make({ month: "short", day: "numeric" }),
      mon: make({ year: "numeric", month: "short" }),
    },
    ago: new Intl.RelativeTimeFormat(tag, { numeric: "auto", style: "short" }),
  };
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
}
apply();

export const number = (n) => formats.number.format(n);
export const tick = (kind, ms) => formats.tick[kind].format(ms);
export const full = (ms) => formats.full.format(ms);
export const precise = (ms) => formats.precise.format(ms);

// A moment as short as it can be: today's without the date, this year's without the year.
export function when(ms) {
  const now = new Date(), d = new Date(ms);
  if (d.toDateString() === now.toDateString()) return formats.clock.format(d);
  return (d.getFullYear() === now.getFullYear() ? formats.day : formats.full).format(d);
}

export function ago(ms, now = Date.now()) {
  const sec = Math.round((ms - now) / 1000), a = Math.abs(sec);
  if (a < 60) return formats.ago.format(sec, "second");
  if (a < 3600) return formats.ago.format(Math.round(sec / 60), "minute");
  if (a < 86400) return formats.ago.format(Math.round(sec / 3600), "hour");
  return formats.ago.format(Math.round(sec / 86400), "day");
}

// Milliseconds as "2 h 5 min", two units at most.
export function duration(ms) {
  if (ms < 1000) return t("ms", { n: Math.max(0, Math.round(ms)) });
  const sec = Math.round(ms / 1000);
  const parts = [["d", Math.floor(sec / 86400)], ["h", Math.floor(sec / 3600) % 24], ["min", Math.floor(sec / 60) % 60], ["sec", sec % 60]];
  const first = parts.findIndex(([, n]) => n > 0);
  return parts.slice(first, first + 2).filter(([, n]) => n > 0).map(([unit, n]) => t(unit, { n })).join(" ");
}
