// SPDX-License-Identifier: GPL-2.0-or-later
// The report. Everything in the data came from a traced host: it is shown by textContent and
// canvas text only, never as markup. Times are ns since the first record.
"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const ROW = 17, HEAD = 20, AXIS = 22, MAX_ROWS = 16, BLOCKERS = 6, CARDS = 12;
const TRACK = { cmd: "control", freeze: "freeze", attr: "attributes", elv: "attributes", req: "requests", span: "daemon" };
const TRACKS = ["control", "freeze", "attributes", "requests", "daemon"];
const LEGEND = ["punt", "worker", "ctrl", "ready-wait", "add-disk", "elevator", "part-scan", "wait", "frozen", "attr", "queued", "server", "span", "object"];

function el(tag, cls, text) {
	const e = document.createElement(tag);
	if (cls)
		e.className = cls;
	if (text !== undefined)
		e.textContent = text;
	return e;
}
function add(parent, ...kids) {
	for (const k of kids)
		if (k)
			parent.appendChild(k);
	return parent;
}
function pairs(list, dl) {
	for (const [k, v] of list) {
		if (v === undefined || v === null || v === "")
			continue;
		const dd = el("dd");
		add(dd, v instanceof Node ? v : document.createTextNode(String(v)));
		add(dl, el("dt", "", k), dd);
	}
	return dl;
}
function dur(ns) {
	const s = ns / 1e9;
	if (ns < 1e3)
		return ns + " ns";
	if (ns < 1e6)
		return (ns / 1e3).toFixed(ns < 1e4 ? 1 : 0) + " \u00b5s";
	if (ns < 1e9)
		return (ns / 1e6).toFixed(ns < 1e8 ? 1 : 0) + " ms";
	if (s < 60)
		return s.toFixed(2) + " s";
	if (s < 3600)
		return Math.floor(s / 60) + " min " + Math.floor(s % 60) + " s";
	return Math.floor(s / 3600) + " h " + Math.floor(s / 60 % 60) + " min";
}
// A moment, with as many digits as the step needs.
function at(ns, step) {
	const digits = Math.max(0, Math.min(9, -Math.floor(Math.log10((step || 1e6) / 1e9))));
	return (ns < 0 ? "\u2212" : "+") + (Math.abs(ns) / 1e9).toFixed(digits) + " s";
}
function wall(ns) {
	if (!data.wall_ms)
		return "";
	const d = new Date(data.wall_ms + ns / 1e6);
	const p = (n, w) => String(n).padStart(w, "0");
	return p(d.getHours(), 2) + ":" + p(d.getMinutes(), 2) + ":" + p(d.getSeconds(), 2) + "." + p(d.getMilliseconds(), 3);
}

// What there is, by device and track.
const volumes = new Map(data.devices.map((d) => [d.dev, d]));
function devName(dev, volume) {
	const v = volume || (volumes.get(dev) || {}).volume;
	return dev < 0 ? (v || "no device") : "ublkb" + dev + (v ? " " + v : "");
}
function text(it) {
	return (it.t + " " + devName(it.d) + " " + Object.values(it.a).join(" ")).toLowerCase();
}
const items = data.items;
for (const it of items)
	it.text = text(it);
const findings = data.findings;
for (const f of findings)
	f.text = JSON.stringify(f).toLowerCase();

let lo = 0, hi = Math.max(1, data.last);
for (const it of items) {
	lo = Math.min(lo, it.s);
	hi = Math.max(hi, it.e);
}
for (const f of findings) {
	lo = Math.min(lo, f.since);
	hi = Math.max(hi, f.until);
}
const pad = (hi - lo) * 0.015;
// What began days ago must not squeeze what was observed.
const FULL = [Math.max(lo, -10 * Math.max(1e9, hi)) - pad, hi + pad];
const view = { a: FULL[0], b: FULL[1] };

