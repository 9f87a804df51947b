"use strict";
// The panel beside the graph, which tells all about what is selected, and the search. Everything is text, not markup.

let selected = null;

function mark(id, word, on) {
  const element = cards[id in N ? standsFor[id] : id] || frames[id] || cards[shownFor(id)];
  if (element) element.classList.toggle(word, on);
}

function select(id, isRevealed = false) {
  if (selected) mark(selected, "sel", false);
  selected = id;
  if (id) { mark(id, "sel", true); if (isRevealed) reveal(id); }
  show(id || now());
  $("#panel").scrollTop = 0;
}

function show(id) {
  const parts = !id ? showStart() : id in N ? showNode(id) : showBox(id), focused = document.activeElement;
  const key = focused.closest("#panel button") && Object.entries(focused.dataset).map(([name, value]) => `[data-${name}="${value}"]`)[0];
  $("#panel").replaceChildren(...parts.filter(Boolean));
  if (key) ($("#panel").querySelector(key) || $("#panel")).focus({preventScroll: true});
  hint(null);
}

const heading = text => make("h3", {}, text);
const stat = text => make("div", {class: "stat"}, text);
const warning = text => make("div", {class: "warn"}, text);
const links = (children, depth = 0) => make("div", {class: "links", style: depth ? `padding-left:${depth * 16}px` : null}, ...children);
const link = (id, more = null) => make("button", {"data-go": id}, id in B ? boxTitle(id) : called(id), more && make("small", {}, more));
const pathOf = id => links(around(id).reverse().map(box => make("button", {"data-zoomto": box}, "in " + called(box))));
const percent = x => `${+(100 * x).toPrecision(x < 0.1 ? 2 : 3)} %`;

// -- a node --------------------------------------------------------------------------------------

function grid(array) {
  const isWide = array.cells.length > 0 && array.cells[0].length > 5;
  const sizes = array.cells.flat().filter(isNumber).map(Math.abs), peak = Math.max(0, ...sizes);
  const cell = x => {
    const share = isNumber(x) && peak ? Math.round(62 * Math.abs(x) / peak) : 0;
    const fill = `color-mix(in srgb, var(${x < 0 ? "--neg" : "--pos"}) ${share}%, var(--zero))`;
    return make("td", {style: `background:${fill}`, class: isNumber(x) ? null : "warn"}, format(x, isWide ? 3 : 4));
  };
  return make("div", {class: isWide ? "grid wide" : "grid", tabindex: isWide ? 0 : null, role: "group", "aria-label": "numbers"}, // scrolls
    make("table", {}, ...array.cells.map(row => make("tr", {}, ...row.map(cell)))),
    array.means ? stat("means of blocks of a larger array") : null);
}

function statistics(a) {
  const odd = [a.nan ? `${a.nan} NaN` : "", a.inf ? `${a.inf} inf` : ""].filter(Boolean).join(", ");
  return make("div", {}, stat(`min ${format(a.min)} · max ${format(a.max)} · mean ${format(a.mean)} · RMS ${format(a.rms)}` +
    (a.zeros ? ` · zeros ${percent(a.zeros)}` : "")), odd ? warning(odd) : null);
}

function plus(a, b) { // of cells, which may be "NaN", "inf" or "-inf"
  const read = x => isNumber(x) ? x : {"inf": Infinity, "-inf": -Infinity}[x] ?? NaN;
  const sum = read(a) + read(b);
  return Number.isFinite(sum) ? sum : sum === Infinity ? "inf" : sum === -Infinity ? "-inf" : "NaN";
}

function gradientNow(id) { // what has come back so far, or null; how many contributions that are; how many are due
  const {grad, seed} = N[id], some = [...seed ? [seed] : [], ...come(id).map(edge => edge.share)], n = due(id).length + (seed ? 1 : 0);
  if (!grad || !reached(id)) return [null, some.length, n];
  if (isDone(id) || some.length === n) return [grad, n, n];
  const cells = some.map(share => share.cells).reduce((a, b) => a.map((row, i) => row.map((x, j) => plus(x, b[i][j]))));
  return [{cells, means: grad.means}, some.length, n];
}

function showGradient(id) {
  const node = N[id], [gradient, n, all] = gradientNow(id);
  if (!node.requires_grad) return [stat("a constant: it has no gradient")];
  if (!D.has_gradients) return [stat("backward has not run: the end is not a scalar")];
  if (!node.grad) return [stat("no gradient reached it")];
  if (!gradient) return [stat("not reached yet at this step")];
  const missing = n < all ? warning(`${n} of ${all} contributions so far`) : null;
  const hooked = node.hooked && !missing ? warning("a hook was here: it may have replaced the sum of the contributions") : null;
  return [gradient.cells.length ? grid(gradient) : stat("empty"), missing || statistics(node.grad), hooked];
}

