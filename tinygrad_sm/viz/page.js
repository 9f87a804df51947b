"use strict";
// The interactive page: draws the graph, lays it out again when a module is folded or opened, and walks through the
// backward pass. All names come from the user's program: they enter the document as text, never as markup.

const D = JSON.parse(document.getElementById("data").textContent);
const N = D.nodes, B = D.boxes, order = D.order;
const $ = selector => document.querySelector(selector);
const SVG = "http://www.w3.org/2000/svg";
const READABLE = 1.25, FAR = 0.5, EXPLODING = 1e3, VANISHING = 1e-7;

function make(tag, attributes = {}, ...children) {
  const svg = tag.startsWith("svg:");
  const element = svg ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter(child => child !== null && child !== undefined));
  return element;
}

// -- what is where in the graph ------------------------------------------------------------------

const position = Object.fromEntries(order.map((id, i) => [id, i]));
const uses = {}, inputs = {}; // edges that leave a node, and that come into it
for (const id in N) { uses[id] = []; inputs[id] = []; }
for (const edge of D.edges) { uses[edge.source].push(edge); inputs[edge.target].push(edge); }

function around(id) { // the boxes around a node or a box, inner ones first
  const chain = [];
  for (let box = (N[id] ? N[id].box : B[id].parent); box; box = B[box].parent) chain.push(box);
  return chain;
}
const inside = {}; // box -> its nodes
for (const id in B) inside[id] = [];
for (const id in N) for (const box of around(id)) inside[box].push(id);
const depthOf = id => around(id).filter(box => B[box].is_module !== false).length + 1;

const isOpen = {};
for (const id in B) isOpen[id] = B[id].open;
let standsFor = {}; // node -> what is shown for it: itself, or the outermost folded box around it

function shownFor(id) {
  let shown = id;
  for (const box of around(id)) if (!isOpen[box]) shown = box;
  return shown;
}

// -- numbers and words ---------------------------------------------------------------------------

const isNumber = x => typeof x === "number";
function format(x, digits = 4) {
  if (x === null || x === undefined) return "–";
  if (!isNumber(x)) return x === "inf" ? "∞" : x === "-inf" ? "−∞" : x;
  if (x === 0) return "0";
  const size = Math.abs(x);
  return size >= 1e4 || size < 1e-3 ? x.toExponential(digits - 1).replace(/\.?0*e/, "e") : String(+x.toPrecision(digits));
}
const short = (text, n = 60) => text.length > n ? `${text.slice(0, n / 2)}…${text.slice(-n / 2 + 1)}` : text;
const oneLine = text => String(text).replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069]+/g, " ").trim();
const called = id => short(oneLine(id in N ? N[id].name || N[id].label : B[id].label) || id);
const rootMean = sizes => {
  if (!sizes.length) return null;
  const odd = sizes.find(size => !isNumber(size));
  return odd !== undefined ? odd : Math.sqrt(sizes.reduce((sum, size) => sum + size * size, 0) / sizes.length);
};
let largest = 0;
for (const {rms} of D.edges) if (isNumber(rms) && rms <= EXPLODING) largest = Math.max(largest, rms);

// -- the scene -----------------------------------------------------------------------------------

const stage = $("#stage"), scene = $("#scene");
let direction = D.direction, plan = null, cards = {}, lines = {}, frames = {}, widths = {};

const LIGHT = new Set(["#FFFFFF", "#EAF6F1", "#EEF6FC", "#F6F7F9", "#EEF2F7", "#FFF4ED"]); // recoloured in the dark

function drawCard(id) {
  const thing = N[id] || B[id], card = thing.card, folded = id in B;
  const group = make("svg:g", {id, class: `${card.class}${thing.state ? " " + thing.state.kind : ""}`, tabindex: 0, role: "button"});
  const parsed = new DOMParser().parseFromString(`<svg xmlns="${SVG}">${card.svg}</svg>`, "image/svg+xml").documentElement;
  group.append(...[...parsed.childNodes].map(node => document.importNode(node, true)));
  if (!folded) drawStrips(group, {val: thing.value, grad: thing.grad});
  if (LIGHT.has(group.querySelector(".card").getAttribute("fill").toUpperCase())) group.classList.add("known");
  hideable(group);
  const name = called(id), size = Math.min(26, card.height * 0.55, 1.7 * card.width / Math.max(name.length, 1));
  group.append(make("svg:text", {class: "big", x: card.width / 2, y: card.height / 2 + size / 3, "text-anchor": "middle",
                                 "font-size": size.toFixed(1), "aria-hidden": "true"}, short(name, 30)));
  if (folded) group.append(drawToggle(id, card.width - 1, 1));
  group.setAttribute("aria-label", folded
    ? `${name}, folded module of ${thing.nodes} nodes`
    : `${name}, ${thing.role}${thing.op ? " " + thing.op : ""}, shape ${thing.shape}, ` +
      (thing.grad ? `gradient RMS ${format(thing.grad.rms)}` : "no gradient") + (thing.state ? `, ${thing.state.text}` : ""));
  return group;
}