function pack(list) {
	const ends = [];
	list.sort((x, y) => x.s - y.s || y.e - x.e);
	for (const it of list) {
		let r = ends.findIndex((e) => e <= it.s);
		if (r < 0)
			r = ends.length < MAX_ROWS ? ends.length : MAX_ROWS - 1;
		ends[r] = Math.max(ends[r] || 0, it.e);
		it.row = r;
	}
	return ends.length;
}
const rows = []; // {y, kind: "dev"|"track", name, dev, n, items}
let sheetHeight = 0;
(function layout() {
	const groups = new Map();
	for (const it of items) {
		if (!groups.has(it.d))
			groups.set(it.d, {});
		const g = groups.get(it.d), t = TRACK[it.k];
		(g[t] = g[t] || []).push(it);
	}
	const worst = new Map();
	for (const f of findings)
		worst.set(f.dev, Math.max(worst.get(f.dev) || 0, f.critical ? 2 : 1));
	const devs = [...groups.keys()].sort((a, b) => (worst.get(b) || 0) - (worst.get(a) || 0) || a - b);
	let y = 0;
	for (const d of devs) {
		const dev = volumes.get(d) || {};
		rows.push({ y, h: HEAD, kind: "dev", name: devName(d), note: [dev.state, dev.comm && dev.comm + "/" + (dev.pid || "?")].filter(Boolean).join("  "), dev: d, worst: worst.get(d) });
		y += HEAD;
		for (const t of TRACKS) {
			const list = groups.get(d)[t];
			if (!list)
				continue;
			const n = pack(list);
			rows.push({ y, h: n * ROW + 3, kind: "track", name: t, dev: d, items: list });
			y += n * ROW + 3;
		}
		y += 3;
	}
	sheetHeight = y;
})();

const canvas = $("canvas"), overview = $("overview"), scroll = $("scroll"), tip = $("tip");
let width = 0, height = 0, gutter = 110, colors = {}, hover = null, picked = null, current = -1, cursor = null, query = "";

function readColors() {
	const cs = getComputedStyle(document.documentElement);
	colors = {};
	for (const n of ["bg", "panel", "line", "grid", "text", "dim", "accent", "crit", "warn", "shade", "c-text"])
		colors[n] = cs.getPropertyValue("--" + n).trim();
	for (const n of ["submit", "start", "finish", "elv", "req", ...LEGEND])
		colors["c-" + n] = cs.getPropertyValue("--c-" + n).trim();
}
function itemColor(it) {
	if (it.k === "span")
		return colors[it.t.startsWith("object.") ? "c-object" : "c-span"];
	return colors["c-" + ({ cmd: "ctrl", freeze: "frozen" }[it.k] || it.k)];
}
const X = (ns) => gutter + (ns - view.a) / (view.b - view.a) * (width - gutter);
const NS = (x) => view.a + (x - gutter) / (width - gutter) * (view.b - view.a);

