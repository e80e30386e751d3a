#!/usr/bin/env bash
# Are the files that `loadgen … --out DIR` leaves what others read?
#
#   tests/check-report.sh [DIR]      DIR: such files; without it a short run makes them
#
# The interval log is read with HdrHistogram's package for Python, and each kind's count, maximum
# and 99th percentile are compared with report.json. junit.xml is read with junitparser.
# report.html is opened in Chromium without a network, wide and narrow: nothing in its console, and
# no part of it wider than the page. Needs python3 with venv, unshare, and chromium; what comes
# from PyPI goes to target/report-venv. Pictures of the page lie beside the files.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-$top/target/report-check}
venv=$top/target/report-venv
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
  { echo "no chromium: apt-get install chromium" >&2; exit 2; }

if [ $# -eq 0 ]; then
  rm -rf "$dir"
  "${LOADGEN:-$top/target/release/loadgen}" steady --clients 1000 --own-master --port 0 --interval 2s \
    --for 6s --reports-per-poll 1 --out "$dir" >/dev/null 2>&1
fi
if ! "$venv/bin/python" -c 'import hdrh, junitparser, websocket' 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q hdrhistogram==0.10.8 junitparser==5.0.3 websocket-client==1.9.0
fi

"$venv/bin/python" - "$dir" <<'PY'
import json, sys
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from junitparser import JUnitXml
dir = sys.argv[1]
report = json.load(open(f"{dir}/report.json"))

kinds, lines = {}, 0
reader = HistogramLogReader(f"{dir}/latency.hlog", HdrHistogram(1, 3_600_000_000, 3))
while (interval := reader.get_next_interval_histogram()) is not None:
    whole = kinds.setdefault(interval.get_tag(), HdrHistogram(1, 3_600_000_000, 3))
    whole.add(interval)
    lines += 1
for phase in report["phases"]:
    for kind, found in phase["latencies"].items():
        kind = f"{phase['name']}.{kind}"
        whole = kinds.pop(kind, None)
        assert whole or found["count"] == 0, f"{kind}: not in the log"
        count, most = whole.get_total_count(), whole.get_max_value()
        assert (count, most) == (found["count"], found["max_us"]), f"{kind}: {count}, at most {most}, in the log"
        # Implementations differ by one in which of all counts as the 99th of a hundred.
        least, most = (whole.get_value_at_percentile(99 + way * 100 / count) for way in (-1, 1))
        assert least <= found["p99_us"] <= most, f"{kind}: p99 between {least} and {most} in the log"
assert not kinds, f"only in the log: {list(kinds)}"
print(f"latency.hlog: {lines} intervals, as report.json says")

suites = JUnitXml.fromfile(f"{dir}/junit.xml")
cases = [case for suite in suites for case in suite]
assert suites.tests == len(cases) > 0
assert suites.failures == sum(not case.is_passed for case in cases)
print(f"junit.xml: {len(cases)} cases, {suites.failures} failed")
PY

# A network of its own, in which nothing but the page's own browser is to be had.
unshare -rn sh -c "ip link set lo up; exec \"\$@\"" - "$venv/bin/python" - "$dir" "$chromium" <<'PY'
import base64, json, subprocess, sys, tempfile, time, urllib.request
from websocket import create_connection
dir, chromium = sys.argv[1:]
profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
browser = subprocess.Popen(
    [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=9222",
     "--remote-allow-origins=*", f"--user-data-dir={profile.name}", "about:blank"],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    pages = []
    for _ in range(300):
        try:
            pages = json.load(urllib.request.urlopen("http://127.0.0.1:9222/json"))
            break
        except OSError:
            time.sleep(0.1)
    page = next(page for page in pages if page["type"] == "page")
    socket = create_connection(page["webSocketDebuggerUrl"], timeout=30)
    number, complaints = 0, []

    def receive():
        message = json.loads(socket.recv())
        method, params = message.get("method"), message.get("params", {})
        if method in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown",
                      "Network.loadingFailed"):
            complaints.append(params)
        if method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("file:", "data:", "about:")):
                complaints.append(f"asks for {url}")
        return message

    def call(method, **params):
        global number
        number += 1
        socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (message := receive()).get("id") != number:
            pass
        assert "error" not in message, message
        return message["result"]

    for domain in ("Log", "Runtime", "Network", "Page"):
        call(f"{domain}.enable")
    for name, width in (("wide", 1400), ("narrow", 400)):
        call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
             mobile=width < 500)
        call("Page.navigate", url=f"file://{dir}/report.html")
        while receive().get("method") != "Page.loadEventFired":
            pass
        script = "[document.documentElement.scrollWidth, Math.min(...[...document.querySelectorAll('svg text')]" \
                 ".map(t => t.getBoundingClientRect().height)), document.querySelectorAll('svg').length]"
        across, smallest, plots = call("Runtime.evaluate", expression=script, returnByValue=True)["result"]["value"]
        assert across <= width, f"{name}: the page is {across} wide on {width}"
        assert plots > 0 and smallest >= 9, f"{name}: {plots} plots, text of {smallest:.1f} px"
        shot = call("Page.captureScreenshot", captureBeyondViewport=True)
        open(f"{dir}/report-{name}.png", "wb").write(base64.b64decode(shot["data"]))
        print(f"report.html, {name}: {plots} plots, smallest line of text {smallest:.0f} px")
    assert not complaints, complaints
    print("report.html: asks for nothing, and the console is empty")
finally:
    browser.terminate()
    browser.wait()
PY