// The strips come as empty frames. Each is drawn as one image: a thousand of single cells would make moving slow.
const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");

function drawStrips(group, arrays) {
  let label = "";
  for (const part of [...group.children]) {
    const text = part.tagName === "text" ? part.textContent.trim() : "";
    if (text in arrays) label = text;
    if (part.tagName !== "rect" || part.getAttribute("fill") !== "#CBD5E1") continue;
    const place = name => +part.getAttribute(name);
    const image = make("svg:image", {x: place("x"), y: place("y"), width: place("width"), height: place("height"),
                                     href: stripImage(arrays[label].cells), style: "image-rendering:pixelated"});
    part.replaceWith(image);
  }
}

function stripImage(cells) {
  const cell = 11, peak = Math.max(0, ...cells.flat().filter(isNumber).map(Math.abs)) || 1;
  canvas.width = cells[0].length * cell + 1;
  canvas.height = cells.length * cell + 1;
  pen.fillStyle = "#CBD5E1";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  cells.forEach((row, i) => row.forEach((x, j) => {
    pen.fillStyle = isNumber(x) ? stripColor(x / peak) : "#111827";
    pen.fillRect(j * cell + 1, i * cell + 1, cell - 1, cell - 1);
  }));
  return canvas.toDataURL();
}

function stripColor(x) { // from -1, blue, to 1, orange
  const ends = x > 0 ? [0xDD, 0x6B, 0x20] : [0x26, 0x62, 0xA8];
  return `rgb(${[0xF5, 0xF6, 0xF8].map((a, i) => Math.round(a + (ends[i] - a) * Math.min(Math.abs(x), 1))).join(" ")})`;
}

function hideable(group) { // what shows the gradient is marked, so that a step that has not reached it can hide it
  const parts = [...group.children];
  const start = parts.findIndex(part => part.tagName === "text" && part.textContent.trim() === "grad");
  for (let i = start; start >= 0 && i < parts.length && !parts[i].hasAttribute("rx"); i++) parts[i].classList.add("g");
}

function drawToggle(id, x, y) {
  const open = isOpen[id];
  const toggle = make("svg:g", {
    class: "toggle", transform: `translate(${x} ${y})`, tabindex: 0, role: "button", "aria-expanded": String(open),
    "aria-label": `${open ? "Fold" : "Open"} ${called(id)}`, "data-toggle": id,
  }, make("svg:circle", {r: 7}), make("svg:path", {d: open ? "M-3.5 0H3.5" : "M-3.5 0H3.5M0 -3.5V3.5"}));
  return toggle;
}

function merged() { // one arrow for all edges between the same two cards, if one of them is folded
  const groups = new Map();
  for (const edge of D.edges) {
    const source = standsFor[edge.source], target = standsFor[edge.target];
    if (source === target) continue;
    const single = source === edge.source && target === edge.target;
    const key = single ? edge.id : `e_${source}_${target}`;
    if (!groups.has(key)) groups.set(key, {id: key, source, target, edges: []});
    groups.get(key).edges.push(edge);
  }
  for (const link of groups.values()) {
    const sources = [...new Set(link.edges.map(edge => edge.source))];
    const sizes = sources.map(source => link.target in B ? D.flows[`${source}>${link.target}`] : rootMean(
      link.edges.filter(edge => edge.source === source && edge.rms !== null).map(edge => edge.rms)));
    link.size = rootMean(sizes.filter(size => size !== null && size !== undefined));
  }
  return [...groups.values()];
}

