// The dashboard: asks the API every few seconds, and shows what it says.
// Keys, names and messages come from outside: they go into the page as text, never as HTML.

import { backlogChart, finishedChart } from "./charts.js";
import { fill, folderOf, keyOf, make, many, nameOf, number, rough, span, tag } from "./words.js";

const EVERY_MS = 3000, PATIENCE_MS = 8000;
const SHOWN = 6; // failures, and jobs that run
const KEY = "warmline-api-key"; // in this tab's own storage, which ends with the tab
const $ = (id) => document.getElementById(id);

let key = sessionStorage.getItem(KEY) ?? "";
let timer = 0, paused = false, under_way = false, last = null; // last: {overview, at}
let wanted_call = ""; // the id of the call whose picture is open

// ---- Asking

class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? `The API answered ${status}.`);
    this.status = status;
    this.code = problem?.code;
  }
}

function ask(path, { accept = "application/json" } = {}) {
  const headers = { Accept: accept };
  if (key) headers.Authorization = `Bearer ${key}`;
  return fetch(path, { headers, cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(PATIENCE_MS) });
}

async function read(path) {
  const answer = await ask(path);
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}

const needsKey = () => document.documentElement.dataset.key === "needed" && !key;

async function look() {
  if (under_way) return;
  under_way = true;
  clearTimeout(timer);
  try {
    if (needsKey()) {
      askForKey("");
      const answer = await ask("health"); // open to all; 503 has the same document
      showHealth(await answer.json());
    } else {
      showOverview(await read("v1/overview"));
    }
    $("main").classList.remove("stale");
  } catch (error) {
    showFault(error);
  } finally {
    under_way = false;
    schedule();
  }
}

function schedule() {
  clearTimeout(timer);
  if (!paused && !document.hidden) timer = setTimeout(look, EVERY_MS);
}

// ---- The key

function askForKey(fault) {
  key = "";
  sessionStorage.removeItem(KEY);
  const first = $("key-form").hidden;
  $("key-form").hidden = false;
  $("main").hidden = $("forget").hidden = $("pause").hidden = true;
  $("updated").textContent = "";
  if (fault) $("key-fault").textContent = fault;
  if (first) $("key").focus();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = $("key").value.trim();
  if (!/^[\x21-\x7e]+$/.test(given)) { // what a header can carry
    $("key-fault").textContent = "A key has no spaces, and letters and digits of ASCII only.";
    return;
  }
  key = given;
  sessionStorage.setItem(KEY, key);
  $("key-fault").textContent = "";
  look();
});

$("forget").addEventListener("click", () => {
  last = null;
  $("key").value = $("key-fault").textContent = "";
  askForKey("");
});

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").textContent = paused ? "Go on" : "Pause";
  $("pause").setAttribute("aria-pressed", String(paused));
  if (paused) { clearTimeout(timer); showAge(); } else look();
});

document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) look(); else clearTimeout(timer); });

// ---- Times

// By the API's clock, which this machine's need not agree with.
const ago = (iso) => (Date.parse(last.overview.at) - Date.parse(iso)) / 1000;
const when = (iso, text) => make("time", { datetime: iso, title: new Date(iso).toLocaleString() }, text ?? `${span(ago(iso))} ago`);

// ---- Is it well?

const SIGNS = { well: "✓", warn: "!", bad: "✗", unknown: "…" };

function banner(level, head, text) {
  if ($("banner").dataset.level === level && $("banner-head").textContent === head && $("banner-text").textContent === text) return;
  $("banner").dataset.level = level;
  $("banner-sign").textContent = SIGNS[level];
  $("banner-head").textContent = head;
  $("banner-text").textContent = text;
  document.title = level === "well" ? "Warmline" : `${SIGNS[level]} ${head} – Warmline`;
}

function showFault(error) {
  if (error.status === 401) {
    askForKey("This key is not accepted. Is it of WARMLINE_API_KEYS, and whole?");
    return;
  }
  const old = last ? ` What is shown is ${span((Date.now() - last.at) / 1000)} old.` : "";
  const text = `This page goes on asking every ${EVERY_MS / 1000} seconds.${old}`;
  $("main").classList.add("stale");
  if (!(error instanceof Refused)) banner("bad", "The API does not answer", text);
  else if (error.code === "ledger_unavailable") banner("bad", "Redis does not answer", `Nothing that was accepted is lost; no job is taken until it does. ${text}`);
  else banner("bad", "The API cannot say how it is", `${error.message} ${text}`);
}

