"use strict";
/* The status page: everything it shows is text that the server has answered; nothing of it becomes markup. */
const PERIOD = 2000, POINTS = 90, PAGE = 50, STEPS = 50, TOP = 10;
const GAUGES = [["subscriptions", "subscriptions"], ["subscriptions_pending", "of them pending"],
  ["publications", "publications"],
  ["presentities", "presentities"], ["fanouts_queued", "large fan-outs waiting"],
  ["db_rows_queued", "rows to be written"]];
/* Which counters make up a rate. */
const RATES = [["PUBLISH accepted", /^publish_2xx$/], ["PUBLISH refused", /^publish_[456]/],
  ["SUBSCRIBE accepted", /^subscribe_2xx$/],
  ["SUBSCRIBE refused", /^subscribe_[456]/], ["NOTIFY sent", /^notify_sent$/],
  ["NOTIFY failed", /^notify_([3456]|timeout$|unsent$)/, true], ["database errors", /^db_errors$/, true]];
const LISTS = {
  subscriptions: { method: "presence.subscriptions", empty: "no subscription fits",
    columns: ["watcher", "presentity", "event", "status", "left", "age", "user_agent", "node"],
    sorts: ["watcher", "presentity", "event", "status", "left", "age"] },
  publications: { method: "presence.publications", empty: "no publication fits",
    columns: ["presentity", "event", "sender", "left", "received", "bytes", "etag"], sorts: ["presentity", "event"] },
};
const by = id => document.getElementById(id);
const past = RATES.map(() => []), cards = {}, shown = {};
let before = null, number = 0, mayChange = false, timer = null;

