// The two curves of the dashboard, as SVG that is drawn anew with each look. Everything goes in as text or as a number.

const HEIGHT = 190, LEFT = 42, RIGHT = 8, TOP = 22, BOTTOM = 20;
const HOUR = 3600, SHORTEST = 600; // seconds: of the axis of time

function node(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const whole = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

// A round number that is not less.
function roof(value) {
  if (value <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.2, 1.6, 2, 3, 4, 6, 8, 10].map((step) => step * power).find((step) => step >= value);
}

// The axes, and how to get from seconds and figures to places.
function frame(box, samples, highest, label) {
  const width = Math.max(260, box.clientWidth), now = samples.at(-1).at;
  const span = Math.min(HOUR, Math.max(SHORTEST, now - samples[0].at));
  const top = roof(highest);
  const x = (at) => LEFT + (width - LEFT - RIGHT) * (1 - (now - at) / span);
  const y = (value) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top);
  const svg = node("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const value of [0, top / 2, top]) {
    svg.append(node("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
    svg.append(node("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, whole.format(value)));
  }
  const minutes = span / 60, step = minutes > 30 ? 15 : minutes > 15 ? 5 : 2;
  for (let back = 0; back <= minutes + .01; back += step) {
    const at = x(now - back * 60), anchor = back === 0 ? "end" : at < LEFT + 20 ? "start" : "middle";
    svg.append(node("text", { x: at, y: HEIGHT - 4, "text-anchor": anchor }, back ? `−${back} min` : "now"));
  }
  return { svg, x, y, now, span, width };
}

function key(svg, width, entries) {
  let at = width - RIGHT;
  for (const [text, mark] of entries.reverse()) {
    const name = node("text", { class: "key", x: at, y: 11, "text-anchor": "end" }, text);
    svg.append(name);
    at -= text.length * 6.2 + 26;
    mark.setAttribute("transform", `translate(${at + 2} 7)`);
    svg.append(mark);
    at -= 12;
  }
}

// Pieces without holes: where Redis was away there are no samples, and no line is to be drawn across.
function pieces(samples, every) {
  const found = [[]];
  for (const sample of samples) {
    const last = found.at(-1).at(-1);
    if (last && sample.at - last.at > 2.5 * every) found.push([]);
    found.at(-1).push(sample);
  }
  return found;
}

export function backlogChart(box, history) {
  const samples = history.samples.filter((one) => one.at >= history.samples.at(-1).at - HOUR);
  const highest = Math.max(...samples.map((one) => Math.max(one.waiting, one.running)));
  const last = samples.at(-1);
  const { svg, x, y, width } = frame(box, samples, highest,
    `Now ${last.waiting} jobs wait and ${last.running} run; the most in the last hour was ${highest}.`);
  for (const piece of pieces(samples, history.every_seconds)) {
    const path = (value) => piece.map((one, n) => `${n ? "L" : "M"}${x(one.at).toFixed(1)} ${y(value(one)).toFixed(1)}`).join("");
    const waiting = path((one) => one.waiting);
    const close = `L${x(piece.at(-1).at).toFixed(1)} ${y(0)}L${x(piece[0].at).toFixed(1)} ${y(0)}Z`;
    svg.append(node("path", { class: "waiting-area", d: waiting + close }));
    svg.append(node("path", { class: "curve waiting", d: waiting }));
    svg.append(node("path", { class: "curve running", d: path((one) => one.running) }));
  }
  key(svg, width, [
    ["waiting", node("path", { class: "curve waiting", d: "M0 0h20" })],
    ["running", node("path", { class: "curve running", d: "M0 0h20" })],
  ]);
  box.replaceChildren(svg);
}

// What ended in each minute: differences of counts that only grow, unless another Redis begins anew.
export function perMinute(samples) {
  const now = samples.at(-1).at, minutes = new Map();
  for (let n = 1; n < samples.length; n++) {
    const back = Math.floor((now - samples[n].at) / 60);
    const bucket = minutes.get(back) ?? { succeeded: 0, failed: 0 };
    bucket.succeeded += Math.max(0, samples[n].succeeded - samples[n - 1].succeeded);
    bucket.failed += Math.max(0, samples[n].failed - samples[n - 1].failed);
    minutes.set(back, bucket);
  }
  return minutes;
}

export function finishedChart(box, history) {
  const samples = history.samples.filter((one) => one.at >= history.samples.at(-1).at - HOUR);
  const minutes = perMinute(samples);
  const highest = Math.max(0, ...[...minutes.values()].map((one) => one.succeeded + one.failed));
  const totals = [...minutes.values()].reduce((sum, one) => [sum[0] + one.succeeded, sum[1] + one.failed], [0, 0]);
  const { svg, x, y, now, width } = frame(box, samples, highest,
    `${totals[0]} jobs succeeded and ${totals[1]} failed in the time shown; at most ${highest} ended in a minute.`);
  svg.append(node("defs", {}, node("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    node("rect", { class: "bad", width: 5, height: 5 }), node("line", { class: "hatch", x1: 0, y1: 0, x2: 0, y2: 5 }))));
  const wide = Math.max(2, x(now) - x(now - 60) - 2);
  for (const [back, { succeeded, failed }] of minutes) {
    const right = x(now - back * 60), left = Math.max(LEFT, right - wide);
    const title = `${succeeded} succeeded, ${failed} failed, ${back ? `${back} to ${back + 1} minutes ago` : "in the last minute"}`;
    const bar = (from, to, attributes) => svg.append(node("rect",
      { x: left, width: Math.max(0, right - left), y: y(to), height: Math.max(0, y(from) - y(to)), ...attributes }, node("title", {}, title)));
    if (succeeded) bar(0, succeeded, { class: "good" });
    if (failed) bar(succeeded, succeeded + failed, { fill: "url(#hatch)" });
  }
  key(svg, width, [
    ["succeeded", node("rect", { class: "good", y: -5, width: 14, height: 10 })],
    ["failed", node("rect", { fill: "url(#hatch)", y: -5, width: 14, height: 10 })],
  ]);
  box.replaceChildren(svg);
}