// What anybody may know, before a key is.
function showHealth({ redis, workers, warm_children, status }) {
  if (redis !== "ok") banner("bad", "Redis does not answer", "No job can be taken or submitted until it does.");
  else if (!workers) banner("bad", "No worker is alive", "Jobs are accepted and wait.");
  else if (!warm_children) banner("warn", "No model is warm yet", "Jobs wait until a model is loaded.");
  else if (status !== "healthy") banner("warn", "Jobs are worked on, but a worker is not well", "The key shows which.");
  else banner("well", "All is well", `${many(warm_children, "warm child", "warm children")} on ${many(workers, "worker")}.`);
}

function showCondition({ status, workers, backlog }) {
  const unwell = workers.filter((one) => KINDS[one.condition] === undefined);
  const why = unwell.map((one) => `${one.name} is ${one.condition}. ${one.reason}`).join(" ");
  const models = [...new Set(workers.filter((one) => one.model).map((one) => one.model))].join(", ");
  const mini = workers.some((one) => one.mini) ? ", the bundled one for trying things out" : "";
  if (!backlog.workers) banner("bad", "No worker is alive", `Jobs are accepted and wait. ${why}`);
  else if (!backlog.warm_children) banner(why ? "bad" : "warn", "No model is warm", why || "Jobs wait until a model is loaded.");
  else if (status !== "healthy") banner("warn", "Jobs are worked on, but look here", why);
  else banner("well", "All is well", `${many(backlog.warm_children, "warm child", "warm children")} on ${many(backlog.workers, "worker")}, model ${models}${mini}.`);
}

// ---- Everything else

function showOverview(overview) {
  last = { overview, at: Date.now() };
  $("key-form").hidden = true;
  $("main").hidden = $("pause").hidden = false;
  $("forget").hidden = !key;
  $("version").textContent = overview.version;
  showAge();
  showCondition(overview);
  showTiles(overview);
  backlogChart($("chart-backlog"), overview.history);
  finishedChart($("chart-finished"), overview.history);
  showCalls(overview);
  showRunning(overview.running);
  showFailures(overview);
  showBatches(overview.batches);
  showWorkers(overview.workers);
  showLanes(overview.backlog);
  showEnded(overview);
}

function showAge() {
  if (!last) return;
  const at = new Date(last.at).toLocaleTimeString();
  $("updated").textContent = paused ? `paused; as of ${at}` : `as of ${at}, every ${EVERY_MS / 1000} s`;
}

function tile(name, figure, note) {
  $(`tile-${name}`).textContent = figure;
  $(`note-${name}`).textContent = note;
}

function showTiles({ backlog, rates }) {
  const oldest = Math.max(...Object.values(backlog.lanes).map((lane) => lane.oldest_seconds ?? 0));
  tile("waiting", number.format(backlog.waiting), backlog.waiting ? `the oldest for ${span(oldest)}` : "nothing waits");
  tile("running", number.format(backlog.running), backlog.delayed ? `${number.format(backlog.delayed)} wait for another attempt` : "");
  tile("rate", rates.seconds ? rough.format(rates.finished_per_minute) : "–",
    rates.failed_per_minute ? `${rough.format(rates.failed_per_minute)} of them failed` : rates.seconds ? `over ${span(rates.seconds)}` : "just started");
  tile("warm", `${backlog.warm_children} of ${backlog.children}`, `${many(backlog.busy_children, "has", "have")} a job; ${many(backlog.workers, "worker")}`);
  tile("dead", number.format(backlog.dead), backlog.dead ? "given up; see below" : "none was given up");
}

