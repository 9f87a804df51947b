// -- one head: as a map, as coloured text, as lines ----------------------------------------------

const LINED = 128; // tokens: lines of more are a blot
const ROW = 21; // pixels of a row beside the lines
let sides = []; // what stands on the page for each setting
let looked = null, cell = null; // the query under the pointer; the cell that is read, [i, j]
let fixed = null; // the cell that was clicked

const query = () => S.query ?? looked;
const quoted = i => make("bdi", {}, `'${D.tokens[i]}'`);
const headsOf = layer => ["mean", ...Array.from({ length: D.heads[layer] }, (_, h) => h)];

function choices(group, values, chosen, words, pick) {
  const within = group.contains(document.activeElement);
  group.replaceChildren(...values.map(v => make("button", { role: "radio", "data-value": v, "aria-label": words(v) }, String(v))));
  for (const button of group.children) {
    const v = values[[...group.children].indexOf(button)];
    check(button, v === chosen);
    button.addEventListener("click", () => pick(v));
  }
  if (within) group.querySelector("[aria-checked=true]").focus({ preventScroll: true });
}
const toLayer = layer => set({ layer, head: S.head === "mean" ? "mean" : Math.min(S.head, D.heads[layer] - 1) });

function drawHead() {
  choices($("layers"), D.heads.map((_, layer) => layer), S.layer, v => `Layer ${v}`, toLayer);
  choices($("heads"), headsOf(S.layer), S.head, v => v === "mean" ? "Mean over heads" : `Head ${v}`, head => set({ head }));
  const name = title(S.layer, S.head);
  $("which").textContent = name[0].toUpperCase() + name.slice(1);
  looked = fixed = cell = null;
  $("sides").className = shown().length > 1 ? "two-sides" : "one-side";
  $("sides").classList.toggle("large", $("large").checked);
  sides = shown().map(side => ({ side, m: weights(side, S.layer, S.head) }));
  for (const one of sides) one.mean = D.tokens.map((_, j) => received(one.m, j));
  $("sides").replaceChildren(...sides.map(half));
  layOut();
  update();
}

function half(one) {
  const known = sentence(stats(one.side, S.layer, S.head)) + (S.head === "mean" ? " (means over its heads)" : "");
  one.canvas = make("canvas");
  one.band = make("div", { class: "band" });
  one.spot = make("div", { class: "spot" });
  one.heat = make("div", { class: "heat", tabindex: 0, role: "application", "aria-roledescription": "heat map",
    "aria-label": "Weights: a row for each query, a column for each key. Arrow keys move, Enter chooses the query." });
  one.frame = make("div", { class: "frame" }, one.heat);
  one.chips = D.tokens.map((token, i) => make("button", { class: "chip", "data-i": i, tabindex: i ? -1 : 0, "aria-pressed": "false" }, token, make("small", { hidden: "" })));
  one.text = make("div", { class: "chips", role: "group", "aria-label": "Tokens" }, ...one.chips);
  const text = make("div", {}, make("h3", {}, "Text: choose a query, its keys take the colour of their weight"), one.text, make("h3", {}, "Lines from queries to keys"));
  if (T <= LINED) {
    const column = name => make("div", { class: `column ${name}` }, ...D.tokens.map((token, i) => make("span", { "data-i": i }, token)));
    one.queries = column("queries");
    one.keys = column("keys");
    one.wires = make("canvas");
    one.lines = make("div", { class: "lines", "aria-hidden": "true" }, one.queries, make("div", { class: "wires" }, one.wires), one.keys);
    text.append(make("div", { class: "caption", "aria-hidden": "true" }, make("span", {}, "query"), make("span"), make("span", {}, "key")), one.lines);
    listenLines(one);
  } else text.append(make("p", { class: "note" }, `Lines are left out above ${LINED} tokens; the map and the text show the same weights.`));
  listenHeat(one);
  listenChips(one);
  return make("div", { class: "half" }, SIDES > 1 ? make("h2", {}, D.labels[one.side]) : null, make("p", { class: "note" }, known),
    make("div", { class: "body" }, make("div", {}, make("h3", {}, `Map: rows are queries, columns are keys${D.kept ? `; the ${D.kept} largest weights of each row` : ""}`), one.frame), text));
}