function look(size) { // class, width and share of the strong colour of an arrow with this much gradient
  if (!D.has_gradients) return ["", 1, 0];
  if (size === null) return ["none", 1, 0, "5 3"];
  if (!isNumber(size)) return ["alarm", 1.8, 0, "5 3"];
  if (size > EXPLODING) return ["alarm", 5, 0];
  if (size === 0) return ["none", 0.8, 0];
  if (size < VANISHING) return ["none", 1, 0, "1.5 3"];
  const strength = Math.pow(size / largest, 0.7);
  return ["", 1 + 2.8 * strength, strength];
}

function drawLine(link) {
  const [kind, width, strength, dash] = look(link.size), route = plan.routes[link.id].map(point => [...point]);
  const tip = route[route.length - 1], near = route[route.length - 2];
  let dx = tip[0] - near[0], dy = tip[1] - near[1];
  const far = Math.hypot(dx, dy) || 1, long = 5 + 1.6 * width, half = 1.7 + 0.95 * width;
  dx /= far; dy /= far;
  const base = [tip[0] - dx * long, tip[1] - dy * long];
  route[route.length - 1] = base;
  const text = point => `${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
  const group = make("svg:g", {id: link.id, class: `edge ${kind}`, style: `--x:${(100 * strength).toFixed(0)}%`},
    make("svg:title", {}, link.size === null ? "no gradient" : `gradient RMS ${format(link.size)}`),
    make("svg:path", {d: `M${text(route[0])}C${route.slice(1).map(text).join(" ")}`, "stroke-width": width.toFixed(2),
                      "stroke-dasharray": dash}),
    make("svg:polygon", {points: [tip, [base[0] - half * dy, base[1] + half * dx], [base[0] + half * dy, base[1] - half * dx]]
      .map(text).join(" ")}));
  const spot = plan.spots[link.id];
  if (spot && link.number) {
    group.append(make("svg:text", {class: "rms", x: spot[0], y: spot[1] + 3, "text-anchor": "middle"}, link.number));
  }
  return group;
}

function drawFrame(id) {
  const [x0, y0, x1, y1] = plan.frames[id];
  const title = make("svg:text", {x: x0 + 22, y: y0 + 14, "data-zoom": id, tabindex: 0, role: "button",
                                  "aria-label": `Zoom to ${called(id)}`}, boxTitle(id));
  return make("svg:g", {id, class: "cluster"},
    make("svg:rect", {x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: 11}), title, drawToggle(id, x0 + 12, y0 + 10.5));
}
const boxTitle = id => short(called(id), 44) + (B[id].times > 1 ? ` ×${B[id].times}` : "");

function layOut() {
  standsFor = {};
  for (const id in N) standsFor[id] = shownFor(id);
  const shown = [...new Set(Object.values(standsFor))], links = merged();
  const boxes = {}, home = {}, titles = {}, sizes = {}, labels = {};
  const openParent = id => { const [box] = around(id); return box || null; };
  for (const id of shown) {
    const card = (N[id] || B[id]).card;
    sizes[id] = [card.width, card.height];
    home[id] = openParent(id);
  }
  for (const id in B) {
    if (isOpen[id] && around(id).every(box => isOpen[box]) && inside[id].length) {
      boxes[id] = openParent(id);
      titles[id] = [boxTitle(id).length * 6 + 34, 15];
    }
  }
  for (const link of links) {
    link.number = D.has_gradients && link.size !== null ? format(link.size, 2) : "";
    labels[link.id] = link.number ? [link.number.length * 5.2 + 4, 11] : [0, 0];
  }
  plan = arrange(sizes, links.map(link => [link.id, link.source, link.target]), boxes, home, titles, direction, labels);
  const into = document.createDocumentFragment();
  cards = {}; lines = {}; frames = {};
  for (const id in boxes) into.append(frames[id] = drawFrame(id));
  for (const link of links) {
    const element = drawLine(link);
    for (const edge of link.edges) lines[edge.id] = {element, link};
    into.append(element);
  }
  for (const id of shown) {
    const element = cards[id] = widths[id] || (widths[id] = drawCard(id)); // a card stays the same element
    const [x, y] = plan.places[id], card = (N[id] || B[id]).card;
    element.setAttribute("transform", `translate(${(x - card.width / 2).toFixed(2)} ${(y - card.height / 2).toFixed(2)})`);
    into.append(element);
  }
  scene.replaceChildren(scene.querySelector("defs"), into);
  scene.setAttribute("width", plan.width);
  scene.setAttribute("height", plan.height);
  scene.setAttribute("viewBox", `0 0 ${plan.width} ${plan.height}`);
  paintAll();
  if (selected) mark(selected, true);
}

// -- folding and opening -------------------------------------------------------------------------

function where(id) { // the middle of a card or box, or of what stands for it
  const shown = id in N ? shownFor(id) : around(id).filter(box => !isOpen[box]).pop() || id;
  if (plan.places[shown]) return plan.places[shown];
  const frame = plan.frames[shown];
  return frame ? [(frame[0] + frame[2]) / 2, frame[1]] : null;
}

function setOpen(changes, anchor) {
  const before = anchor && where(anchor);
  Object.assign(isOpen, changes);
  layOut();
  const after = anchor && where(anchor);
  if (before && after) { view.x += (before[0] - after[0]) * view.k; view.y += (before[1] - after[1]) * view.k; }
  put();
}

function turn() { // a tall graph in a wide window reads better from left to right
  direction = {TB: "LR", LR: "TB", BT: "RL", RL: "BT"}[direction];
  layOut();
  start();
}

function toggle(id) {
  setOpen({[id]: !isOpen[id]}, id);
  const button = scene.querySelector(`[data-toggle="${id}"]`);
  if (button) button.focus({preventScroll: true});
  say(`${called(id)} is ${isOpen[id] ? "open" : "folded"}`);
}

// -- looking around ------------------------------------------------------------------------------

let view = {x: 0, y: 0, k: 1}, resting = 0;

function put() { // while it moves, the picture is a layer that is only shifted; at rest it is drawn anew, and sharp
  scene.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.k})`;
  stage.classList.toggle("far", view.k < FAR);
  if (!resting) stage.classList.add("moving");
  clearTimeout(resting);
  resting = setTimeout(() => { resting = 0; stage.classList.remove("moving"); }, 200);
}