function ticks() {
	const n = Math.max(2, Math.floor((width - gutter) / 110)), raw = (view.b - view.a) / n;
	const p = 10 ** Math.floor(Math.log10(raw)), m = raw / p;
	const step = Math.max(1, (m > 5 ? 10 : m > 2 ? 5 : m > 1 ? 2 : 1) * p);
	const list = [];
	for (let t = Math.ceil(view.a / step) * step; t <= view.b; t += step)
		list.push(t);
	return { step, list };
}
function clip(g, s, w) {
	if (w < 14)
		return "";
	let n = Math.min(s.length, Math.floor(w / 4));
	let cut = s.slice(0, n);
	while (n > 0 && g.measureText(cut).width > w) {
		n = Math.floor(n * 0.85);
		cut = s.slice(0, n);
	}
	return n === s.length ? s : n > 2 ? cut.slice(0, -1) + "\u2026" : "";
}
function setup(c, h) {
	const dpr = window.devicePixelRatio || 1;
	const w = c.parentElement.clientWidth;
	if (c.width !== Math.round(w * dpr) || c.height !== Math.round(h * dpr)) {
		c.width = Math.round(w * dpr);
		c.height = Math.round(h * dpr);
		c.style.height = h + "px";
	}
	const g = c.getContext("2d");
	g.setTransform(dpr, 0, 0, dpr, 0, 0);
	g.clearRect(0, 0, w, h);
	return g;
}
function drawItem(g, it, y) {
	const x0 = X(it.s), x1 = X(it.e);
	if (x1 < gutter || x0 > width)
		return;
	const a = Math.max(gutter, x0), w = Math.max(1.5, Math.min(width, x1) - a), h = ROW - 3;
	const hit = query && it.text.includes(query);
	g.globalAlpha = query && !hit ? 0.22 : 1;
	g.fillStyle = itemColor(it);
	g.fillRect(a, y, w, h);
	for (const [name, s, e] of it.p) {
		const p0 = Math.max(gutter, X(s)), p1 = Math.min(width, X(e));
		if (p1 <= p0)
			continue;
		g.fillStyle = colors["c-" + name] || itemColor(it);
		g.fillRect(p0, y, Math.max(p1 - p0, 0.5), h);
	}
	if (it.o && x1 <= width + 1) { // goes on: a notched end
		g.fillStyle = colors.panel;
		const xe = Math.min(width, x1);
		g.beginPath();
		for (let i = 0; i < 4; i++) {
			g.moveTo(xe + 0.5, y + i * h / 4);
			g.lineTo(xe - 4, y + (i + 0.5) * h / 4);
			g.lineTo(xe + 0.5, y + (i + 1) * h / 4);
		}
		g.fill();
	}
	if (it.f) {
		g.fillStyle = colors.crit;
		g.fillRect(a, y + h - 2, w, 2);
	}
	if (w > 26) {
		let main = it.p.reduce((m, p) => !m || p[2] - p[1] > m[2] - m[1] ? p : m, null);
		if (main && main[2] - main[1] < 0.3 * (it.e - it.s))
			main = null;
		g.fillStyle = colors["c-text"];
		g.fillText(clip(g, it.t + (main && it.k !== "req" ? "  " + main[0] : ""), w - 8), a + 4, y + h / 2 + 0.5);
	}
	g.globalAlpha = 1;
	if (it === picked || it === hover || hit) {
		g.strokeStyle = it === picked ? colors.text : colors.accent;
		g.lineWidth = it === picked ? 2 : 1;
		g.strokeRect(a - 0.5, y - 0.5, w + 1, h + 1);
	}
}
function draw() {
	width = canvas.parentElement.clientWidth;
	gutter = width < 560 ? 74 : 118;
	height = Math.min(sheetHeight + AXIS, scroll.clientHeight || sheetHeight + AXIS);
	const g = setup(canvas, height), top = scroll.scrollTop;
	const f = findings[current];
	g.font = "11px " + getComputedStyle(document.body).fontFamily;
	g.textBaseline = "middle";
	const tk = ticks();
	if (f) {
		g.fillStyle = colors.shade;
		const a = Math.max(gutter, X(f.since)), b = Math.min(width, X(f.until));
		if (b > a) {
			g.fillRect(a, 0, b - a, AXIS);
			for (const r of rows)
				if (r.dev === f.dev && r.kind === "track")
					g.fillRect(a, Math.max(AXIS, AXIS + r.y - top), b - a, r.h);
		}
	}
	g.strokeStyle = colors.grid;
	g.lineWidth = 1;
	g.beginPath();
	for (const t of tk.list) {
		const x = Math.round(X(t)) + 0.5;
		g.moveTo(x, 0);
		g.lineTo(x, height);
	}
	g.stroke();
	g.save();
	g.beginPath();
	g.rect(0, AXIS, width, height - AXIS);
	g.clip();
	for (const r of rows) {
		const y = AXIS + r.y - top;
		if (y + r.h < AXIS || y > height)
			continue;
		if (r.kind === "dev") {
			g.fillStyle = colors.bg;
			g.fillRect(0, y, width, HEAD - 2);
			if (r.worst) {
				g.fillStyle = r.worst > 1 ? colors.crit : colors.warn;
				g.fillRect(0, y, 3, HEAD - 2);
			}
			g.fillStyle = colors.text;
			g.font = "600 " + g.font.replace(/^600 /, "");
			const name = clip(g, r.name, width * 0.6);
			g.fillText(name, 12, y + HEAD / 2 - 1);
			const w = g.measureText(name).width;
			g.font = g.font.replace(/^600 /, "");
			g.fillStyle = colors.dim;
			g.fillText(clip(g, r.note, width - w - 40), 24 + w, y + HEAD / 2 - 1);
			continue;
		}
		g.fillStyle = colors.line;
		g.fillRect(gutter - 5, y, 1, r.h);
		g.fillStyle = colors.dim;
		g.fillText(clip(g, r.name, gutter - 18), 12, y + ROW / 2);
		for (const it of r.items)
			drawItem(g, it, y + it.row * ROW + 1);
	}
	g.restore();
	g.strokeStyle = colors.line;
	g.beginPath();
	g.moveTo(0, AXIS - 0.5);
	g.lineTo(width, AXIS - 0.5);
	g.stroke();
	g.fillStyle = colors.dim;
	g.textAlign = "center";
	for (const t of tk.list) {
		const x = X(t), label = at(t, tk.step), half = g.measureText(label).width / 2 + 3;
		if (x - half > 0 && x + half < width)
			g.fillText(label, x, AXIS / 2);
	}
	g.textAlign = "left";
	if (cursor !== null && cursor > gutter) {
		g.strokeStyle = colors.dim;
		g.beginPath();
		g.moveTo(Math.round(cursor) + 0.5, AXIS);
		g.lineTo(Math.round(cursor) + 0.5, height);
		g.stroke();
	}
	drawOverview();
	$("range").textContent = at(view.a, (view.b - view.a) / 100) + " \u2026 " + at(view.b, (view.b - view.a) / 100) + "   (" + dur(Math.round(view.b - view.a)) + ")";
}
function drawOverview() {
	const g = setup(overview, 26), w = overview.parentElement.clientWidth;
	const OX = (ns) => gutter + (ns - FULL[0]) / (FULL[1] - FULL[0]) * (w - gutter);
	g.fillStyle = colors.dim;
	g.globalAlpha = 0.35;
	for (const it of items)
		if (it.k !== "span")
			g.fillRect(Math.max(gutter, OX(it.s)), 12 + TRACKS.indexOf(TRACK[it.k]) * 3, Math.max(1, OX(it.e) - Math.max(gutter, OX(it.s))), 2);
	g.globalAlpha = 1;
	findings.forEach((f, i) => {
		g.fillStyle = f.critical ? colors.crit : colors.warn;
		const a = Math.max(gutter, OX(f.since));
		g.fillRect(a, i === current ? 1 : 3, Math.max(3, OX(f.until) - a), i === current ? 7 : 4);
	});
	g.fillStyle = colors.shade;
	g.strokeStyle = colors.accent;
	g.lineWidth = 1;
	const a = OX(view.a), b = OX(view.b);
	g.fillRect(a, 0, b - a, 26);
	g.strokeRect(a + 0.5, 0.5, Math.max(2, b - a - 1), 25);
	g.fillStyle = colors.dim;
	g.font = "11px " + getComputedStyle(document.body).fontFamily;
	g.textBaseline = "middle";
	g.fillText("findings", 12, 7);
	g.fillText("all", 12, 20);
}
let pending = 0;
function redraw() {
	if (!pending)
		pending = requestAnimationFrame(() => {
			pending = 0;
			draw();
		});
}
function setView(a, b) {
	const min = 2000, span = Math.max(min, Math.min(b - a, FULL[1] - FULL[0]));
	const mid = (a + b) / 2;
	a = Math.max(FULL[0], Math.min(mid - span / 2, FULL[1] - span));
	view.a = a;
	view.b = a + span;
	redraw();
}
function zoom(factor, center) {
	const c = center === undefined ? (view.a + view.b) / 2 : center;
	setView(c - (c - view.a) * factor, c + (view.b - c) * factor);
}
function pan(part) {
	const d = (view.b - view.a) * part;
	setView(view.a + d, view.b + d);
}
function showRow(dev, it) {
	const r = it ? rows.find((x) => x.kind === "track" && x.dev === dev && x.name === TRACK[it.k]) : rows.find((x) => x.kind === "dev" && x.dev === dev);
	if (!r)
		return;
	const y = r.y + (it ? it.row * ROW : 0), room = scroll.clientHeight - AXIS;
	if (y < scroll.scrollTop || y + 5 * ROW > scroll.scrollTop + room)
		scroll.scrollTop = Math.max(0, y - (it ? HEAD + ROW : 0));
}
function zoomTo(a, b) {
	const m = Math.max((b - a) * 0.12, 1e4);
	setView(a - m, b + m);
}