function layOut() { // sizes follow the width of the page
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = "11px Arial, sans-serif";
  const wide = innerWidth > 760 ? 120 : 76;
  const room = Math.min(wide, Math.ceil(Math.max(...D.tokens.map(t => pen.measureText(t).width))) + 10);
  for (const one of sides) {
    let size = Math.min(40, (one.frame.clientWidth - room - 8) / T);
    if ($("large").checked) size = Math.max(18, size);
    one.size = size = size >= 4 ? Math.floor(size) : Math.max(1, size);
    one.room = room;
    paint(one.canvas, one.m, T);
    const step = Math.ceil(14 / size), side = size * T;
    one.canvas.style.cssText = `left:${room}px;top:${room}px;width:${side}px;height:${side}px`;
    one.heat.style.cssText = `width:${room + side + 2}px;height:${room + side + 2}px`;
    one.heat.replaceChildren(one.canvas, one.band, one.spot);
    for (let i = 0; i < T; i += step) one.heat.append(label(one, i, "row"), label(one, i, "column"));
    one.hot = [label(one, 0, "row"), label(one, 0, "column")];
    for (const hot of one.hot) hot.classList.add("hot");
    one.heat.append(...one.hot);
  }
}
function label(one, i, way) {
  const span = make("span", { class: `label ${way}`, "aria-hidden": "true" });
  place(one, span, i, way);
  return span;
}
function place(one, span, i, way) {
  const at = one.room + one.size * (i + 0.5) - 7;
  span.textContent = D.tokens[i];
  span.style.cssText = way === "row" ? `top:${at}px;right:calc(100% - ${one.room - 4}px);max-width:${one.room - 4}px` : `left:${at}px;bottom:calc(100% - ${one.room - 4}px);max-height:${one.room - 4}px`;
}

// -- what changes with the query and the cell ----------------------------------------------------