function zoom(factor, clientX, clientY) {
  const r = stage.getBoundingClientRect();
  const x = clientX === undefined ? r.width / 2 : clientX - r.x, y = clientY === undefined ? r.height / 2 : clientY - r.y;
  const k = Math.min(6, Math.max(Math.min(0.05, fitScale()), view.k * factor));
  view = {x: x - (x - view.x) * k / view.k, y: y - (y - view.y) * k / view.k, k};
  put();
}

const fitScale = () => Math.min(stage.clientWidth / (plan.width + 24), stage.clientHeight / (plan.height + 24));

function zoomTo([x0, y0, x1, y1], most = 1.8) {
  const k = Math.min(most, stage.clientWidth / (x1 - x0 + 32), stage.clientHeight / (y1 - y0 + 32));
  view = {x: stage.clientWidth / 2 - k * (x0 + x1) / 2, y: stage.clientHeight / 2 - k * (y0 + y1) / 2, k};
  put();
}
const fit = () => zoomTo([0, 0, plan.width, plan.height]);

function start() { // all of it, if that can be read; else the end of the graph, where backward begins
  if (fitScale() >= 1) return fit();
  const wide = stage.clientWidth / (plan.width + 24), k = Math.min(READABLE, Math.max(1, wide));
  const root = order[0] || Object.keys(N).pop(), [x, y] = where(root);
  const free = (size, whole, middle, end) => whole * k <= size ? (size - whole * k) / 2
    : Math.min(12, Math.max(size - whole * k - 12, end - middle * k));
  view = {
    k, x: free(stage.clientWidth, plan.width, x, stage.clientWidth / 2),
    y: free(stage.clientHeight, plan.height, y, stage.clientHeight * 0.75),
  };
  put();
}

function reveal(id) { // move the picture so far that a card can be seen
  const spot = where(id);
  if (!spot) return;
  const x = view.x + spot[0] * view.k, y = view.y + spot[1] * view.k, w = stage.clientWidth, h = stage.clientHeight;
  if (x < 60 || x > w - 60) view.x += w / 2 - x;
  if (y < 50 || y > h - 50) view.y += h / 2 - y;
  put();
}