/* The server's filter takes exactly this form, and no quotes or backslashes in the arguments. */
async function rpc(method, ...params) {
  const reply = await fetch("RPC", { method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", method, params: params.map(String), id: ++number }) });
  if (reply.status === 403) throw new Error("the server does not allow " + method + " with these arguments");
  if (!reply.ok && reply.status !== 500) throw new Error("the server answered " + reply.status);
  const answer = await reply.json();
  if (answer.error) throw new Error(answer.error.message);
  return answer.result;
}

function make(name, text, parent, kind) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  if (parent) parent.append(element);
  return element;
}

const TIMES = ["at", "ended", "last_notify", "received", "started"];
/* Columns that are not broken within a word. */
const SHORT = ["event", "status", "step", "left", "age", "watchers", "changes", "answer", "bytes"];
const SPANS = ["left", "age", "expires"];

function span(seconds) {
  if (seconds < 0) return "without end";
  const parts = [["d", Math.floor(seconds / 86400)], ["h", Math.floor(seconds / 3600) % 24],
    ["min", Math.floor(seconds / 60) % 60], ["s", seconds % 60]];
  const first = parts.findIndex(([, value]) => value > 0);
  return first < 0 ? "0 s" : parts.slice(first, first + 2).filter(([, value]) => value > 0)
    .map(([unit, value]) => value + " " + unit).join(" ");
}

/* A time as this browser's user writes it, date and zone included. */
const local = seconds => new Date(seconds * 1000).toLocaleString(undefined,
  { dateStyle: "medium", timeStyle: "medium" });

function show(column, value) {
  if (value === undefined || value === null) return "";
  if (TIMES.includes(column)) return value ? local(value) : "";
  if (SPANS.includes(column) && typeof value === "number") return span(value);
  return String(value);
}

/* Rows as a table; `lead` is called with the row that was chosen, `sort` with the column. */
function table(element, columns, rows, { empty, lead, sort, sorted, sorts = [], acts }) {
  element.replaceChildren();
  if (!rows.length) { make("p", empty, element, "none"); return; }
  const whole = make("table", undefined, element);
  const head = make("tr", undefined, make("thead", undefined, whole));
  const kind = (column, row) => typeof row[column] === "number" && !TIMES.includes(column) ? "number" : "";
  for (const column of columns) {
    const cell = make("th", undefined, head, kind(column, rows[0]));
    cell.scope = "col";
    const title = column.replaceAll("_", " ");
    if (!sorts.includes(column)) { cell.textContent = title; continue; }
    const mark = sorted === column ? " ▲" : sorted === "-" + column ? " ▼" : "";
    make("button", title + mark, cell).addEventListener("click", () => sort(sorted === column ? "-" + column : column));
    cell.ariaSort = mark === " ▲" ? "ascending" : mark ? "descending" : "none";
  }
  if (acts) make("th", "", head);
  const body = make("tbody", undefined, whole);
  for (const row of rows) {
    const line = make("tr", undefined, body);
    for (const column of columns) make("td", show(column, row[column]), line, kind(column, row)
      + (SHORT.includes(column) ? " short" : "")).dataset.name = column.replaceAll("_", " ");
    if (lead) {
      line.className = "leads";
      line.tabIndex = 0;
      line.addEventListener("click", () => lead(row));
      line.addEventListener("keydown", event => { if (event.key === "Enter" && event.target === line) lead(row); });
    }
    if (acts) acts(row, make("td", undefined, line));
  }
}

function card(parent, title, bad) {
  const box = make("div", undefined, parent, "card" + (bad ? " bad" : ""));
  const value = make("b", "–", box);
  make("span", title, box);
  return { box, value };
}

function line(points) {
  const top = Math.max(1, ...points);
  return points.map((y, x) => (x ? "L" : "M") + (x * 100 / Math.max(1, points.length - 1)).toFixed(2) + " "
    + (29 - 27 * y / top).toFixed(2)).join("");
}

function chart(at, rate, bad) {
  const [title] = RATES[at];
  if (!cards[title]) {
    cards[title] = card(by("charts"), title);
    const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    picture.setAttribute("viewBox", "0 0 100 30");
    picture.setAttribute("preserveAspectRatio", "none");
    picture.setAttribute("aria-hidden", "true");
    picture.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
    cards[title].box.append(picture);
  }
  past[at].push(rate);
  if (past[at].length > POINTS) past[at].shift();
  cards[title].value.textContent = rate < 10 ? rate.toFixed(1) : Math.round(rate).toLocaleString();
  cards[title].box.classList.toggle("bad", Boolean(bad && rate > 0));
  cards[title].box.querySelector("path").setAttribute("d", line(past[at]));
}

async function figures() {
  const all = await rpc("stats.fetchn", "presence:");
  const now = performance.now(), named = Object.entries(all)
    .map(([name, value]) => [name.replace(/^presence\./, ""), Number(value)]);
  const values = Object.fromEntries(named);
  for (const [name, title] of GAUGES) {
    cards[name] ??= card(by("gauges"), title);
    cards[name].value.textContent = (values[name] ?? 0).toLocaleString();
  }
  const sums = RATES.map(([, names]) => named
    .reduce((total, [name, value]) => names.test(name) ? total + value : total, 0));
  RATES.forEach(([, , bad], at) => {
    if (before) chart(at, Math.max(0, sums[at] - before.sums[at]) * 1000 / (now - before.now), bad);
  });
  before = { now, sums };
}

/* A list without a count of its own: one entry more is asked for, to say whether there are more. */
async function leaders(name, method, columns, empty, lead) {
  const rows = await rpc(method, TOP + 1);
  table(by(name), columns, rows.slice(0, TOP), { empty, lead });
  if (rows.length > TOP) make("p", "the first " + TOP + "; there are more", by(name), "count");
}

async function turn() {
  timer = null;
  try {
    await figures();
    await leaders("busiest", "presence.busiest", ["presentity", "event", "watchers", "changes"],
      "nobody watches anybody",
      row => list("subscriptions", { presentity: row.presentity, event: row.event }));
    await leaders("failing", "presence.failing",
      ["watcher", "presentity", "event", "contact", "answer", "last_notify", "ended", "refused_row"], "none", explain);
    by("state").className = "";
    by("state").textContent = "as of " + new Date().toLocaleTimeString();
  } catch (error) {
    by("state").className = "bad";
    by("state").textContent = "no answer: " + error.message;
  }
  next();
}

/* A page that nobody looks at asks nothing. */
function next() {
  if (timer === null && !document.hidden) timer = setTimeout(turn, PERIOD);
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden) { clearTimeout(timer); timer = null; before = null; } else if (timer === null) turn();
});