function received(m, j) { // the mean weight a key gets from the queries that see it
  let sum = 0, n = 0;
  for (let i = D.causal ? j : 0; i < T; i++) {
    const w = m.w[i * T + j];
    if (!Number.isNaN(w)) { sum += Math.max(w, 0); n++; }
  }
  return n ? sum / n : NaN;
}
function update() {
  const q = query();
  $("clear").disabled = S.query === null;
  say(q);
  for (const one of sides) {
    for (let j = 0; j < T; j++) {
      const dark = q !== null && hidden(q, j), w = q === null ? one.mean[j] : one.m.w[q * T + j], chip = one.chips[j];
      const back = colour(w), ink = inkOn(back), number = chip.lastChild;
      chip.classList.toggle("masked", dark);
      chip.style.background = dark ? "none" : css(back);
      chip.style.color = dark ? "" : ink;
      chip.setAttribute("aria-pressed", S.query === j || (S.query === null && looked === j));
      number.hidden = !$("numbers").checked;
      number.textContent = dark ? "–" : w === MISSING ? `<${brief(one.m.floor[q]).replace("<", "")}` : brief(w);
      if (one.keys) {
        const span = one.keys.children[j];
        span.style.background = q === null || dark ? "none" : css(back);
        span.style.color = q === null || dark ? "" : ink;
        one.queries.children[j].classList.toggle("hot", q === j);
      }
    }
    const row = cell ? cell[0] : q, top = one.room + one.size * (row ?? 0);
    one.band.hidden = row === null;
    one.band.style.cssText = `left:${one.room}px;top:${top}px;width:${one.size * T}px;height:${one.size}px`;
    one.spot.hidden = !cell;
    one.hot[0].hidden = row === null;
    one.hot[1].hidden = !cell;
    if (row !== null) place(one, one.hot[0], row, "row");
    if (cell) {
      place(one, one.hot[1], cell[1], "column");
      const size = Math.max(one.size, 5), shift = (size - one.size) / 2;
      one.spot.style.cssText = `left:${one.room + one.size * cell[1] - shift}px;top:${top - shift}px;width:${size}px;height:${size}px`;
    }
    if (one.wires) wire(one, q);
  }
}
function say(q) {
  const line = $("say"), named = one => SIDES > 1 ? ` ${D.labels[one.side]}` : "";
  if (cell) {
    const [i, j] = cell;
    line.replaceChildren("query ", quoted(i), " → key ", quoted(j), ": ");
    sides.forEach((one, k) => line.append(k ? ", " : "", make("b", {}, told(one.m, i, j)), named(one)));
  } else if (q !== null) {
    line.replaceChildren("query ", quoted(q), ", most on ");
    sides.forEach((one, k) => {
      const row = one.m.w.subarray(q * T, q * T + T), best = [...row.keys()].filter(j => !hidden(q, j)).sort((a, b) => row[b] - row[a]).filter((j, n) => !n || (n < 3 && row[j] >= 0.005));
      line.append(k ? "; " : "", ...best.flatMap((j, n) => [n ? ", " : "", quoted(j), " ", make("b", {}, told(one.m, q, j))]), named(one) && ` (${named(one).trim()})`);
    });
  } else line.textContent = `Choose a query: a token of the text, or a row of the map. Until then the text shows the mean weight that each key gets${D.kept ? ", of what is kept" : ""}.`;
}
function wire(one, q) {
  const box = one.wires.parentElement, width = box.clientWidth, height = ROW * T, fine = devicePixelRatio || 1;
  const pen = one.wires.getContext("2d"), only = q === null && cell ? cell[1] : null;
  one.wires.width = width * fine;
  one.wires.height = height * fine;
  pen.scale(fine, fine);
  pen.strokeStyle = css(rgb("--accent"));
  for (let i = 0; i < T; i++) {
    if (q !== null && q !== i) continue;
    for (let j = 0; j < T; j++) {
      const w = one.m.w[i * T + j], strength = tone(w) * (S.scale === "root" && q === null ? tone(w) : 1); // all at once: the strong ones
      if (!(strength > 0.03) || hidden(i, j) || (only !== null && only !== j)) continue;
      const from = ROW * (i + 0.5), to = ROW * (j + 0.5);
      pen.globalAlpha = Math.min(1, strength);
      pen.lineWidth = 0.8 + 2.4 * w;
      pen.beginPath();
      pen.moveTo(0, from);
      pen.bezierCurveTo(width / 2, from, width / 2, to, width, to);
      pen.stroke();
    }
  }
}

// -- pointer and keys ----------------------------------------------------------------------------