const pointers = new Map();
let moved = 0, apart = 0, hit = null;
stage.addEventListener("pointerdown", event => {
  pointers.set(event.pointerId, event);
  moved = apart = 0;
  hit = event.target;
});
window.addEventListener("pointermove", event => {
  const old = pointers.get(event.pointerId);
  if (!old) return;
  const dx = event.clientX - old.clientX, dy = event.clientY - old.clientY;
  moved += Math.hypot(dx, dy);
  pointers.set(event.pointerId, event);
  if (moved < 4) return;
  stage.classList.add("drag");
  if (pointers.size === 1) { view.x += dx; view.y += dy; put(); return; }
  const [a, b] = [...pointers.values()], now = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  if (apart) zoom(now / apart, (a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2);
  apart = now;
});
for (const type of ["pointerup", "pointercancel"]) {
  window.addEventListener(type, event => {
    if (!pointers.delete(event.pointerId)) return;
    stage.classList.remove("drag");
    if (type === "pointerup" && moved < 4) press(hit);
  });
}
stage.addEventListener("dblclick", event => {
  const box = event.target.closest(".module, .cluster");
  if (box && box.id in B && !event.target.closest(".toggle")) toggle(box.id);
});
stage.addEventListener("wheel", event => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.clientX, event.clientY);
}, {passive: false});

function press(target) {
  const button = target.closest("[data-toggle], [data-zoom], .node");
  if (!button) select(null);
  else if (button.dataset.toggle) toggle(button.dataset.toggle);
  else if (button.dataset.zoom) { zoomTo(plan.frames[button.dataset.zoom], 2.5); select(button.dataset.zoom); }
  else select(button.id);
}

// -- the backward pass ---------------------------------------------------------------------------

let step = order.length, timer = 0; // how many nodes have handed their gradient on
const finished = () => step === order.length;
const isDone = id => id in position && position[id] < step;
const come = id => uses[id].filter(edge => edge.share && isDone(edge.target)); // what has come back so far
const due = id => uses[id].filter(edge => edge.share);

function reached(id) {
  if (finished() || !(id in position)) return true; // a constant is always there
  return isDone(id) || come(id).length > 0 || due(id).length === 0;
}

function paint(shown) {
  const element = cards[shown];
  if (!element) return;
  const nodes = shown in N ? [shown] : inside[shown], now = step && !finished() ? order[step - 1] : null;
  const seen = nodes.some(id => id in position ? reached(id) : false) || nodes.every(id => !(id in position));
  element.classList.toggle("now", now !== null && nodes.includes(now));
  element.classList.toggle("off", !seen);
  element.classList.toggle("wait", !seen || (shown in N && shown in position && !reached(shown)));
}

function paintLine({element, link}) {
  const now = step && !finished() ? order[step - 1] : null;
  element.classList.toggle("off", !finished() && !link.edges.some(edge => !edge.share ? N[edge.source].role === "constant" : isDone(edge.target)));
  element.classList.toggle("flow", now !== null && link.edges.some(edge => edge.share && edge.target === now));
}

function paintAll() {
  for (const id in cards) paint(id);
  for (const line of new Set(Object.values(lines))) paintLine(line);
}

function go(to) {
  to = Math.max(0, Math.min(order.length, to));
  const from = step, whole = Math.abs(to - from) > 1 || to === order.length || from === order.length;
  step = to;
  if (whole) paintAll();
  else { // only what the two steps touch
    const touched = new Set();
    for (const i of [from - 1, to - 1]) {
      if (i < 0) continue;
      touched.add(order[i]);
      for (const edge of inputs[order[i]]) { touched.add(edge.source); if (lines[edge.id]) paintLine(lines[edge.id]); }
    }
    for (const shown of new Set([...touched].map(id => standsFor[id]))) paint(shown);
  }
  $("#bar").value = step;
  $("#count").textContent = `${step}/${order.length}`;
  const now = step ? order[step - 1] : null;
  if (finished()) say(order.length ? "The backward pass is complete: all gradients are shown." : "Backward has not run.");
  else if (!now) say(`Before the first step: the gradient of ${called(order[0])} is the one to start from.`);
  else {
    const given = inputs[now].filter(edge => edge.share).map(edge => called(edge.source));
    say(`Step ${step}: ${called(now)}` + (N[now].gradient ? `, rule ${N[now].gradient}` : "") +
        (given.length ? `; gives to ${given.join(", ")}` : "; keeps its gradient"));
    if (shownFor(now) !== now) $("#say").append(` (${inside[standsFor[now]].filter(isDone).length} of ` +
        `${inside[standsFor[now]].filter(id => id in position).length} inside ${called(standsFor[now])})`);
  }
  if (selected && selected in N) show(selected); // partial sums
}

function play(on = !timer) {
  clearInterval(timer);
  timer = 0;
  if (on && order.length) {
    if (finished()) go(0);
    timer = setInterval(() => { go(step + 1); if (step) reveal(order[step - 1]); if (finished()) play(false); }, 900);
  }
  $("#play").textContent = timer ? "Pause" : "Play";
}