/* What is asked for stands behind the address: a link repeats it. */
function remember(what, fields) {
  const given = new URLSearchParams(Object.entries(fields).filter(([, value]) => value));
  history.replaceState(null, "", "#" + what + "?" + given);
}

function fill(form, fields) {
  for (const field of form.elements) if (field.name) field.value = fields[field.name] ?? "";
}

const filled = fields => Object.entries(fields).filter(([, value]) => value).map(([name, value]) => name + "=" + value);

function failed(into, error) {
  into.replaceChildren();
  make("p", error.message, into, "none");
}

/* One page of a list, with how many there are in all. */
async function list(name, fields, { offset = 0, sort = "" } = {}) {
  const { method, columns, sorts, empty } = LISTS[name], into = by(name + "-list"), mine = shown[name] = {};
  fill(by(name), fields);
  remember(name, fields);
  try {
    const filter = filled(fields), order = sort ? ["sort=" + sort] : [];
    const [{ count }] = await rpc(method, ...filter, "count=1");
    const rows = await rpc(method, ...filter, ...order, "offset=" + offset, "limit=" + PAGE);
    if (shown[name] !== mine) return;
    const again = more => list(name, fields, { offset, sort, ...more });
    const used = columns.filter(column => column !== "node" || rows.some(row => row.node));
    table(into, used, rows, { empty, lead: explain, sorts, sorted: sort,
      sort: wanted => again({ sort: wanted, offset: 0 }),
      acts: mayChange && ((row, cell) => act(name, row, cell, () => again({}))) });
    const pages = make("div", undefined, into, "pages");
    const last = offset + rows.length;
    make("span", rows.length ? (offset + 1).toLocaleString() + "–" + last.toLocaleString() + " of "
      + count.toLocaleString() : "0 of " + count.toLocaleString(), pages, "count");
    for (const [title, to] of [["First", 0], ["Back", offset - PAGE], ["Next", offset + PAGE],
      ["Last", Math.max(0, Math.floor((count - 1) / PAGE) * PAGE)]]) {
      const button = make("button", title, pages);
      button.disabled = to < 0 || to >= count || to === offset;
      button.addEventListener("click", () => again({ offset: to }));
    }
    make("button", "Refresh", pages).addEventListener("click", () => again({}));
  } catch (error) { failed(into, error); }
}

/* What the server allows to be changed from here, asked for twice. */
function act(name, row, cell, then) {
  const button = make("button", name === "subscriptions" ? "End" : "Remove", cell);
  button.addEventListener("click", async event => {
    event.stopPropagation();
    const whom = name === "subscriptions" ? "the subscription of " + row.watcher + " to " + row.presentity
      : "the publication of " + row.presentity;
    if (!confirm("End " + whom + "?")) return;
    try {
      if (name === "subscriptions") await rpc("presence.subscription_end", row.watcher, row.presentity, row.event);
      else await rpc("presence.publication_expire", row.presentity, row.event, row.etag);
    } catch (error) { alert(error.message); }
    then();
  });
}