// What the pointer is on.
function itemAt(x, y) {
	if (x < gutter || y < AXIS)
		return null;
	const sy = y - AXIS + scroll.scrollTop;
	const r = rows.find((q) => q.kind === "track" && sy >= q.y && sy < q.y + q.h);
	if (!r)
		return null;
	const line = Math.floor((sy - r.y - 1) / ROW);
	let best = null;
	for (const it of r.items)
		if (it.row === line && X(it.s) - 2 <= x && X(it.e) + 2 >= x && (!best || it.e - it.s < best.e - best.s))
			best = it;
	return best;
}
function itemFacts(it) {
	const list = [["device", devName(it.d)], ["began", at(it.s) + (wall(it.s) ? "   " + wall(it.s) : "")], ["lasted", dur(it.e - it.s) + (it.o ? ", still open" : "")]];
	for (const [name, s, e] of it.p)
		list.push([name, dur(e - s)]);
	for (const [k, v] of Object.entries(it.a))
		if (k !== "open")
			list.push([k, v === true ? "yes" : v]);
	return list;
}
function showTip(it, x, y) {
	tip.replaceChildren(el("b", "", it.t), pairs(itemFacts(it), el("dl", "kv")));
	tip.hidden = false;
	const w = tip.offsetWidth, h = tip.offsetHeight;
	tip.style.left = Math.max(4, Math.min(x + 14, window.innerWidth - w - 8)) + "px";
	tip.style.top = Math.max(4, y + h + 22 > window.innerHeight ? y - h - 10 : y + 16) + "px";
}
function pick(it) {
	picked = it;
	const box = $("picked");
	box.hidden = !it;
	if (it) {
		const top = el("div", "top"), close = el("button", "", "close"), dl = el("dl", "kv");
		close.type = "button";
		close.addEventListener("click", () => pick(null));
		add(top, el("b", "", it.t), el("span", "", dur(it.e - it.s) + (it.o ? ", still open" : "")), close);
		for (const [k, v] of itemFacts(it))
			add(dl, add(el("div"), el("dt", "", k), el("dd", "", String(v))));
		box.replaceChildren(top, dl);
		$("live").textContent = it.t + ", " + dur(it.e - it.s);
	}
	redraw();
}