function walk(by) {
  play(false);
  go(finished() && by > 0 ? 1 : step + by);
  if (step && !finished()) reveal(order[step - 1]);
}

function say(text) { $("#say").textContent = text; }

// -- the panel -----------------------------------------------------------------------------------

let selected = null;

function mark(id, on) {
  const element = cards[id in N ? standsFor[id] : id] || frames[id];
  if (element) element.classList.toggle("sel", on);
}

function select(id, shown = false) {
  if (selected) mark(selected, false);
  selected = id;
  if (id) { mark(id, true); if (shown) reveal(id); }
  show(id);
  $("#panel").scrollTop = 0;
}

const heading = text => make("h3", {}, text);
const stat = (...text) => make("div", {class: "stat"}, ...text);
const link = (id, more = "") => make("button", {"data-go": id}, called(id) + more);
const links = children => make("div", {class: "links"}, ...children);

function grid(array) {
  const sizes = array.cells.flat().filter(isNumber).map(Math.abs), peak = Math.max(0, ...sizes);
  const cell = x => {
    const share = isNumber(x) && peak ? Math.round(62 * Math.abs(x) / peak) : 0;
    const fill = `color-mix(in srgb, var(${x < 0 ? "--neg" : "--pos"}) ${share}%, var(--zero))`;
    return make("td", {style: `background:${fill}`, class: isNumber(x) ? null : "warn"}, format(x));
  };
  return make("div", {class: "grid"}, make("table", {}, ...array.cells.map(row => make("tr", {}, ...row.map(cell)))),
    array.means ? stat("means of blocks of a larger array") : null);
}

function statistics(a) {
  const odd = [a.nan ? `${a.nan} NaN` : "", a.inf ? `${a.inf} inf` : ""].filter(Boolean).join(", ");
  return make("div", {}, stat(`min ${format(a.min)} · max ${format(a.max)} · mean ${format(a.mean)} · RMS ${format(a.rms)}` +
    (a.zeros ? ` · zeros ${(100 * a.zeros).toFixed(a.zeros < 0.1 ? 1 : 0)} %` : "")), odd ? make("div", {class: "warn"}, odd) : null);
}

function gradientNow(id) { // [array or null, how many contributions have come, how many are due]
  const node = N[id], some = come(id), all = due(id);
  if (!node.grad || (!finished() && !reached(id))) return [null, some.length, all.length];
  if (finished() || some.length === all.length) return [node.grad, all.length, all.length];
  const cells = some.map(edge => edge.share.cells).reduce((a, b) => a.map((row, i) => row.map((x, j) =>
    isNumber(x) && isNumber(b[i][j]) ? x + b[i][j] : "NaN")));
  return [{cells, means: node.grad.means}, some.length, all.length];
}

function showNode(id) {
  const node = N[id], pill = node.role === "op" || node.role === "loss" ? node.label : node.role;
  const [gradient, n, all] = gradientNow(id), out = called(id);
  const parts = [
    make("h2", {}, make("span", {class: `pill ${node.role}`}, short(oneLine(pill), 40)), node.name ? out : ""),
    stat(`shape ${node.shape} · ${node.dtype}${node.options ? " · " + oneLine(node.options) : ""}`),
    node.state && node.state.text ? make("div", {class: "warn"}, node.state.text) : null,
    links(around(id).reverse().map(box => make("button", {"data-zoomto": box}, "in " + called(box)))),
  ];
  if (node.formula) parts.push(heading("Forward"), make("pre", {}, node.formula));
  if (node.gradient) parts.push(heading("Backward rule"), make("pre", {}, node.gradient), stat("g is the gradient that comes in"));
  parts.push(heading("Value"), node.value.cells.length ? grid(node.value) : stat("empty"), statistics(node.value));
  parts.push(heading(`Gradient ∂L/∂${out}`));
  if (!node.requires_grad) parts.push(stat("a constant: it has no gradient"));
  else if (!D.has_gradients) parts.push(stat("backward has not run: the end is not a scalar"));
  else if (!node.grad) parts.push(stat("no gradient reached it"));
  else if (!gradient) parts.push(stat("not reached yet at this step"));
  else parts.push(grid(gradient), n < all ? make("div", {class: "warn"}, `${n} of ${all} contributions so far`) : statistics(node.grad));
  if (due(id).length) {
    parts.push(heading("Contributions"), links(due(id).map(edge => link(edge.target,
      ` ${format(edge.rms)}${isDone(edge.target) || finished() ? "" : " (to come)"}`))));
  }
  if (inputs[id].length) parts.push(heading("Inputs"), links(inputs[id].map(edge => link(edge.source))));
  if (node.source) parts.push(heading("Source"), make("pre", {}, oneLine(node.source)));
  return parts;
}