function story(step) {
  const body = step.bytes ? step.bytes + " bytes, " + step.body_crc32 : "no body";
  switch (step.what) {
    case "published": return step.how + (step.etag ? ", entity tag " + step.etag : "")
      + (step.sender ? ", by " + step.sender : "") + ", " + body;
    case "composed": return step.how + ", " + body;
    case "notified": return "NOTIFY " + step.cseq + " to " + step.watcher + ": " + step.how + ", " + body;
    case "answered": return "NOTIFY " + step.cseq + " of " + step.watcher + ": " + step.answer_took;
    default: return "the subscription of " + step.watcher + " ended: " + step.because;
  }
}

async function explain({ watcher = "", presentity = "", event = "" }) {
  const into = by("answer"), fields = { watcher, presentity, event }, mine = shown.explain = {};
  fill(by("explain"), fields);
  remember("explain", fields);
  into.replaceChildren();
  by("explain").scrollIntoView({ block: "nearest" });
  try {
    if (watcher && presentity) {
      for (const finding of await rpc("presence.explain", watcher, presentity, ...(event ? [event] : []))) {
        if (shown.explain !== mine) return;
        const { because, next: todo, ...rest } = finding;
        const box = make("div", undefined, into, "finding" + (/^active: /.test(because) ? "" : " dark"));
        make("p", because, box);
        if (todo) make("p", "Next: " + todo, box, "none");
        const facts = make("dl", undefined, box);
        for (const [name, value] of Object.entries(rest)) {
          make("dt", name.replaceAll("_", " "), facts);
          make("dd", show(name, value), facts);
        }
      }
    }
    const filter = filled(fields);
    const [{ count }] = await rpc("presence.history", ...filter, "count=1");
    const steps = await rpc("presence.history", ...filter, "limit=" + STEPS);
    if (shown.explain !== mine) return;
    make("h3", "What happened", into);
    const lines = steps.map(step => ({ time: local(step.at) + " " + step.time.replace(/^\S+ \S+(\.\d+) .*/, "$1"),
      event: step.event,
      presentity: step.presentity, step: step.what, story: story(step) }));
    const differ = name => lines.some(step => step[name] !== lines[0][name]);
    table(make("div", undefined, into), ["time", ...["presentity", "event"].filter(differ), "step", "story"], lines,
      { empty: "nothing is remembered" });
    if (count > steps.length) make("p", "the last " + steps.length + " of " + count.toLocaleString() + " steps", into,
      "count");
  } catch (error) { if (shown.explain === mine) failed(into, error); }
}

for (const [name, work] of [["explain", explain], ["subscriptions", fields => list("subscriptions", fields)],
  ["publications", fields => list("publications", fields)]]) {
  by(name).addEventListener("submit", event => {
    event.preventDefault();
    work(Object.fromEntries(new FormData(event.target)));
  });
}

by("settings").addEventListener("toggle", async () => {
  const into = by("settings").querySelector("div");
  try {
    const rows = Object.entries(await rpc("presence.config"))
      .map(([parameter, value]) => ({ parameter, value: String(value) }));
    table(into, ["parameter", "value"], rows, { empty: "" });
  } catch (error) { failed(into, error); }
});

/* #explain?watcher=…&presentity=…&event=…, #subscriptions?… and #publications?… ask at once. */
function ask() {
  const [what, words] = location.hash.slice(1).split("?"),
    given = Object.fromEntries(new URLSearchParams(words ?? what));
  if (what === "subscriptions" || what === "publications") list(what, given);
  else if (given.watcher || given.presentity) explain(given);
}

async function start() {
  for (const select of document.querySelectorAll(".events")) make("option", "all events", select).value = "";
  try {
    const server = await rpc("presence.version");
    for (const select of document.querySelectorAll(".events"))
      for (const event of server.events.split(",")) make("option", event.trim(), select);
    by("server").textContent = server.name + " " + server.version + " for Kamailio " + server.kamailio + " on "
      + location.host + ", since " + local(server.started);
    mayChange = (await (await fetch("may")).text()).trim() === "change";
  } catch (error) { by("server").textContent = error.message; }
  ask();
  turn();
}
addEventListener("hashchange", ask);
start();