// Findings.
function stack(title, task) {
	if (!task || (!task.kstack && !task.ustack && !task.ustack_error))
		return null;
	const d = el("details", "stack"), pre = el("pre");
	const tell = (s, mark) => {
		for (const frame of s.split(";"))
			add(pre, el("span", mark && /freeze_queue_wait|ublk_|elv_iosched|elevator_/.test(frame) ? "key" : "", frame + "\n"));
	};
	add(d, el("summary", "", title + " " + task.comm + "/" + task.tid + (task.state ? " (" + task.state + ")" : "")));
	if (task.kstack) {
		pre.append("kernel\n");
		tell(task.kstack, true);
	}
	if (task.ustack) {
		pre.append((task.kstack ? "\n" : "") + "user\n");
		tell(task.ustack, false);
	}
	add(d, pre);
	if (task.ustack_error)
		add(d, el("p", "", "user stack: " + task.ustack_error));
	return d;
}
function taskName(t) {
	return t.comm + "/" + t.tid + (t.pid && t.pid !== t.tid ? " of process " + t.pid : "") + (t.state ? ", state " + t.state : "") + (t.killed ? ", SIGKILL does not help" : "");
}
function spanName(s, until) {
	return s.event + (s.key ? " " + s.key : "") + " " + dur(Math.max(0, (s.end !== undefined ? s.end : until) - s.start)) + (s.end === undefined ? ", open" : "") + (s.attempt > 1 ? ", attempt " + s.attempt : "") + (s.stage ? ", stage " + s.stage : "");
}
const OPS = { R: "read", W: "write", F: "flush", D: "discard", Z: "write zeroes" };
const STATES = { queued: "not delivered yet", server: "held by the server", requeued: "given back" };
function blockerWhat(b) {
	if (b.req)
		return (OPS[b.req.op] || "request") + " queue " + b.req.queue + " tag " + b.req.tag + ", sector " + b.req.sector + "+" + b.req.sectors + ", " + (STATES[b.req.state] || b.req.state);
	if (b.type === "queue")
		return "queue " + b.queue + ": " + (b.exact ? "" : "at least ") + b.armed + " of " + b.depth + " armed" + (b.missing ? ", missing tags " + b.missing : "");
	if (b.type === "opener")
		return b.comm + "/" + b.pid + " has the " + (b.cdev ? "char" : "block") + " device: " + b.what;
	if (b.type === "no server")
		return "no server" + (b.comm ? ": " + b.comm + "/" + b.pid + " let go" + (b.at !== undefined ? " at " + at(b.at) + " " + wall(b.at) : "") : "");
	return b.type;
}
function blockerTable(f) {
	const table = el("table"), tr = el("tr"), wide = el("div", "wide");
	for (const h of ["blocker", "age", "server thread", "what the daemon does with it"])
		add(tr, el("th", "", h));
	add(table, tr);
	f.blockers.forEach((b, i) => {
		const row = el("tr", i < BLOCKERS ? "" : "rest");
		const owner = b.owner ? taskName(b.owner) : b.owner_tid ? (b.owner_comm || "thread") + "/" + b.owner_tid : "";
		const spans = [b.io_span, b.span].filter(Boolean).map((s) => spanName(s, f.until)).join("; ");
		add(row, el("td", "", blockerWhat(b)), el("td", "num", b.age ? dur(b.age) : ""), el("td", "", owner), el("td", "", spans));
		add(table, row);
	});
	if (f.more_blockers)
		add(table, add(el("tr", f.blockers.length > BLOCKERS ? "rest" : ""), el("td", "", "and " + f.more_blockers + " more")));
	if (f.blockers.length > BLOCKERS) {
		const more = el("button", "", "show all " + f.blockers.length + (f.more_blockers ? " of " + (f.blockers.length + f.more_blockers) : ""));
		more.type = "button";
		more.addEventListener("click", () => {
			table.classList.add("all");
			more.remove();
		});
		return add(wide, table, more);
	}
	return add(wide, table);
}
function cardBody(f) {
	const body = el("div", "body"), list = [];
	if (f.advice)
		add(body, el("p", "advice", f.advice));
	list.push(["since", at(f.since) + (wall(f.since) ? "   " + wall(f.since) : "")]);
	list.push([f.open ? "still so after" : "lasted", dur(f.until - f.since)]);
	list.push(["stage", f.stage]);
	if (f.waiter) {
		list.push(["waiter", taskName(f.waiter)]);
		list.push(["command line", f.waiter.cmdline]);
	}
	if (f.attr_name)
		list.push(["attribute", f.attr_name + " = " + f.attr_value + (f.attr_freeze_ns ? ", " + dur(f.attr_freeze_ns) + " of it waiting for freezes" : "")]);
	if (f.cycle.length) {
		const ol = el("ol", "cycle");
		for (const c of f.cycle)
			add(ol, el("li", "", c));
		list.push(["proven cycle", ol]);
	}
	add(body, pairs(list, el("dl", "kv")));
	if (f.blockers.length)
		add(body, blockerTable(f));
	const stacks = el("div", "stacks"), seen = new Set();
	const put = (title, t) => {
		if (t && !seen.has(t.tid)) {
			seen.add(t.tid);
			add(stacks, stack(title, t));
		}
	};
	put("waiter", f.waiter);
	f.blockers.forEach((b) => put("server thread", b.owner));
	if (stacks.childElementCount)
		add(body, stacks);
	const zoomTo_ = el("button", "", "zoom to it");
	zoomTo_.type = "button";
	zoomTo_.addEventListener("click", () => focusFinding(f));
	return add(body, add(el("div", "actions"), zoomTo_));
}
function subject(f) {
	const find = (k, id) => id && items.find((it) => it.k === k && it.id === id);
	return find("cmd", f.cmd) || find("attr", f.attr) || find("freeze", f.freeze) || null;
}
function focusFinding(f) {
	zoomTo(f.since, f.until);
	const it = subject(f);
	showRow(f.dev);
	pick(it);
}
function select(i, scrollTo) {
	if (i < 0 || i >= findings.length)
		return;
	current = i;
	findings.forEach((f, n) => f.card.classList.toggle("on", n === i));
	const f = findings[i];
	f.card.hidden = false;
	if (scrollTo)
		f.card.scrollIntoView({ block: "nearest" });
	$("live").textContent = "finding " + (i + 1) + " of " + findings.length + ": " + f.verdict + ", " + devName(f.dev, f.volume) + ", " + dur(f.until - f.since);
	redraw();
}
function toggle(i, open) {
	const f = findings[i];
	if (!f)
		return;
	const now = open === undefined ? !f.card.classList.contains("opened") : open;
	f.card.classList.toggle("opened", now);
	f.head.setAttribute("aria-expanded", String(now));
	if (now && !f.body)
		add(f.card, f.body = cardBody(f));
	if (f.body)
		f.body.hidden = !now;
}
function buildFindings() {
	const box = $("findings");
	if (!findings.length) {
		add(box, el("p", "none", "No findings: nothing waited longer than its budget."));
		return;
	}
	const order = findings.slice().sort((a, b) => Number(b.critical) - Number(a.critical) || a.since - b.since);
	findings.splice(0, findings.length, ...order);
	findings.forEach((f, i) => {
		const card = el("article", "card" + (f.critical ? " crit" : "")), head = el("button", "head");
		const v = el("span", "verdict", f.verdict), l = el("span", "lasted", dur(f.until - f.since));
		head.type = "button";
		head.setAttribute("aria-expanded", "false");
		if (f.catalogue)
			add(v, el("span", "cat", f.catalogue));
		if (f.open)
			add(l, el("span", "openmark", "open"));
		add(head, v, el("span", "dev", devName(f.dev, f.volume)), l, el("span", "summary", f.summary));
		head.title = f.severity;
		head.addEventListener("click", () => {
			const other = current !== i;
			select(i, false);
			toggle(i, other ? true : undefined);
			if (other)
				focusFinding(f);
		});
		f.card = card;
		f.head = head;
		card.hidden = i >= CARDS;
		add(box, add(card, head));
	});
	if (findings.length > CARDS) {
		const more = el("button", "more", "show all " + findings.length + " findings");
		more.type = "button";
		more.addEventListener("click", () => {
			for (const f of findings)
				f.card.hidden = false;
			more.remove();
		});
		add(box, more);
	}
}