const choose = i => {
  S.query = S.query === i ? null : i;
  keepAddress();
};
function over(q, at = null) {
  looked = q;
  cell = at;
  update();
}
function listenHeat(one) {
  const under = event => {
    const box = one.canvas.getBoundingClientRect(), size = box.width / T;
    const at = [Math.floor((event.clientY - box.top) / size), Math.floor((event.clientX - box.left) / size)];
    return at.every(k => k >= 0 && k < T) ? at : null;
  };
  one.heat.addEventListener("pointermove", event => { const at = under(event); over(at && at[0], at || fixed); });
  one.heat.addEventListener("pointerleave", () => over(null, fixed));
  one.heat.addEventListener("click", event => {
    const at = under(event);
    if (!at) return;
    fixed = at;
    S.query = at[0];
    keepAddress();
    over(at[0], at);
  });
  one.heat.addEventListener("keydown", event => {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -T], End: [0, T] }[event.key];
    if (event.ctrlKey || event.altKey || event.metaKey || !(by || ["Enter", " "].includes(event.key))) return;
    event.preventDefault();
    event.stopPropagation();
    if (by) {
      fixed = cell ? [0, 1].map(k => Math.min(T - 1, Math.max(0, cell[k] + by[k]))) : [query() ?? 0, 0];
      over(fixed[0], fixed);
      one.spot.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else if (cell) { choose(cell[0]); update(); }
  });
}
function listenChips(one) {
  const at = event => { const chip = event.target.closest("[data-i]"); return chip && +chip.dataset.i; };
  const look = event => { const i = at(event); if (i !== null) S.query === null ? over(i) : over(null, [S.query, i]); };
  one.text.addEventListener("pointerover", look);
  one.text.addEventListener("focusin", look);
  one.text.addEventListener("pointerleave", () => over(null, fixed));
  one.text.addEventListener("focusout", () => over(null, fixed));
  one.text.addEventListener("click", event => { const i = at(event); if (i !== null) { fixed = null; choose(i); over(S.query === null ? i : null); } });
  one.text.addEventListener("keydown", event => {
    const i = at(event), to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: T - 1 }[event.key];
    if (i === null || to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const next = one.chips[Math.min(T - 1, Math.max(0, to))];
    one.chips[i].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}
function listenLines(one) {
  const at = event => { const span = event.target.closest("[data-i]"); return span && +span.dataset.i; };
  one.queries.addEventListener("pointerover", event => { const i = at(event); if (i !== null) over(i); });
  one.queries.addEventListener("click", event => { const i = at(event); if (i !== null) { fixed = null; choose(i); over(null); } });
  one.keys.addEventListener("pointerover", event => { const j = at(event); if (j !== null && S.query !== null) over(null, [S.query, j]); });
  one.lines.addEventListener("pointerleave", () => over(null, fixed));
}

document.addEventListener("keydown", event => {
  if (S.layer === null || event.ctrlKey || event.altKey || event.metaKey || event.target.matches("select")) return;
  const heads = headsOf(S.layer), picking = event.target.closest && event.target.closest(".pick");
  const head = heads[heads.indexOf(S.head) + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? NaN)];
  const layer = S.layer + ({ ArrowUp: -1, ArrowDown: 1 }[event.key] ?? NaN);
  if (event.key === "Escape") {
    if (S.query !== null) $("clear").click(); else close();
  } else if (head !== undefined) set({ head });
  else if (picking && layer >= 0 && layer < L) toLayer(layer);
  else if (!(picking && event.key.startsWith("Arrow"))) return;
  event.preventDefault();
});
$("back").addEventListener("click", close);
$("clear").addEventListener("click", () => { S.query = fixed = null; keepAddress(); over(null); });
$("numbers").addEventListener("change", update);
$("large").addEventListener("change", () => { $("sides").classList.toggle("large", $("large").checked); layOut(); update(); });
$("scale").addEventListener("change", () => set({ scale: $("scale").value }));

// -- start ---------------------------------------------------------------------------------------

if (SIDES > 1) {
  $("show").hidden = false;
  for (const [value, word] of [["both", "Both"], ["0", D.labels[0]], ["1", D.labels[1]]]) {
    const button = make("button", { role: "radio", "data-show": value }, word);
    button.addEventListener("click", () => set({ show: value }));
    $("show").append(button);
  }
  radios($("show"), () => $("show").children);
}
const counts = [...new Set(D.heads)].sort((a, b) => a - b).join(" or "), many = (n, word) => `${n} ${word}${+n === 1 ? "" : "s"}`;
$("sum").textContent = `${many(L, "layer")}, ${many(counts, "head")} each, ${many(T, "token")}${D.causal ? ", causal: no token sees a later one" : ""}`;
$("overview").firstElementChild.after(...D.notes.map(note => make("p", { class: "note" }, note)));
mixColours();
fromAddress();
render();
const again = () => { fromAddress(); render(); };
addEventListener("popstate", again);
addEventListener("hashchange", again);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { mixColours(); render(); });
let width = innerWidth;
addEventListener("resize", () => { if (S.layer !== null && innerWidth !== width) { layOut(); update(); } width = innerWidth; });
