#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Uses the report as a person does, in a headless Chromium: check.py TRACE_SAMPLE OUTDIR [REPORT.html]

TRACE_SAMPLE writes the report of a made-up session; a report given as well (a real one) is only opened. TAP;
screenshots go to OUTDIR. Exit status 0 also when there is no browser: then it says so.
"""
import json
import os
import subprocess
import sys

sys.dont_write_bytecode = True
import chromium  # noqa: E402


class Tap:
    def __init__(self):
        self.n = self.failed = 0

    def ok(self, good, name, seen=None):
        self.n += 1
        self.failed += not good
        print(f"{'' if good else 'not '}ok {self.n} - {name}", flush=True)
        if not good and seen is not None:
            print(f"# seen: {seen}")


# The timeline tells the range it shows as text: "+1.0 s ... +2.0 s (1.00 s)".
SPAN = """(() => { const m = document.getElementById('range').textContent.match(/\\(([\\d.]+) (\\S+)/);
return Number(m[1]) * ({s: 1e3, ms: 1, 'µs': 1e-3, ns: 1e-6})[m[2].replace(')', '')]; })()"""
FROM = """(() => { const m = document.getElementById('range').textContent.match(/^([−+])([\\d.]+)/);
return (m[1] === '+' ? 1 : -1) * Number(m[2]) * 1e3; })()"""
SELECTED = "[...document.querySelectorAll('.card')].findIndex(c => c.classList.contains('on'))"
OPENED = "[...document.querySelectorAll('.card')].map(c => c.classList.contains('opened'))"


def complaints(b):
    """Exceptions, console errors, violations of the policy, and requests for anything but the file."""
    b.frame()
    bad = []
    for e in b.events:
        m, p = e.get("method"), e.get("params", {})
        if m in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
            bad.append(p)
        if m == "Network.requestWillBeSent" and not p["request"]["url"].startswith("file://"):
            bad.append(p["request"]["url"])
    return bad


def check_page(t, b, report):
    b.open(report)
    t.ok(b.js("document.documentElement.dataset.ready") == "1", "the report opens from a file")
    t.ok(b.js("document.querySelectorAll('.card').length") == 6, "every finding is a card")
    t.ok(b.js("[...document.querySelectorAll('.verdict')][0].textContent").startswith("freeze/self-deadlock"),
         "the critical ones come first")
    # Something is drawn, and in more than a few colours.
    colors = b.js("""(() => { const c = document.getElementById('canvas');
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, s = new Set();
        for (let i = 0; i < d.length; i += 4) s.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]); return s.size; })()""")
    t.ok(colors > 12, "the timeline is drawn", colors)


def check_findings(t, b):
    shown = []
    full = b.js(SPAN)
    for i in range(6):
        b.key("0")
        b.click(*b.center(f".card:nth-child({i + 1}) .head"))
        shown.append((b.js(OPENED)[i], b.js(SPAN), b.js(f"document.querySelectorAll('.card')[{i}].textContent")))
    t.ok(all(s[0] for s in shown), "a click opens each finding")
    t.ok(all(s[1] < full for s in shown), "and zooms the timeline to it", [s[1] for s in shown])
    t.ok("queue 0 tag 5 waits for worker-0/903" in shown[0][2], "a cycle is told step by step")
    t.ok("queue 1: 0 of 64 armed, missing tags 0-63" in shown[2][2], "missing tags are named")
    t.ok("object.get chunks/0000/01977f2e-11.pack 3.02 s" in shown[3][2], "the daemon's span is named")
    t.ok("and 2 more" in shown[4][2], "what did not fit is counted")
    rows = "[...document.querySelectorAll('.card:nth-child(5) tr')].filter(r => r.offsetHeight).length"
    few = b.js(rows)
    b.click(*b.center(".card:nth-child(5) table + button"))
    t.ok(few == 7 and b.js(rows) == 18, "many blockers are folded, and unfold", (few, b.js(rows)))
    b.click(*b.center(".card:nth-child(1) .stack summary"))
    t.ok(b.js("document.querySelector('.stack').open && document.querySelector('.stack pre').offsetHeight > 40"),
         "stacks fold open")
    t.ok(b.js("document.querySelectorAll('.stack .key').length") > 0, "the frames that matter stand out")


def check_keys(t, b, report):
    b.open(report)
    full = b.js(SPAN)
    b.key("+")
    b.key("+")
    near = b.js(SPAN)
    t.ok(near < full / 2, "+ zooms in", near)
    before = b.js(FROM)
    b.key("ArrowRight")
    after = b.js(FROM)
    t.ok(after > before, "the right arrow goes on", (before, after))
    b.key("ArrowLeft")
    t.ok(abs(b.js(FROM) - before) < near / 50, "the left arrow goes back")
    b.key("-")
    t.ok(b.js(SPAN) > near, "- zooms out")
    b.key("0")
    t.ok(b.js(SPAN) == full, "0 shows everything")
    for key in "jjj":
        b.key(key)
    b.key("k")
    t.ok(b.js(SELECTED) == 1, "j and k go through the findings", b.js(SELECTED))
    b.key("Enter")
    t.ok(b.js(OPENED) == [False, True] + [False] * 4, "Enter opens the selected one", b.js(OPENED))
    b.key("Enter")
    t.ok(not any(b.js(OPENED)), "and closes it")
    b.key("z")
    t.ok(b.js(SPAN) < full, "z zooms to it")
    b.key("?")
    t.ok(b.js("document.getElementById('help').open"), "? shows the keys")
    b.key("Escape")
    t.ok(not b.js("document.getElementById('help').open"), "Escape leaves them")


def check_search(t, b):
    b.key("0")
    b.key("/")
    t.ok(b.js("document.activeElement.id") == "search", "/ goes to the search")
    for c in "udev":
        b.key(c)
    t.ok(b.js("document.getElementById('hits').textContent") == "4", "hits are counted",
         b.js("document.getElementById('hits').textContent"))
    t.ok(b.js("document.querySelectorAll('.card.faded').length") == 5, "findings without a hit fade")
    b.key("Enter")
    t.ok("udev" in b.js("document.getElementById('picked').textContent"), "Enter shows the first hit")
    b.key("Escape")
    t.ok(b.js("document.querySelectorAll('.card.faded').length") == 0, "Escape ends the search")


def check_mouse(t, b):
    b.key("0")
    # The first bar: the freeze of the device with the worst finding.
    x, y = b.js("""(() => { const c = document.getElementById('canvas'); c.scrollIntoView();
        const r = c.getBoundingClientRect(); return [r.left + r.width * 0.7, r.top + 22 + 20 + 8]; })()""")
    b.mouse("mouseMoved", x, y)
    b.frame()
    tip = b.js("document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent")
    t.ok("freeze by worker-0" in tip and "still open" in tip, "the pointer shows what it is on", tip)
    full = b.js(SPAN)
    b.mouse("mouseWheel", x, y, deltaX=0, deltaY=-240)
    b.frame()
    t.ok(b.js(SPAN) < full, "the wheel zooms")
    b.key("0")
    b.click(x, y)
    t.ok("freeze by worker-0" in b.js("document.getElementById('picked').textContent"), "a click keeps it")
    b.js("document.getElementById('table').open = true")
    b.frame()
    t.ok(b.js("document.querySelectorAll('#table tr').length") > 50, "the same is there as a table")


def check_theme(t, b, report):
    get = "getComputedStyle(document.body).backgroundColor"
    b.open(report, dark=True)
    dark = b.js(get)
    b.open(report)
    light = b.js(get)
    t.ok(dark != light, "dark and light as the system asks", (dark, light))
    b.click(*b.center("#theme"))
    t.ok(b.js(get) == dark, "the button changes it")
    b.key("t")
    t.ok(b.js(get) == light, "and the key")


def check_hostile(t, b):
    """After everything was opened and shown: nothing of the traced host became part of the page."""
    t.ok(b.js("window.pwned === undefined"), "a hostile name does not run")
    t.ok(b.js("document.querySelectorAll('img, svg, iframe, main script, header script').length") == 0,
         "and is not markup")
    t.ok("</script><img src=x onerror=" in b.js("document.getElementById('findings').textContent"),
         "but is shown as it is")
    # Even if it were inserted as markup, the policy does not let it run.
    b.js("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.pwned=2\"><script>window.pwned=3<\\/script>')")
    b.frame()
    t.ok(b.js("window.pwned === undefined"), "the policy of the page would stop it")


def check_access(t, b):
    bad = b.js("""[...document.querySelectorAll('button, input, canvas[tabindex]')].filter(e =>
        !(e.textContent.trim() || e.getAttribute('aria-label') || e.closest('label'))).map(e => e.outerHTML)""")
    t.ok(bad == [], "every control has a name", bad)
    t.ok(b.js("document.querySelector('.head').hasAttribute('aria-expanded') && !!document.querySelector('[aria-live]')"),
         "states are told to a screen reader")


def check_phone(t, b, report, out):
    b.open(report, 390, 844, phone=True)
    t.ok(b.js("document.documentElement.scrollWidth") <= 390, "it fits a phone",
         b.js("document.documentElement.scrollWidth"))
    b.screenshot(os.path.join(out, "phone.png"))
    b.click(*b.center(".card:nth-child(5) .head"))
    t.ok(b.js("document.documentElement.scrollWidth") <= 390, "with a finding open as well",
         b.js("document.documentElement.scrollWidth"))
    b.screenshot(os.path.join(out, "phone-finding.png"))
    b.js("document.getElementById('timeline').scrollIntoView()")
    b.screenshot(os.path.join(out, "phone-timeline.png"))


def screenshots(b, report, out):
    for name, dark in (("light", False), ("dark", True)):
        b.open(report, dark=dark)
        b.screenshot(os.path.join(out, name + ".png"))
        b.click(*b.center(".card:nth-child(5) .head"))
        b.js("document.querySelector('.card:nth-child(5) .stack').open = true; window.scrollTo(0, 0)")
        b.screenshot(os.path.join(out, name + "-finding.png"))
        b.js("document.getElementById('timeline').scrollIntoView()")
        b.screenshot(os.path.join(out, name + "-timeline.png"))


def main():
    sample, out = sys.argv[1:3]
    os.makedirs(out, exist_ok=True)
    names = [os.path.join(out, "report" + ext) for ext in (".html", ".json", ".folded")]
    empty = [os.path.join(out, "empty" + ext) for ext in (".html", ".json", ".folded")]
    subprocess.run([sample] + names, check=True)
    subprocess.run([sample] + empty + ["empty"], check=True)
    with open(names[1], encoding="utf-8") as f:
        json.load(f)
    program = chromium.find()
    if not program:
        print("1..0 # SKIP no Chromium here (install chromium, or name it in CHROMIUM)")
        return 0
    t, b, report = Tap(), chromium.Browser(program), names[0]
    try:
        check_page(t, b, report)
        check_findings(t, b)
        check_hostile_events = complaints(b)
        check_access(t, b)
        check_keys(t, b, report)
        check_search(t, b)
        check_mouse(t, b)
        check_hostile_events += complaints(b)
        t.ok(not check_hostile_events, "no error, no request to anywhere", check_hostile_events[:3])
        check_theme(t, b, report)
        b.open(report)
        b.js("document.querySelectorAll('.head').forEach(h => h.click()); document.getElementById('table').open = true")
        b.frame()
        check_hostile(t, b)
        b.open(empty[0])
        t.ok("No findings" in b.js("document.body.textContent") and not complaints(b), "an empty session is a report, too")
        check_phone(t, b, report, out)
        screenshots(b, report, out)
        for more in sys.argv[3:]:
            b.open(more)
            t.ok(b.js("document.documentElement.dataset.ready") == "1" and not complaints(b), f"{more} opens")
            b.screenshot(os.path.join(out, os.path.basename(more) + ".png"))
    finally:
        b.close()
    print(f"1..{t.n}")
    return 1 if t.failed else 0


if __name__ == "__main__":
    sys.exit(main())