// Search.
let hitIndex = -1, hits = [];
function search(q) {
	query = q.trim().toLowerCase();
	hits = query ? items.filter((it) => it.text.includes(query)).sort((a, b) => a.s - b.s) : [];
	hitIndex = -1;
	let n = 0;
	for (const f of findings) {
		const is = !query || f.text.includes(query);
		f.card.classList.toggle("faded", !is);
		if (query && is)
			f.card.hidden = false;
		n += query && is ? 1 : 0;
	}
	$("hits").textContent = query ? String(hits.length + n) : "";
	redraw();
}
function nextHit(step) {
	if (!hits.length)
		return;
	hitIndex = (hitIndex + step + hits.length) % hits.length;
	const it = hits[hitIndex];
	if (it.s < view.a || it.e > view.b)
		zoomTo(it.s, it.e);
	showRow(it.d, it);
	pick(it);
}

// The page around it.
function buildPage() {
	const span = Math.max(0, data.last), c = data.counts || {};
	const facts = [["kernel", data.kernel], ["host", data.host], ["began", data.wall_ms ? new Date(data.wall_ms).toLocaleString() : ""], ["observed", dur(span)], ["devices", data.devices.length], ["findings", findings.length]];
	if (data.counts)
		facts.push(["events", c.events], ["dropped", c.dropped], ["unmatched", c["unmatched commands"] + c["unmatched freezes"]], ["spans", c["daemon spans"]], ["not joined", c["spans without kernel event"] + c["commands without span"]]);
	for (const [k, v] of facts)
		if (v !== "" && v !== undefined)
			add($("facts"), add(el("div"), el("dt", "", k), el("dd", "", String(v))));
	const loss = [];
	if (c.dropped)
		loss.push(c.dropped + " events were dropped in the kernel: what they told is missing here.");
	const left = Object.entries(data.left_out).map(([k, v]) => v + " " + k);
	if (left.length)
		loss.push("Left out of this report (the shorter ones): " + left.join(", ") + ".");
	if (!data.ended)
		loss.push("The capture was cut: it has no end record.");
	$("loss").hidden = !loss.length;
	$("loss").textContent = loss.join(" ");
	for (const n of LEGEND) {
		const s = el("span"), i = el("i");
		i.style.background = "var(--c-" + n + ")";
		add(s, i);
		s.append(n);
		add($("legend"), s);
	}
	const hooks = el("table");
	for (const h of data.hooks)
		add(hooks, add(el("tr"), el("td", "num", h.hook), el("td", "mono", h.variant), el("td", "", h.reason || "")));
	$("hooks").hidden = !data.hooks.length;
	add($("hooks").querySelector(".wide"), hooks);
	$("table").addEventListener("toggle", buildTable, { once: true });
}
function buildTable() {
	const t = el("table"), head = el("tr");
	for (const h of ["began", "lasted", "device", "track", "what", "details"])
		add(head, el("th", "", h));
	add(t, head);
	const longest = items.slice().sort((a, b) => (b.e - b.s) - (a.e - a.s)).slice(0, 300);
	for (const it of longest)
		add(t, add(el("tr"), el("td", "num", at(it.s)), el("td", "num", dur(it.e - it.s) + (it.o ? " open" : "")), el("td", "", devName(it.d)), el("td", "", TRACK[it.k]), el("td", "", it.t),
			el("td", "", Object.entries(it.a).map(([k, v]) => k + " " + v).join(", "))));
	$("table").querySelector(".wide").replaceChildren(t);
}
function setTheme(name) {
	document.documentElement.dataset.theme = name;
	$("theme").textContent = name === "dark" ? "light" : "dark";
	$("theme").setAttribute("aria-label", "switch to the " + (name === "dark" ? "light" : "dark") + " theme");
	readColors();
	redraw();
}
function otherTheme() {
	setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
}
function size() {
	$("sheet").style.height = sheetHeight + AXIS + "px";
	redraw();
}