function showBox(id) {
  const box = B[id];
  return [
    make("h2", {}, make("span", {class: "pill module"}, box.is_module === false ? "repeat" : "module"), boxTitle(id)),
    stat(`${box.nodes} nodes · ${box.parameters.toLocaleString("en")} parameters`),
    links([make("button", {"data-toggle": id}, isOpen[id] ? "Fold" : "Open"), make("button", {"data-zoomto": id}, "Zoom to it")]),
    heading(`Gradient of its ${box.grad_of || "parameters"}`),
    box.grad ? stat(`RMS ${format(box.grad.rms)} · max ${format(box.grad.max)} · zeros ${(100 * box.grad.zeros).toFixed(1)} %`)
      : stat("none"),
    heading("Inside"), links(children(id).map(child => link(child))),
  ];
}
const children = id => [...Object.keys(B).filter(box => B[box].parent === id), ...Object.keys(N).filter(node => N[node].box === id)];

function showStart() {
  const warned = Object.keys(N).filter(id => N[id].state && N[id].state.kind !== "later" && N[id].state.text);
  const boxes = Object.keys(B).filter(id => !B[id].parent || isOpen[B[id].parent]);
  return [
    make("h2", {}, "How to read this"),
    make("p", {}, "A card is a tensor: its op or role, name and shape, and its value and gradient as strips from blue (negative) to " +
      "orange (positive), each scaled to its own maximum. Arrows run forward; width and number are the RMS of the gradient that comes back."),
    make("p", {}, "Click a card for its numbers. ", make("kbd", {}, "←"), make("kbd", {}, "→"), " walk through the backward pass in the " +
      "order in which the engine does it; ", make("kbd", {}, "Space"), " plays it. ", make("kbd", {}, "/"), " searches, ",
      make("kbd", {}, "f"), " fits, ", make("kbd", {}, "t"), " turns, ", make("kbd", {}, "+"), make("kbd", {}, "-"), " zoom, ", make("kbd", {}, "Esc"), " clears."),
    warned.length ? heading("Look here") : null,
    ...warned.slice(0, 40).map(id => make("div", {class: "links"}, link(id), make("span", {class: "warn"}, " " + N[id].state.text))),
    boxes.length ? heading("Modules") : null, links(boxes.slice(0, 80).map(id => link(id))),
    order.length && order.length <= 40 ? heading("Backward order") : null,
    order.length <= 40 ? links(order.map(id => link(id))) : null,
  ];
}

function show(id) {
  const parts = !id ? showStart() : id in N ? showNode(id) : showBox(id);
  $("#panel").replaceChildren(...parts.filter(Boolean));
}

$("#panel").addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.go) select(button.dataset.go, true);
  else if (button.dataset.toggle) { toggle(button.dataset.toggle); show(selected); }
  else if (button.dataset.zoomto) { openAround(button.dataset.zoomto); const frame = plan.frames[button.dataset.zoomto];
    if (frame) zoomTo(frame, 2.5); else reveal(button.dataset.zoomto); }
});

function openAround(id) {
  const closed = around(id).filter(box => !isOpen[box]);
  if (closed.length) setOpen(Object.fromEntries(closed.map(box => [box, true])), id);
}

// -- search --------------------------------------------------------------------------------------

const words = [...Object.keys(B), ...Object.keys(N)].map(id => {
  const t = N[id] || B[id];
  return [id, [t.name, t.label, t.op, t.scope, t.shape, t.source, id].filter(Boolean).join(" ").toLowerCase()];
});
let results = [], chosen = 0;