function showNode(id) {
  const node = N[id], pill = node.role === "op" || node.role === "loss" ? node.label : node.role;
  const parts = [
    make("h2", {}, make("span", {class: `pill ${node.role}`}, short(oneLine(pill), 40)), node.name ? called(id, 200) : ""),
    stat(`shape ${node.shape} · ${node.dtype}${node.options ? " · " + short(oneLine(node.options), 200) : ""}`),
    node.state && node.state.text ? warning(node.state.text) : null,
    around(id).length ? pathOf(id) : null,
  ];
  if (node.formula) parts.push(heading("Forward"), make("pre", {}, node.formula));
  if (node.gradient) parts.push(heading("Backward rule"), make("pre", {}, node.gradient), stat("g is the gradient that comes in"));
  parts.push(heading("Value"), node.value.cells.length ? grid(node.value) : stat("empty"), statistics(node.value));
  parts.push(heading(`Gradient ∂L/∂${called(id)}`), ...showGradient(id));
  if (node.seed) parts.push(heading("Contributions"), stat(`what backward starts with here: ${node.seed.cells.flat().map(x => format(x)).join(" ")}`));
  if (due(id).length) {
    parts.push(node.seed ? null : heading("Contributions"), links(due(id).map(edge => link(edge.target,
      `RMS ${format(edge.rms)}${isDone(edge.target) ? "" : " (to come)"}`))));
  }
  if (inputs[id].length) parts.push(heading("Inputs"), links(inputs[id].map(edge => link(edge.source))));
  if (node.source) parts.push(heading("Source"), make("pre", {}, short(oneLine(node.source), 400)));
  return parts;
}

// -- a box, and nothing ---------------------------------------------------------------------------

function showBox(id) {
  const box = B[id], most = 100;
  const children = [...Object.keys(B).filter(child => B[child].parent === id), ...Object.keys(N).filter(node => N[node].box === id)];
  const warned = inside[id].filter(isWarned);
  return [
    make("h2", {}, make("span", {class: "pill module"}, box.fixed ? "graph" : box.is_module === false ? "repeat" : "module"), boxTitle(id)),
    stat(`${counted(box.nodes, "node")} · ${counted(box.parameters, "parameter")}`),
    around(id).length ? pathOf(id) : null,
    links([box.fixed ? "" : make("button", {"data-toggle": id}, isOpen[id] ? "Fold" : "Open"), make("button", {"data-zoomto": id}, "Zoom to it")]),
    warned.length ? heading("Look here") : null, ...warned.slice(0, 40).map(warnedLink),
    heading(`Gradient of its ${box.grad_of || "parameters"}`),
    stat(box.grad ? `RMS ${format(box.grad.rms)} · max ${format(box.grad.max)} · zeros ${percent(box.grad.zeros)}` : "none"),
    heading("Inside"), links(children.slice(0, most).map(child => link(child))),
    children.length > most ? stat(`and ${children.length - most} more`) : null,
  ];
}

const isWarned = id => N[id].state && N[id].state.kind !== "later" && N[id].state.text;
const isChange = id => ["differs", "alone"].includes(N[id].state.kind); // from the other of two graphs
const graphOf = id => around(id).filter(box => B[box].fixed).map(box => `in ${called(box)}`)[0] || null;
const warnedLink = id => make("div", {class: "links"}, link(id, graphOf(id)),
  make("span", {class: isChange(id) ? "change" : "warn"}, N[id].state.text));
const branch = (parent, depth) => Object.keys(B).filter(id => B[id].parent === parent).flatMap(id =>
  [links([link(id)], depth), ...isOpen[id] ? branch(id, depth + 1) : []]);

function showStart() {
  const warned = Object.keys(N).filter(isWarned), key = name => make("kbd", {}, name), boxes = branch(null, 0).slice(0, 100);
  const weight = id => 2 * (N[id].state.kind === "first") + (N[id].value.nan + N[id].value.inf > 0); // values come before gradients
  warned.sort((a, b) => weight(b) - weight(a));
  return [
    make("h2", {}, "How to read this"),
    make("p", {}, "A card is a tensor: its op or role, name and shape, and its value and gradient as strips from blue (negative) to " +
      "orange (positive), each scaled to its own maximum. Arrows run forward; width and number are the RMS of the gradient that comes back."),
    make("div", {class: "legend", "aria-hidden": "true"}, ...["input", "parameter", "constant", "op", "loss"].map(role =>
      make("span", {class: `pill ${role}`}, role)), make("span", {}, "− ", make("i", {}), " +")),
    make("p", {}, "Click a card for its numbers. ", key("←"), key("→"), " walk through the backward pass in the order in which the " +
      "engine does it; ", key("Space"), " plays it. ", key("/"), " searches, ", key("f"), " fits, ", key("t"), " turns, ", key("+"),
      key("-"), " zoom, ", key("Esc"), " clears."),
    ...D.notes.map(stat),
    warned.length ? heading("Look here") : null, ...warned.slice(0, 40).map(warnedLink),
    boxes.length ? heading("Modules") : null, ...boxes,
    order.length && order.length <= 60 ? heading("Backward order") : null,
    order.length <= 60 ? links(order.map(id => link(id))) : null,
  ];
}