const KEYS = {
	ArrowLeft: () => pan(-0.15), ArrowRight: () => pan(0.15), "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6),
	"0": () => setView(FULL[0], FULL[1]),
	j: () => select(Math.min(current + 1, findings.length - 1), true), k: () => select(Math.max(current - 1, 0), true),
	z: () => current >= 0 && focusFinding(findings[current]),
	t: otherTheme, "?": () => $("help").showModal(),
	"/": () => { $("search").focus(); $("search").select(); },
	Escape: () => { pick(null); hideTip(); },
};
function hideTip() {
	tip.hidden = true;
	hover = null;
	cursor = null;
	redraw();
}
document.addEventListener("keydown", (e) => {
	if (e.ctrlKey || e.metaKey || e.altKey || $("help").open)
		return;
	if (e.target === $("search")) {
		if (e.key === "Escape") {
			$("search").value = "";
			search("");
			canvas.focus({ preventScroll: true });
		} else if (e.key === "Enter") {
			nextHit(e.shiftKey ? -1 : 1);
		}
		return;
	}
	if (e.key === "Enter" && !e.target.closest("button, summary, a") && current >= 0) {
		toggle(current);
		findings[current].card.scrollIntoView({ block: "nearest" });
		e.preventDefault();
	} else if (KEYS[e.key]) {
		KEYS[e.key]();
		e.preventDefault();
	}
});
$("search").addEventListener("input", (e) => search(e.target.value));
$("theme").addEventListener("click", otherTheme);
$("helpbutton").addEventListener("click", () => $("help").showModal());
$("zin").addEventListener("click", () => zoom(0.6));
$("zout").addEventListener("click", () => zoom(1 / 0.6));
$("zall").addEventListener("click", () => setView(FULL[0], FULL[1]));
scroll.addEventListener("scroll", redraw);
window.addEventListener("resize", size);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));