function ink(colour) { // black or white, whichever has more contrast with it
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

function strip(channel, looks) {
  const cells = channel.tenths.map((label, n) => {
    const look = looks[label], cell = make("i", { title: `${n * 10} to ${n * 10 + 10} %: ${label ?? "no speech"}` });
    if (look) {
      cell.textContent = look.letter;
      cell.style.background = look.colour; // by the object model, which the page's policy allows
      cell.style.color = ink(look.colour);
    }
    return cell;
  });
  const said = channel.tenths.map((label) => label ?? "no speech").join(", ");
  return make("span", { class: "strip", role: "img", "aria-label": `tenths of the call: ${said}` }, ...cells);
}

function showCalls({ finished, looks, source_bucket }) {
  fill($("finished"), finished, (call) => {
    const channels = call.emotions.map((one) => make("span", { class: "channel" },
      make("span", { class: "role", title: one.role }, one.role), strip(one, looks),
      make("span", { class: "top" }, one.top ? `${one.top} ${Math.round(100 * (one.confidence ?? 0))} %` : "no speech")));
    const took = call.started_at ? `, took ${span((Date.parse(call.finished_at) - Date.parse(call.started_at)) / 1000)}` : "";
    const button = make("button", { type: "button", "aria-haspopup": "dialog" },
      make("span", { class: "key", title: call.uri }, nameOf(call.uri)),
      make("span", { class: "meta" }, when(call.finished_at), took, ` · ${folderOf(call.uri)}`), ...channels);
    return make("li", {}, button);
  });
  $("no-finished").hidden = finished.length > 0;
  $("no-finished").textContent = `No call has been scored yet. Put a recording into s3://${source_bucket}/, or run: warmline submit call.wav`;
}

$("finished").addEventListener("click", (event) => {
  const line = event.target.closest("li");
  const call = last?.overview.finished.find((one) => one.id === line?.dataset.id);
  if (call) openCall(call);
});

async function openCall(call) {
  wanted_call = call.id;
  $("call-title").textContent = keyOf(call.uri);
  $("call-text").textContent = `Job ${call.id}, ${call.lane} lane. Its emotions over time:`;
  $("call-picture").replaceChildren("Drawing …");
  $("call").showModal();
  try {
    const answer = await ask(`v1/jobs/${encodeURIComponent(call.id)}/timeline.svg`, { accept: "image/svg+xml, application/json" });
    if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => null));
    const picture = await answer.blob();
    if (wanted_call !== call.id || !$("call").open) return;
    const url = URL.createObjectURL(picture);
    const image = make("img", { src: url, alt: `Timeline of ${keyOf(call.uri)}` }); // as an image it can run nothing
    image.addEventListener("load", () => URL.revokeObjectURL(url));
    $("call-picture").replaceChildren(image);
  } catch (error) {
    if (wanted_call === call.id) $("call-picture").replaceChildren(error instanceof Refused ? error.message : "The API does not answer.");
  }
}

$("call-close").addEventListener("click", () => $("call").close());
$("call").addEventListener("click", (event) => { if (event.target === $("call")) $("call").close(); }); // beside it

function bar(label, parts) { // parts: [share 0 to 1, class]
  const pieces = parts.map(([share, kind]) => {
    const piece = make("span", { class: kind });
    piece.style.width = `${100 * share}%`;
    return piece;
  });
  return make("span", { class: "bar", role: "img", "aria-label": label }, ...pieces);
}

function showRunning(jobs) {
  fill($("running"), jobs.slice(0, SHOWN), (job) => {
    const done = job.progress?.windows_total ? job.progress.windows_done / job.progress.windows_total : 0;
    const text = job.progress?.windows_total ? `${Math.round(100 * done)} % of its windows` : job.progress?.stage ?? "";
    return make("li", {}, make("span", { class: "right" }, job.started_at ? when(job.started_at, span(ago(job.started_at))) : ""),
      keyOf(job.uri), make("span", { class: "text" }, `${job.lane} lane, attempt ${job.attempt}${text && `, ${text}`}`),
      done ? bar(text, [[done, ""]]) : "");
  });
  $("no-running").hidden = jobs.length > 0;
}

function showFailures({ failures, backlog }) {
  fill($("failures"), failures.slice(0, SHOWN), (job) => make("li", {},
    make("span", { class: "right" }, when(job.finished_at ?? job.queued_at)),
    keyOf(job.uri), " ", tag(job.failure?.code ?? job.status, "bad"), job.status === "dead" ? " " : "", job.status === "dead" ? tag("dead", "bad") : "",
    make("span", { class: "text" }, job.failure?.message ?? "")));
  $("no-failures").hidden = failures.length > 0;
  $("dead-hint").hidden = backlog.dead === 0;
}