$("#panel").addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.go) select(button.dataset.go, true);
  else if (button.dataset.toggle) toggle(button.dataset.toggle, true);
  else if (button.dataset.zoomto) zoomTo(button.dataset.zoomto);
});

let hinted = null;
function hint(id) { // shows in the graph what a link in the panel means
  if (hinted) mark(hinted, "hint", false);
  hinted = id;
  if (id) mark(id, "hint", true);
}
for (const [begin, over] of [["mouseover", "mouseleave"], ["focusin", "focusout"]]) {
  $("#panel").addEventListener(begin, event => { const button = event.target.closest("button"); hint(button && (button.dataset.go || button.dataset.zoomto)); });
  $("#panel").addEventListener(over, () => hint(null));
}

// -- search --------------------------------------------------------------------------------------

const words = [...Object.keys(B), ...Object.keys(N)].map(id => {
  const t = N[id] || B[id];
  return [id, [t.name, t.label, t.op, t.scope, t.shape, t.source, id].filter(Boolean).join(" ").toLowerCase()];
});
let results = [], chosen = 0;

function search() {
  const wanted = $("#find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const last = id => (id in B ? B[id].label.split(": ")[0] : N[id].name || "").toLowerCase().split(".").pop();
  const rank = id => wanted.includes(last(id)) ? -1 : id in B ? 1 : N[id].name && wanted.some(word => N[id].name.toLowerCase().includes(word)) ? 0 : 2;
  results = wanted.length ? words.filter(([, text]) => wanted.every(word => text.includes(word))).map(([id]) => id)
    .sort((a, b) => rank(a) - rank(b)).slice(0, 30) : [];
  const about = id => id in B ? [`module, ${counted(B[id].nodes, "node")}`]
    : [N[id].op || N[id].role, N[id].shape, short(oneLine(N[id].scope || ""))].filter(Boolean);
  const items = results.map((id, i) => make("li", {role: "option", id: `r${i}`, "data-id": id}, id in B ? boxTitle(id) : called(id),
    make("small", {}, about(id).join(" · "))));
  if (wanted.length && !items.length) items.push(make("li", {role: "option", "aria-disabled": "true"}, "nothing found"));
  $("#found").replaceChildren(...items);
  listed(wanted.length > 0);
  choose(0);
}

function listed(isListed) {
  $("#found").hidden = !isListed;
  $("#find").setAttribute("aria-expanded", String(isListed));
  if (!isListed) $("#find").removeAttribute("aria-activedescendant");
}

function choose(i) {
  const items = $("#found").children;
  chosen = Math.max(0, Math.min(results.length - 1, i));
  [...items].forEach((item, k) => item.setAttribute("aria-selected", String(k === chosen && results.length > 0)));
  if (results.length) { $("#find").setAttribute("aria-activedescendant", `r${chosen}`); items[chosen].scrollIntoView({block: "nearest"}); }
}

function take(id) { // the keyboard goes on from there
  listed(false);
  zoomTo(id);
  select(id);
  (cards[id] || frames[id].querySelector("[data-zoom]")).focus({preventScroll: true});
}

$("#find").addEventListener("input", search);
$("#find").addEventListener("focus", () => { if ($("#find").value) search(); });
$("#find").addEventListener("blur", () => listed(false));
$("#find").addEventListener("keydown", event => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") { choose(chosen + (event.key === "ArrowDown" ? 1 : -1)); event.preventDefault(); }
  else if (event.key === "Enter" && results.length) { take(results[chosen]); event.preventDefault(); }
  else if (event.key === "Escape") { $("#find").value = ""; search(); $("#find").blur(); }
  event.stopPropagation();
});
$("#found").addEventListener("mousedown", event => event.preventDefault()); // the box keeps the focus, and the list stays
$("#found").addEventListener("click", event => { const item = event.target.closest("[data-id]"); if (item) take(item.dataset.id); });