canvas.addEventListener("wheel", (e) => {
	const r = canvas.getBoundingClientRect();
	const horizontal = Math.abs(e.deltaX) > Math.abs(e.deltaY);
	// With Shift the wheel scrolls the devices.
	if (e.shiftKey && !horizontal) {
		scroll.scrollTop += e.deltaY;
	} else if (horizontal) {
		pan(e.shiftKey ? 0 : e.deltaX / (width - gutter));
	} else {
		zoom(Math.exp(Math.max(-60, Math.min(60, e.deltaY)) * 0.006), NS(Math.max(gutter, e.clientX - r.left)));
	}
	e.preventDefault();
}, { passive: false });

const pointers = new Map();
let moved = 0;
canvas.addEventListener("pointerdown", (e) => {
	pointers.set(e.pointerId, e.clientX);
	canvas.setPointerCapture(e.pointerId);
	moved = 0;
});
canvas.addEventListener("pointermove", (e) => {
	const r = canvas.getBoundingClientRect(), x = e.clientX - r.left, y = e.clientY - r.top;
	if (pointers.has(e.pointerId)) {
		const before = [...pointers.values()], last = pointers.get(e.pointerId);
		pointers.set(e.pointerId, e.clientX);
		moved += Math.abs(e.clientX - last);
		if (pointers.size === 1) {
			pan(-(e.clientX - last) / (width - gutter));
		} else {
			const after = [...pointers.values()];
			const w0 = Math.max(8, Math.abs(before[0] - before[1])), w1 = Math.max(8, Math.abs(after[0] - after[1]));
			zoom(w0 / w1, NS((after[0] + after[1]) / 2 - r.left));
		}
		tip.hidden = true;
		return;
	}
	cursor = x;
	hover = itemAt(x, y);
	if (hover)
		showTip(hover, e.clientX, e.clientY);
	else
		tip.hidden = true;
	redraw();
});
const release = (e) => pointers.delete(e.pointerId);
canvas.addEventListener("pointerup", (e) => {
	const r = canvas.getBoundingClientRect();
	release(e);
	if (moved < 4)
		pick(itemAt(e.clientX - r.left, e.clientY - r.top));
});
canvas.addEventListener("pointercancel", release);
canvas.addEventListener("pointerleave", hideTip);
canvas.addEventListener("dblclick", (e) => {
	const r = canvas.getBoundingClientRect(), it = itemAt(e.clientX - r.left, e.clientY - r.top);
	if (it)
		zoomTo(it.s, it.e);
});
function fromOverview(e) {
	if (!(e.buttons & 1))
		return;
	const r = overview.getBoundingClientRect();
	const ns = FULL[0] + (e.clientX - r.left - gutter) / (r.width - gutter) * (FULL[1] - FULL[0]), half = (view.b - view.a) / 2;
	setView(ns - half, ns + half);
}
overview.addEventListener("pointerdown", (e) => {
	overview.setPointerCapture(e.pointerId);
	fromOverview(e);
});
overview.addEventListener("pointermove", fromOverview);

buildFindings();
buildPage();
setTheme(dark.matches ? "dark" : "light");
size();
document.documentElement.dataset.ready = "1";
})();
