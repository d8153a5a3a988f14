// The curation page. All texts of the run are data: they are set as textContent, never as HTML.

const WORDS = ["", "accepted", "rejected"];
const [UNSEEN, ACCEPTED, REJECTED] = [0, 1, 2];
const POLL = 2000; // milliseconds between two looks at what other tabs said
const A_BATCH = 500; // changes sent at a time
const GAP = 8; // pixels between cells
const $ = (id) => document.getElementById(id);
const plural = (n, one) => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`;

let data; // columns of all images
let shown; // Uint8Array: the words that lie on the disk, as far as this page knows, and over them those that are not saved yet
let placeOf; // id -> position
let list = []; // positions that are shown, in their order
let at = 0; // the place in the list where you are
let undoable = []; // {place, was, now}, the last one last

// ---- the server ------------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

async function ask(way, body) {
  const change = { method: "POST", headers: { "Content-Type": "application/json", "X-Figment-Look": "1" }, body: JSON.stringify(body) };
  const response = await fetch(way, body === undefined ? {} : change);
  const answer = await response.json();
  if (!response.ok) throw new Refused(response.status, answer.error);
  return answer;
}

// ---- what is not saved yet -------------------------------------------------------------------------------------------
// It is kept by the browser until the server says that it lies on the disk: whoever is killed in between, page or server, loses nothing.
// Each page has a place of its own there and a lock that dies with it; what a dead page left, the next one takes over.

const mine = crypto.randomUUID();
const prefix = () => `figment-look ${data.key} `;
let batches = []; // lists of changes that are, or may have been, on their way
let waiting = new Map(); // position -> change, since then
let letGo; // ends the lock

function remember() {
  const unsaved = [...batches, [...waiting.values()]].filter((batch) => batch.length);
  if (unsaved.length) localStorage.setItem(prefix() + mine, JSON.stringify(unsaved));
  else localStorage.removeItem(prefix() + mine);
}

function hold() {
  navigator.locks.request(prefix() + mine, () => new Promise((resolve) => { letGo = resolve; }));
}

async function takeOver() {
  const others = Object.keys(localStorage).filter((key) => key.startsWith(prefix()) && key !== prefix() + mine);
  for (const key of others) {
    await navigator.locks.request(key, { ifAvailable: true }, (lock) => {
      if (!lock || !localStorage.getItem(key)) return;
      for (const batch of JSON.parse(localStorage.getItem(key))) {
        for (let i = 0; i < batch.length; i += A_BATCH) batches.push(batch.slice(i, i + A_BATCH));
      }
      remember();
      localStorage.removeItem(key);
    });
  }
}

const unsaved = () => batches.reduce((n, batch) => n + batch.length, waiting.size);

function queue(place, was, now) {
  const change = waiting.get(place) ?? { id: data.id[place], digest: data.digest[place], was: WORDS[was] };
  change.now = WORDS[now];
  if (change.was === change.now) waiting.delete(place);
  else waiting.set(place, change);
  remember();
}

function learn(answer) {
  const words = new Uint8Array(data.id.length);
  for (const word of [ACCEPTED, REJECTED]) for (const place of answer.words[WORDS[word]]) words[place] = word;
  const before = shown;
  shown = words;
  for (const change of [...batches.flat(), ...waiting.values()]) {
    const place = placeOf.get(change.id);
    if (place !== undefined) shown[place] = WORDS.indexOf(change.now);
  }
  if (before.some((word, place) => word !== shown[place])) paint();
}

let busy = false, again = false, ended = false, timer, trouble = "";

// One request at a time, so that no old answer comes after a new one.
async function sync() {
  if (ended) return;
  if (busy) { again = true; return; }
  busy = true;
  clearTimeout(timer);
  try {
    do {
      again = false;
      await takeOver();
      if (waiting.size && !batches.length) {
        batches.push([...waiting.values()].slice(0, A_BATCH));
        for (const change of batches[0]) waiting.delete(placeOf.get(change.id));
      }
      remember();
      const answer = await (batches.length ? ask("verdicts.json", { changes: batches[0] }) : ask("verdicts.json"));
      if (batches.length) batches.shift();
      remember();
      learn(answer);
      trouble = "";
      if (answer.refused?.length) say(`${plural(answer.refused.length, "image")} had another word by then, from elsewhere; that was left as it is.`);
    } while (again || batches.length || waiting.size);
  } catch (error) {
    trouble = error instanceof Refused ? error.message : "figment look does not answer. Start it again; nothing here is lost.";
    if (!(error instanceof Refused)) console.error(error);
    if (error.status === 403) { // the page with the new address takes over
      ended = true;
      letGo();
    }
  }
  busy = false;
  state();
  if (!ended) timer = setTimeout(() => (document.hidden && !unsaved() ? state() : sync()), POLL);
}

function state() {
  const n = unsaved();
  $("saved").textContent = trouble ? `${n ? `${plural(n, "word")} not saved yet. ` : ""}${trouble}` : n ? "saving" : "saved";
  $("saved").classList.toggle("wrong", Boolean(trouble));
}

// ---- which images, in what order -------------------------------------------------------------------------------------

const className = (place) => data.classes[data.label[place]] ?? "no class";
const prompt = (place) => data.prompts[data.prompt[place]];
const reason = (place) => data.reasons[data.reason[place]];

const SHOWS = {
  all: () => true,
  kept: (place) => data.by[place] < 0 && shown[place] !== REJECTED,
  out: (place) => data.by[place] >= 0,
  unseen: (place) => data.by[place] < 0 && shown[place] === UNSEEN,
  rejected: (place) => shown[place] === REJECTED,
  accepted: (place) => shown[place] === ACCEPTED,
};

function showing(value) {
  const [kind, which] = value.split(":");
  if (kind === "by") return (place) => data.by[place] === Number(which);
  if (kind === "reason") return (place) => data.by[place] >= 0 && data.reason[place] === Number(which);
  return SHOWS[kind];
}

function searching(text) {
  const parts = text.toLowerCase().split(/\s+/).filter(Boolean);
  const words = (place) => `${className(place)}\n${prompt(place)}\n${reason(place)}\n${data.id[place]}`.toLowerCase();
  return parts.length ? (place) => { const own = words(place); return parts.every((part) => own.includes(part)); } : () => true;
}

function ordering(value) {
  const [kind, index, direction] = value.split(":");
  const text = (of) => (a, b) => of(a).localeCompare(of(b), "en", { numeric: true });
  if (kind === "class") return (a, b) => data.label[a] - data.label[b];
  if (kind === "prompt") return text(prompt);
  if (kind !== "score") return (a, b) => a - b;
  const scores = data.scores[Object.keys(data.scores)[index]];
  const sign = direction === "down" ? -1 : 1;
  return (a, b) => (scores[a] === null) - (scores[b] === null) || sign * (scores[a] - scores[b]); // those without one are last
}

function choose() {
  const current = list[at];
  const label = $("class").value;
  const fits = [showing($("show").value), searching($("search").value), label === "all" ? () => true : (place) => data.label[place] === Number(label)];
  list = data.id.map((_, place) => place).filter((place) => fits.every((fit) => fit(place))).sort(ordering($("sort").value));
  at = Math.max(0, list.indexOf(current));
  lay();
  go(at);
}

function option(select, value, text) {
  const one = new Option(text, value);
  one.dir = "auto";
  select.append(one);
}

function offer() {
  option($("class"), "all", "all classes");
  const counts = new Map();
  for (const label of data.label) counts.set(label, (counts.get(label) ?? 0) + 1);
  for (const [label, n] of [...counts].sort((a, b) => a[0] - b[0])) option($("class"), label, `${data.classes[label] ?? "no class"} (${n.toLocaleString("en")})`);
  const shows = { all: "all images", kept: "kept", unseen: "kept, without a word yet", out: "thrown out by filters", rejected: "rejected by hand", accepted: "accepted by hand" };
  for (const [value, text] of Object.entries(shows)) option($("show"), value, text);
  const thrown = (of) => data.by.reduce((n, by, place) => n + (by >= 0 && of(place)), 0);
  data.filters.forEach((name, i) => option($("show"), `by:${i}`, `filter ${name} (${thrown((p) => data.by[p] === i).toLocaleString("en")})`));
  data.reasons.forEach((text, i) => text && option($("show"), `reason:${i}`, `reason: ${text} (${thrown((p) => data.reason[p] === i).toLocaleString("en")})`));
  option($("sort"), "made", "as made");
  option($("sort"), "class", "class");
  option($("sort"), "prompt", "prompt");
  Object.keys(data.scores).forEach((name, i) => {
    option($("sort"), `score:${i}:up`, `${name}, lowest first`);
    option($("sort"), `score:${i}:down`, `${name}, highest first`);
  });
}

// ---- the grid: only what is in sight is there ------------------------------------------------------------------------

const cells = new Map(); // place in the list -> element
let across = 1, step = 136;

function lay() {
  const size = Number($("size").value);
  step = size + GAP;
  across = Math.max(1, Math.floor(($("grid").clientWidth - 2 * GAP + GAP) / step));
  $("space").style.height = `${Math.ceil(list.length / across) * step}px`;
  for (const cell of cells.values()) cell.remove();
  cells.clear();
  draw();
}

function draw() {
  const grid = $("grid");
  const first = Math.max(0, (Math.floor(grid.scrollTop / step) - 1) * across);
  const end = Math.min(list.length, (Math.ceil((grid.scrollTop + grid.clientHeight) / step) + 1) * across);
  for (const [i, cell] of cells) if (i < first || i >= end) { cell.remove(); cells.delete(i); }
  for (let i = first; i < end; i++) if (!cells.has(i)) cells.set(i, cellOf(i));
}

function cellOf(i) {
  const cell = document.createElement("div"), image = new Image(); // a new image each: an old one would show the former picture while it loads
  cell.role = "option";
  cell.id = `cell-${i}`;
  cell.style.width = cell.style.height = `${step - GAP}px`;
  cell.style.transform = `translate(${(i % across) * step}px, ${Math.floor(i / across) * step}px)`;
  cell.dataset.at = i;
  image.alt = "";
  image.decoding = "async";
  image.onload = () => image.classList.toggle("tiny", image.naturalWidth <= 96);
  image.src = `thumbnail/${list[i]}`;
  cell.append(image);
  dress(cell, i);
  $("space").append(cell);
  return cell;
}

function dress(cell, i) {
  const place = list[i], word = WORDS[shown[place]];
  cell.className = `cell ${word} ${data.by[place] >= 0 ? "out" : ""} ${i === at ? "current" : ""}`;
  cell.setAttribute("aria-selected", i === at);
  cell.setAttribute("aria-label", `${className(place)}, ${verdict(place)}`);
}

function verdict(place) {
  if (data.by[place] >= 0) return `thrown out by ${data.filters[data.by[place]]}: ${reason(place)}`;
  return ["kept", "kept, accepted by hand", "rejected by hand"][shown[place]];
}

function paint() {
  for (const [i, cell] of cells) dress(cell, i);
  count();
  tell();
  state();
}

function count() {
  let kept = 0, out = 0, rejected = 0, accepted = 0;
  for (let place = 0; place < shown.length; place++) {
    if (data.by[place] >= 0) out++;
    else if (shown[place] !== REJECTED) kept++;
    rejected += shown[place] === REJECTED;
    accepted += shown[place] === ACCEPTED;
  }
  const n = (value) => value.toLocaleString("en");
  $("counts").textContent = `${plural(shown.length, "image")}: ${n(kept)} kept, ${n(out)} thrown out by filters; by hand ${n(rejected)} rejected, ${n(accepted)} accepted`;
}

// ---- one image -------------------------------------------------------------------------------------------------------

function go(to) {
  const before = cells.get(at);
  at = Math.min(Math.max(0, to), Math.max(0, list.length - 1));
  const top = Math.floor(at / across) * step, grid = $("grid");
  if (top < grid.scrollTop) grid.scrollTop = top;
  else if (top + step + GAP > grid.scrollTop + grid.clientHeight) grid.scrollTop = top + step + GAP - grid.clientHeight;
  draw();
  if (before?.isConnected) dress(before, Number(before.dataset.at));
  if (cells.has(at)) dress(cells.get(at), at);
  grid.setAttribute("aria-activedescendant", `cell-${at}`);
  tell();
}

let told = -1, later;

function tell() {
  const place = list[at];
  $("side").hidden = place === undefined;
  if (place === undefined) { $("place").textContent = ""; told = -1; return say("No image fits."); }
  $("place").textContent = `${(at + 1).toLocaleString("en")} of ${list.length.toLocaleString("en")}`;
  $("word").textContent = verdict(place);
  $("word").className = data.by[place] >= 0 ? "out" : WORDS[shown[place]];
  if (told === place) return;
  told = place;
  const large = $("large").cloneNode();
  large.onload = () => large.classList.toggle("tiny", large.naturalWidth <= 96);
  large.src = `image/${place}`;
  $("large").replaceWith(large);
  const facts = [["class", className(place)], ["prompt", prompt(place)], ["id", data.id[place]]];
  for (const [name, scores] of Object.entries(data.scores)) if (scores[place] !== null) facts.push([name, String(scores[place])]);
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    text.dir = "auto";
    return [term, text];
  }));
  $("neighbours").replaceChildren();
  $("why").textContent = "";
  clearTimeout(later);
  if ($("near").checked) later = setTimeout(() => near(place), 150);
}

async function near(place) {
  $("why").textContent = "looking; the first time all real images are encoded";
  let found = [], why = "";
  try { found = await ask(`neighbours/${place}`); } catch (error) { why = error.message; }
  if (list[at] !== place) return;
  $("why").textContent = why || "by cosine, of the recipe's encoder; test images are never shown";
  $("neighbours").replaceChildren(...found.map((one) => {
    const figure = document.createElement("figure"), image = new Image(), text = document.createElement("figcaption");
    image.src = `real/${one.split}/${one.at}`;
    image.alt = "";
    image.title = one.id;
    image.onload = () => image.classList.toggle("tiny", image.naturalWidth <= 96);
    text.textContent = `${one.cosine.toFixed(3)} ${one.class || one.split}`;
    text.dir = "auto";
    text.classList.toggle("other", one.class !== "" && one.class !== className(place));
    figure.append(image, text);
    return figure;
  }));
}

function say(text) { $("said").textContent = text; }

function word(now) {
  const place = list[at];
  if (place === undefined || ended) return;
  say(data.by[place] >= 0 && now === ACCEPTED ? "A filter threw it out, and it stays out: loosen the filter to keep it." : "");
  if (shown[place] !== now) {
    undoable.push({ place, was: shown[place], now });
    change(place, now);
  }
  go(at + 1);
}

function change(place, now) {
  queue(place, shown[place], now);
  shown[place] = now;
  const i = list.indexOf(place);
  if (cells.has(i)) dress(cells.get(i), i);
  count();
  tell();
  state();
  sync();
}

function undo() {
  const last = ended ? undefined : undoable.pop();
  if (!last) return say("There is nothing to undo.");
  if (shown[last.place] !== last.now) return say("Another page changed that word since; it was left as it is.");
  change(last.place, last.was);
  const i = list.indexOf(last.place);
  if (i >= 0) go(i);
  say("Undone.");
}

// ---- keys ------------------------------------------------------------------------------------------------------------

function press(event) {
  const typing = event.target.matches("input:not([type=checkbox]), select");
  if (event.key === "Escape") { $("grid").focus(); return; }
  if (typing || event.altKey || event.metaKey || (event.ctrlKey && event.key !== "z")) return;
  const page = Math.max(1, Math.floor($("grid").clientHeight / step)) * across;
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
  const keys = {
    a: () => word(ACCEPTED),
    r: () => word(REJECTED),
    u: undo,
    z: () => event.ctrlKey && undo(),
    n: () => $("near").click(),
    "/": () => $("search").focus(),
  };
  const act = event.key in moves ? () => go(at + moves[event.key]) : keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

// ---- begin -----------------------------------------------------------------------------------------------------------

async function begin() {
  data = await ask("images.json");
  document.title = `${data.run}: figment look`;
  $("run").textContent = data.run;
  placeOf = new Map(data.id.map((id, place) => [id, place]));
  shown = new Uint8Array(data.id.length);
  hold();
  offer();
  choose();
  count();
  await sync();
  document.addEventListener("keydown", press);
  document.addEventListener("visibilitychange", () => document.hidden || sync());
  $("grid").addEventListener("scroll", draw, { passive: true });
  $("grid").addEventListener("click", (event) => { const cell = event.target.closest(".cell"); if (cell) go(Number(cell.dataset.at)); });
  for (const id of ["search", "class", "show", "sort"]) $(id).addEventListener("input", choose);
  $("size").addEventListener("input", () => { lay(); go(at); });
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  new ResizeObserver(() => { lay(); go(at); }).observe($("grid"));
  $("accept").addEventListener("click", () => word(ACCEPTED));
  $("reject").addEventListener("click", () => word(REJECTED));
  $("undo").addEventListener("click", undo);
  $("near").addEventListener("change", () => { told = -1; tell(); });
  $("grid").focus();
  document.body.dataset.ready = "yes";
}

begin().catch((error) => { $("saved").textContent = error.message; $("saved").classList.add("wrong"); });