function showBatches(batches) {
  fill($("batches"), batches, (batch) => {
    const end = batch.ends_in_seconds === null ? "no end in sight yet" : `ends in about ${span(batch.ends_in_seconds)}`;
    const text = `${number.format(batch.ended)} of ${number.format(batch.total)} ended, ${number.format(batch.failed)} failed`;
    return make("li", {}, make("span", { class: "right" }, end), make("code", {}, batch.id), " begun ", when(batch.created_at),
      bar(text, [[(batch.ended - batch.failed) / batch.total, ""], [batch.failed / batch.total, "bad"]]),
      make("span", { class: "text" }, text));
  });
  $("batches-panel").hidden = batches.length === 0;
}

const KINDS = { ok: "good", loading: "warn", draining: "warn" };

function showWorkers(workers) {
  fill($("workers"), workers, (worker) => make("tr", {},
    make("td", {}, worker.name),
    make("td", {}, tag(worker.condition, KINDS[worker.condition] ?? "bad"), worker.reason ? make("span", { class: "reason" }, worker.reason) : ""),
    make("td", {}, `${worker.warm} of ${worker.children} warm, ${worker.busy} busy${worker.respawns ? `, ${worker.respawns} replaced` : ""}`),
    make("td", {}, worker.lanes.join(", ")),
    make("td", {}, worker.model ?? "–", worker.mini && worker.model !== "mini" ? " (mini)" : ""),
    make("td", {}, [worker.engine, worker.device, worker.precision].filter(Boolean).join(", ") || "–"),
    make("td", {}, worker.version || "–"),
    make("td", {}, worker.started_at ? when(worker.started_at, span(ago(worker.started_at))) : "–")), (worker) => worker.name);
  $("no-workers").hidden = workers.length > 0;
}

function showLanes(backlog) {
  fill($("lanes"), Object.entries(backlog.lanes), ([name, lane]) => make("tr", {},
    make("td", {}, name), make("td", { class: "n" }, number.format(lane.waiting)), make("td", { class: "n" }, number.format(lane.running)),
    make("td", { class: "n" }, lane.oldest_seconds === null ? "–" : span(lane.oldest_seconds))), ([name]) => name);
  const others = [[backlog.retrying, "due for another attempt"], [backlog.delayed, "waiting for the time of another attempt"],
    [backlog.held, "held back by a trigger's pace"]].filter(([count]) => count);
  $("lanes-note").textContent = others.length ? `Besides: ${others.map(([count, text]) => `${number.format(count)} ${text}`).join(", ")}.` : "";
}

const ENDED = ["succeeded", "failed", "dead", "cancelled"];

function showEnded({ ended, webhooks }) {
  const total = ENDED.reduce((sum, name) => sum + (ended[name] ?? 0), 0);
  const parts = ENDED.filter((name) => ended[name]);
  $("ended-bar").setAttribute("aria-label", total ? parts.map((name) => `${ended[name]} ${name}`).join(", ") : "no job has ended yet");
  fill($("ended-bar"), parts, (name) => {
    const piece = make("span", { class: `ended-${name}` });
    piece.style.width = `${100 * ended[name] / total}%`;
    return piece;
  }, (name) => name);
  for (const piece of $("ended-bar").children) piece.style.width = `${100 * ended[piece.dataset.id] / total}%`;
  fill($("ended"), ENDED, (name) => make("li", {}, make("i", { class: `ended-${name}` }), `${number.format(ended[name] ?? 0)} ${name}`), (name) => name);
  if (!webhooks) { $("webhooks").textContent = "Webhooks are off."; return; }
  const faults = [webhooks.failed && `${number.format(webhooks.failed)} given up (warmline webhooks list --status failed)`,
    webhooks.disabled && `${many(webhooks.disabled, "address", "addresses")} gone`, webhooks.dropped && `${number.format(webhooks.dropped)} dropped`,
    !webhooks.delivering && "nobody delivers now"].filter(Boolean);
  $("webhooks").textContent = `Webhooks to ${many(webhooks.endpoints, "address", "addresses")}: ${number.format(webhooks.delivered)} delivered, ` +
    `${number.format(webhooks.pending + webhooks.waiting)} under way${faults.length ? `; ${faults.join(", ")}` : ""}.`;
}

addEventListener("resize", () => { if (last && !$("main").hidden) { backlogChart($("chart-backlog"), last.overview.history); finishedChart($("chart-finished"), last.overview.history); } });
look();