function search() {
  const wanted = $("#find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const rank = id => id in B ? 1 : N[id].name && wanted.some(word => N[id].name.toLowerCase().includes(word)) ? 0 : 2;
  results = wanted.length ? words.filter(([, text]) => wanted.every(word => text.includes(word))).map(([id]) => id)
    .sort((a, b) => rank(a) - rank(b)).slice(0, 30) : [];
  chosen = 0;
  const items = results.map((id, i) => make("li", {role: "option", id: `r${i}`, "data-id": id}, called(id),
    make("small", {}, id in B ? `module, ${B[id].nodes} nodes` : [N[id].op || N[id].role, N[id].shape, short(oneLine(N[id].scope || ""), 60)].filter(Boolean).join(" · "))));
  if (wanted.length && !items.length) items.push(make("li", {}, "nothing found"));
  $("#found").replaceChildren(...items);
  $("#found").hidden = !wanted.length;
  $("#find").setAttribute("aria-expanded", String(wanted.length > 0));
  choose(0);
}
function choose(i) {
  const items = $("#found").children;
  chosen = Math.max(0, Math.min(results.length - 1, i));
  [...items].forEach((item, k) => item.setAttribute("aria-selected", String(k === chosen && results.length > 0)));
  if (results.length) { $("#find").setAttribute("aria-activedescendant", `r${chosen}`); items[chosen].scrollIntoView({block: "nearest"}); }
}
function take(id) {
  $("#found").hidden = true;
  $("#find").setAttribute("aria-expanded", "false");
  openAround(id);
  select(id);
  const frame = plan.frames[id], spot = where(id), size = (N[id] || B[id]).card;
  zoomTo(frame || [spot[0] - size.width, spot[1] - size.height, spot[0] + size.width, spot[1] + size.height], 1.6);
}
$("#find").addEventListener("input", search);
$("#find").addEventListener("keydown", event => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") { choose(chosen + (event.key === "ArrowDown" ? 1 : -1)); event.preventDefault(); }
  else if (event.key === "Enter" && results.length) take(results[chosen]);
  else if (event.key === "Escape") { $("#find").value = ""; search(); $("#find").blur(); }
  event.stopPropagation();
});
$("#found").addEventListener("click", event => { const item = event.target.closest("[data-id]"); if (item) take(item.dataset.id); });

// -- buttons and keys ----------------------------------------------------------------------------

const KEYS = {
  ArrowRight: () => walk(1), ArrowLeft: () => walk(-1), Home: () => { play(false); go(0); }, End: () => { play(false); go(order.length); },
  " ": () => play(), t: turn, Escape: () => { play(false); select(null); }, "/": () => $("#find").focus(), f: fit, "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select")) return;
  const button = event.target.closest(".toggle, [data-zoom], .node");
  if (event.key === "Enter" || (event.key === " " && button)) {
    if (button) { press(button); event.preventDefault(); }
    return;
  }
  if (event.key === " " && event.target.closest("button")) return;
  if (event.key in KEYS) { KEYS[event.key](); event.preventDefault(); }
});
const on = (id, action) => $(id).addEventListener("click", action);
on("#first", KEYS.Home); on("#prev", () => walk(-1)); on("#play", () => play()); on("#next", () => walk(1)); on("#last", KEYS.End);
on("#turn", turn); on("#in", () => zoom(1.25)); on("#out", () => zoom(0.8)); on("#fit", fit); on("#theme", () => theme(!dark()));
$("#bar").addEventListener("input", event => { play(false); go(+event.target.value); });

const dark = () => document.documentElement.dataset.theme === "dark";
function theme(isDark) {
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  $("#theme").textContent = isDark ? "Light" : "Dark";
}
const preference = matchMedia("(prefers-color-scheme: dark)");
theme(preference.matches);
preference.addEventListener("change", event => theme(event.matches));

const deepest = Math.max(0, ...Object.keys(B).map(depthOf));
$("#depth").append(make("option", {value: "start"}, "as drawn"), ...Array.from({length: deepest + 1}, (_, i) =>
  make("option", {value: i}, i === deepest ? "all open" : i === 0 ? "all folded" : String(i))));
$(".depth").hidden = !deepest;
$("#depth").addEventListener("change", event => {
  const asked = event.target.value, changes = {};
  for (const id in B) changes[id] = asked === "start" ? B[id].open : +asked === deepest || depthOf(id) <= +asked && B[id].is_module !== false;
  setOpen(changes);
  start();
});

const parameters = Object.values(N).filter(node => node.role === "parameter").length;
$("#sum").textContent = `${Object.keys(N).length} nodes, ${parameters} parameters`;
$("#bar").max = order.length;
layOut();
go(order.length);
show(null);
start();
new ResizeObserver(() => { if (!moved && step === order.length && !selected) start(); }).observe(stage);
