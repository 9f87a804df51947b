"use strict";
// The interactive page: draws the graph, lays it out again when a module is folded or opened, and walks through the
// backward pass. panel.js tells what is known of a node, and searches; controls.js listens to mouse, fingers and keys.
// All names come from the user's program: they enter the document as text, never as markup.

const D = JSON.parse(document.getElementById("data").textContent);
const N = D.nodes, B = D.boxes, order = D.order;
const $ = selector => document.querySelector(selector);
const SVG = "http://www.w3.org/2000/svg";
const READABLE = 1.25, FAR = 0.5, EXPLODING = 1e3, VANISHING = 1e-7; // READABLE: the 9 pt of a card are 11 px then

function make(tag, attributes = {}, ...children) {
  const svg = tag.startsWith("svg:");
  const element = svg ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
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
  for (let box = N[id] ? N[id].box : B[id].parent; box; box = B[box].parent) chain.push(box);
  return chain;
}
const inside = {}; // box -> its nodes
for (const id in B) inside[id] = [];
for (const id in N) for (const box of around(id)) inside[box].push(id);
const depthOf = id => around(id).filter(box => B[box].is_module !== false).length + 1;
const deepest = Math.max(0, ...Object.keys(B).map(depthOf));

const isOpen = {};
for (const id in B) isOpen[id] = B[id].open;
let standsFor = {}; // node -> what is shown for it: itself, or the outermost folded box around it

const shownFor = id => around(id).filter(box => !isOpen[box]).pop() || id;

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
const called = (id, n = 60) => short(oneLine(id in N ? N[id].name || N[id].label : B[id].label) || id, n);
const boxTitle = id => called(id, 44) + (B[id].times > 1 ? ` ×${B[id].times}` : "");
const counted = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
function rootMean(sizes, counts) { // of the RMS of several arrays, and the number of their elements
  const odd = sizes.find(size => !isNumber(size)), all = counts.reduce((a, b) => a + b, 0);
  return odd !== undefined ? odd : Math.sqrt(sizes.reduce((sum, size, i) => sum + counts[i] * size * size, 0) / all);
}

// -- cards ---------------------------------------------------------------------------------------

const LIGHT = new Set(["#FFFFFF", "#EAF6F1", "#EEF6FC", "#F6F7F9", "#EEF2F7", "#FFF4ED"]); // recoloured in the dark

function drawCard(id) {
  const thing = N[id] || B[id], card = thing.card, name = called(id);
  const group = make("svg:g", {id, class: `${card.class}${thing.state ? " " + thing.state.kind : ""}`, tabindex: 0, role: "button"});
  const parsed = new DOMParser().parseFromString(`<svg xmlns="${SVG}">${card.svg}</svg>`, "image/svg+xml").documentElement;
  group.append(...[...parsed.childNodes].map(node => document.importNode(node, true)));
  if (id in N) drawStrips(group, {val: thing.value, grad: thing.grad});
  if (LIGHT.has(group.querySelector(".card").getAttribute("fill").toUpperCase())) group.classList.add("known");
  hideable(group);
  const title = group.querySelector('text[font-weight=bold][font-size="12"]'), big = short(oneLine(title ? title.textContent : name), 30);
  const size = Math.min(36, card.height * 0.55, 1.7 * card.width / Math.max(big.length, 1)); // seen from afar
  group.append(make("svg:text", {class: "big", x: card.width / 2, y: card.height / 2 + size / 3, "text-anchor": "middle",
                                 "font-size": size.toFixed(1), "aria-hidden": "true"}, big));
  group.setAttribute("aria-label", id in B
    ? `${boxTitle(id)}, folded module of ${counted(thing.nodes, "node")}`
    : `${name}, ${thing.role}${thing.op ? " " + thing.op : ""}, shape ${thing.shape}, ` +
      (thing.grad ? `gradient RMS ${format(thing.grad.rms)}` : "no gradient") + (thing.state ? `, ${thing.state.text}` : ""));
  return group;
}

// The strips come as empty frames. Each is one image of a pixel for each cell, under the lines between the cells:
// thousands of single cells would make moving slow.
function drawStrips(group, arrays) {
  let label = "";
  for (const part of [...group.children]) {
    const text = part.tagName === "text" ? part.textContent.trim() : "";
    if (text in arrays && part.getAttribute("font-size") === "8") label = text; // a name is larger
    if (part.tagName !== "rect" || part.getAttribute("fill") !== "#CBD5E1") continue;
    const [x, y, width, height] = ["x", "y", "width", "height"].map(name => +part.getAttribute(name)), {cells} = arrays[label];
    const inner = {x: x + 0.5, y: y + 0.5, width: width - 1, height: height - 1};
    const down = (height - 1) / cells.length, right = (width - 1) / cells[0].length;
    let lines = `M${inner.x} ${inner.y}h${inner.width}v${inner.height}h${-inner.width}z`;
    for (let i = 1; i < cells.length; i++) lines += `M${inner.x} ${inner.y + i * down}h${inner.width}`;
    for (let j = 1; j < cells[0].length; j++) lines += `M${inner.x + j * right} ${inner.y}v${inner.height}`;
    part.replaceWith(make("svg:image", {...inner, href: bitmap(cells), preserveAspectRatio: "none"}),
                     make("svg:path", {d: lines, class: "rule"}));
  }
}

function bitmap(cells) { // a BMP file: 54 bytes of head, then rows from the bottom, blue before green before red
  const rows = cells.length, columns = cells[0].length, stride = Math.ceil(columns * 3 / 4) * 4;
  const bytes = new Uint8Array(54 + stride * rows), head = new DataView(bytes.buffer);
  const peak = Math.max(0, ...cells.flat().filter(isNumber).map(Math.abs)) || 1;
  bytes.set([0x42, 0x4D]);
  for (const [at, x] of [[2, bytes.length], [10, 54], [14, 40], [18, columns], [22, rows]]) head.setUint32(at, x, true);
  head.setUint16(26, 1, true);
  head.setUint16(28, 24, true);
  cells.forEach((row, i) => row.forEach((x, j) => {
    bytes.set(isNumber(x) ? stripColor(x / peak) : [0x27, 0x18, 0x11], 54 + (rows - 1 - i) * stride + 3 * j);
  }));
  return `data:image/bmp;base64,${btoa(String.fromCharCode(...bytes))}`;
}

function stripColor(x) { // from -1, blue, to 1, orange; as blue, green, red
  const ends = x > 0 ? [0x20, 0x6B, 0xDD] : [0xA8, 0x62, 0x26];
  return [0xF8, 0xF6, 0xF5].map((a, i) => Math.round(a + (ends[i] - a) * Math.min(Math.abs(x), 1)));
}

function hideable(group) { // what shows the gradient is marked, so that a step that has not reached it can hide it
  const parts = [...group.children];
  const start = parts.findIndex(part => part.tagName === "text" && part.getAttribute("font-size") === "8" && part.textContent.trim() === "grad");
  for (let i = start; start >= 0 && i < parts.length && !parts[i].hasAttribute("rx"); i++) parts[i].classList.add("g");
}

function drawToggle(id) {
  const [x, y] = togglePlace(id);
  return make("svg:g", {
    class: "toggle", transform: `translate(${x.toFixed(2)} ${y.toFixed(2)})`, tabindex: 0, role: "button", "data-toggle": id,
    "aria-expanded": String(isOpen[id]), "aria-label": `${isOpen[id] ? "Fold" : "Open"} ${called(id)}`,
  }, make("svg:circle", {r: 7}), make("svg:path", {d: isOpen[id] ? "M-3.5 0H3.5" : "M-3.5 0H3.5M0 -3.5V3.5"}));
}

function togglePlace(id) { // both at the upper left: a box that opens does so beside the pointer
  const frame = plan.frames[id], place = plan.places[id];
  if (frame) return [frame[0] + 12, frame[1] + 10.5];
  return place && [place[0] - B[id].card.width / 2 - 1, place[1] - B[id].card.height / 2 - 1];
}

// -- arrows and boxes ----------------------------------------------------------------------------

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
    const flow = id => D.flows[`${id}>${link.target}`]; // all that comes back to a node from the target
    const sources = [...new Set(link.edges.map(edge => edge.source))].filter(id => flow(id) !== undefined);
    link.size = link.id === link.edges[0].id ? link.edges[0].rms
      : sources.length ? rootMean(sources.map(flow), sources.map(id => N[id].size)) : null;
    link.number = D.has_gradients && link.size !== null ? format(link.size, 2) : "";
  }
  return [...groups.values()];
}

let largest = 0; // of the arrows shown
function look(size) { // class, width, share of the strong colour, and dashes of an arrow with this much gradient
  if (!D.has_gradients) return ["", 1, 0];
  if (size === null) return ["none", 1, 0, "5 3"];
  if (!isNumber(size)) return ["alarm", 1.8, 0, "5 3"];
  if (size > EXPLODING) return ["alarm", 5, 0];
  if (size === 0) return ["none", 0.8, 0];
  if (size < VANISHING) return ["none", 1, 0, "1.5 3"];
  const strength = Math.min(1, Math.pow(size / largest, 0.7));
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
  return make("svg:g", {id, class: "cluster"},
    make("svg:rect", {x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: 11}),
    make("svg:text", {x: x0 + 22, y: y0 + 14, "data-zoom": id, tabindex: 0, role: "button",
                      "aria-label": `Zoom to ${called(id)}`}, boxTitle(id)),
    B[id].fixed ? "" : drawToggle(id));
}

// -- the scene -----------------------------------------------------------------------------------

const stage = $("#stage"), scene = $("#scene"), ring = make("svg:g", {id: "ring", "aria-hidden": "true"});
let direction = D.direction, plan = null;
let cards = {}, lines = {}, frames = {}; // what is shown: by node or box; by edge; by box
const drawn = {}; // cards are drawn once

function layOut() {
  standsFor = {};
  for (const id in N) standsFor[id] = shownFor(id);
  const shown = [...new Set(Object.values(standsFor))], links = merged();
  const boxes = {}, home = {}, titles = {}, sizes = {}, labels = {};
  for (const id of shown) {
    const {card} = N[id] || B[id];
    sizes[id] = [card.width, card.height];
    home[id] = around(id)[0] || null;
  }
  for (const id in B) {
    if (!isOpen[id] || !inside[id].length || !around(id).every(box => isOpen[box])) continue;
    boxes[id] = around(id)[0] || null;
    titles[id] = [boxTitle(id).length * 6 + 34, 15];
  }
  largest = Math.max(0, ...links.map(link => link.size).filter(size => isNumber(size) && size <= EXPLODING));
  for (const link of links) labels[link.id] = link.number ? [link.number.length * 5.2 + 4, 11] : [0, 0];
  plan = arrange(sizes, links.map(link => [link.id, link.source, link.target]), boxes, home, titles, direction, labels);
  const into = document.createDocumentFragment(), focused = scene.contains(document.activeElement) ? document.activeElement : null;
  for (const id in drawn) drawn[id].classList.remove("sel", "hint");
  cards = {}; lines = {}; frames = {};
  for (const id in boxes) into.append(frames[id] = drawFrame(id));
  for (const link of links) {
    const element = drawLine(link);
    const line = {element, link};
    for (const edge of link.edges) lines[edge.id] = line;
    into.append(element);
  }
  for (const id of shown) {
    const element = cards[id] = drawn[id] || (drawn[id] = drawCard(id)), [w, h] = sizes[id], [x, y] = plan.places[id];
    element.setAttribute("transform", `translate(${(x - w / 2).toFixed(2)} ${(y - h / 2).toFixed(2)})`);
    into.append(element);
  }
  into.append(ring, ...shown.filter(id => id in B).map(drawToggle)); // not in the card: a button may not hold another
  scene.replaceChildren(into);
  scene.setAttribute("width", plan.width);
  scene.setAttribute("height", plan.height);
  scene.setAttribute("viewBox", `0 0 ${plan.width} ${plan.height}`);
  paintAll();
  if (selected) mark(selected, "sel", true);
  const again = focused && (focused.dataset.zoom ? scene.querySelector(`[data-zoom="${focused.dataset.zoom}"]`) : focused);
  if (again && again.isConnected) again.focus({preventScroll: true}); // the keyboard stays where it was
}

function where(id) { // the middle of a card, or of the upper side of a box; or of what stands for it
  const shown = shownFor(id), frame = plan.frames[shown];
  return plan.places[shown] || (frame && [(frame[0] + frame[2]) / 2, frame[1]]);
}

function setOpen(changes, anchor, place = where) { // what `anchor` names stays where it is on the screen
  const before = anchor && place(anchor);
  Object.assign(isOpen, changes);
  layOut();
  const after = anchor && place(anchor), old = halt();
  if (before && after) view = {...old, x: old.x + (before[0] - after[0]) * old.k, y: old.y + (before[1] - after[1]) * old.k};
  put();
}

function toggle(id, isFromPanel = false) {
  if (isFromPanel) openAround(id);
  setOpen({[id]: !isOpen[id]}, id, id => togglePlace(id) || where(id));
  const button = scene.querySelector(`[data-toggle="${id}"]`);
  if (button && !isFromPanel) button.focus({preventScroll: true});
  show(selected || now());
  say(`${called(id)} is ${isOpen[id] ? "open" : "folded"}`);
}

function openAround(id) {
  const closed = around(id).filter(box => !isOpen[box]);
  if (closed.length) setOpen(Object.fromEntries(closed.map(box => [box, true])), id);
}

function turn() { // a tall graph in a wide window reads better from left to right
  direction = {TB: "LR", LR: "TB", BT: "RL", RL: "BT"}[direction];
  layOut();
  start(selected || now());
}

// -- looking around ------------------------------------------------------------------------------

const still = matchMedia("(prefers-reduced-motion: reduce)");
let view = {x: 0, y: 0, k: 1}, goal = null, flight = 0, resting = 0;
let isOwn = false; // the reader has chosen what to see; before that, the first view fits whatever size the window gets

function put() { // while it moves, the picture is a layer that is only shifted; at rest it is drawn anew, and sharp
  scene.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.k})`;
  stage.classList.toggle("far", view.k < FAR);
  if (!resting) stage.classList.add("moving");
  clearTimeout(resting);
  resting = setTimeout(() => { resting = 0; stage.classList.remove("moving"); }, 200);
}

function halt() { // ends a flight; returns where it was to end
  cancelAnimationFrame(flight);
  if (goal) view = goal;
  goal = null;
  return view;
}

function fly(to) { // moves there so that the eye can follow
  const from = view;
  halt();
  isOwn = true;
  if (still.matches || document.hidden) { view = to; put(); return; }
  goal = to;
  let begun = 0;
  const frame = time => {
    begun = begun || time;
    const part = Math.min(1, (time - begun) / 240), s = 1 - (1 - part) ** 3;
    view = part < 1 ? {x: from.x + (to.x - from.x) * s, y: from.y + (to.y - from.y) * s, k: from.k + (to.k - from.k) * s} : halt();
    put();
    if (part < 1) flight = requestAnimationFrame(frame);
  };
  view = from;
  flight = requestAnimationFrame(frame);
}

function zoom(factor, clientX, clientY) {
  halt();
  isOwn = true;
  const r = stage.getBoundingClientRect();
  const x = clientX === undefined ? r.width / 2 : clientX - r.x, y = clientY === undefined ? r.height / 2 : clientY - r.y;
  const k = Math.min(6, Math.max(Math.min(0.05, fitScale()), view.k * factor));
  view = {x: x - (x - view.x) * k / view.k, y: y - (y - view.y) * k / view.k, k};
  put();
}

const fitScale = () => Math.min(stage.clientWidth / (plan.width + 24), stage.clientHeight / (plan.height + 24));

function framing([x0, y0, x1, y1], most) { // the view that shows a rectangle, with a margin
  const k = Math.min(most, stage.clientWidth / (x1 - x0 + 32), stage.clientHeight / (y1 - y0 + 32));
  return {x: stage.clientWidth / 2 - k * (x0 + x1) / 2, y: stage.clientHeight / 2 - k * (y0 + y1) / 2, k};
}
const whole = () => framing([0, 0, plan.width, plan.height], 1.8);
const fit = () => fly(whole());

function zoomTo(id) {
  openAround(id);
  const frame = plan.frames[id], [x, y] = where(id), {width, height} = frame ? {} : (N[id] || B[id]).card;
  fly(framing(frame || [x - width, y - height, x + width, y + height], frame ? 2.5 : 1.6));
}

function start(id) { // all of it, if that can be read; else the end of the graph, where backward begins, or a node
  halt();
  view = whole();
  if (view.k < READABLE * 0.96) {
    const k = READABLE, [x, y] = where(id || order[0] || Object.keys(N).pop()), w = stage.clientWidth, h = stage.clientHeight;
    const free = (size, all, middle, at, margin) => all * k <= size - margin ? (size - margin - all * k) / 2
      : Math.min(12, Math.max(size - all * k - margin, at - middle * k));
    view = {k, x: free(w, plan.width, x, w / 2, 12), y: free(h, plan.height, y, h * (id ? 0.5 : 0.75), w < 600 ? 56 : 12)};
  }
  put();
}

function reveal(id) { // move the picture so far that a card can be seen
  const [x0, y0] = where(id), {x, y, k} = goal || view, w = stage.clientWidth, h = stage.clientHeight;
  const {card = {width: 200, height: 60}} = N[shownFor(id)] || B[shownFor(id)], to = {x, y, k};
  const hidden = (at, half, size) => at - half < 8 || at + half > size - 8;
  if (hidden(x + x0 * k, Math.min(card.width * k / 2, w / 3), w)) to.x = w / 2 - x0 * k;
  if (hidden(y + y0 * k, Math.min(card.height * k / 2, h / 3), h)) to.y = h / 2 - y0 * k;
  if (to.x !== x || to.y !== y) fly(to);
}

// -- the backward pass ---------------------------------------------------------------------------

// At step 0 nothing has run; at step i the node order[i - 1] hands its gradient on; at `end` all is over.
const end = order.length && order.length + 1;
let step = end, timer = 0;
const now = () => order[step - 1] || null;
const isDone = id => position[id] < step;
const due = id => uses[id].filter(edge => edge.share); // what comes back to a node
const come = id => due(id).filter(edge => isDone(edge.target)); // so far
const reached = id => !(id in position) || isDone(id) || N[id].seed || !due(id).length || come(id).length > 0;

function paint(shown) {
  const nodes = shown in N ? [shown] : inside[shown], timed = nodes.filter(id => id in position);
  const isOff = timed.length > 0 && !timed.some(reached), {classList} = cards[shown];
  classList.toggle("now", nodes.includes(now()));
  classList.toggle("off", isOff);
  classList.toggle("wait", isOff);
}

function paintLine({element, link}) {
  const isSeen = edge => !(edge.target in position) || isDone(edge.target) || !(edge.share || edge.source in position);
  element.classList.toggle("off", !link.edges.some(isSeen));
  element.classList.toggle("flow", link.edges.some(edge => edge.share && edge.target === now()));
}

function paintRing() { // around the card whose turn it is; on a folded one, how far it is inside
  const shown = standsFor[now()];
  ring.toggleAttribute("hidden", !shown);
  if (!shown) { ring.replaceChildren(); return; }
  const {card: {width, height}} = N[shown] || B[shown], [x, y] = plan.places[shown], text = shown in B ? progress(shown) : "";
  ring.replaceChildren(make("svg:rect", {x: x - width / 2 - 5, y: y - height / 2 - 5, width: width + 10, height: height + 10, rx: 15}));
  if (text) {
    const half = text.length * 2.6 + 8;
    ring.append(make("svg:rect", {class: "tag", x: x - half, y: y + height / 2 - 3, width: 2 * half, height: 15, rx: 7.5}),
                make("svg:text", {x, y: y + height / 2 + 7.8, "text-anchor": "middle"}, text));
  }
}
const progress = box => {
  const timed = inside[box].filter(id => id in position);
  return `${timed.filter(isDone).length} of ${timed.length} inside`;
};

function paintAll() {
  for (const id in cards) paint(id);
  for (const line of new Set(Object.values(lines))) paintLine(line);
  paintRing();
}

function go(to) {
  to = Math.max(0, Math.min(end, to));
  const [from, until] = [step, to].sort((a, b) => a - b);
  step = to;
  if (until - from > 20) paintAll();
  else { // only what these steps touch
    const touched = new Set();
    for (const id of order.slice(Math.max(0, from - 1), until)) {
      touched.add(standsFor[id]);
      for (const edge of inputs[id]) { touched.add(standsFor[edge.source]); if (lines[edge.id]) paintLine(lines[edge.id]); }
    }
    touched.forEach(paint);
    paintRing();
  }
  tell();
  if (!(selected in B)) showing = showing || requestAnimationFrame(() => { showing = 0; show(selected || now()); });
}
let showing = 0; // the panel follows once in a frame; a selected node stays, with its partial sums

function tell() { // in words, also for those who hear the page
  const id = now(), count = `${Math.min(step, order.length)}/${order.length}`;
  $("#count").textContent = count;
  $("#bar").value = step;
  $("#bar").setAttribute("aria-valuetext", id ? `step ${count}, ${called(id)}` : step ? "complete" : "before the first step");
  if (!order.length) return say("Backward has not run: there are no gradients to walk through.");
  if (!id) return say(step ? "The backward pass is complete: all gradients are shown."
    : `Before the first step: the gradient of ${called(order[0])} is the one to start from.`);
  const given = [...new Set(inputs[id].filter(edge => edge.share).map(edge => called(edge.source)))];
  const node = N[id], name = called(id) + (node.op && node.name ? ` (${node.op})` : "");
  const gives = given.length ? ` gives ${oneLine(node.gradient || "its gradient")} to ${given.join(", ")}` : " keeps its gradient";
  say(`Step ${step}: ${name}${gives}` + (standsFor[id] in B ? `; ${progress(standsFor[id])} ${called(standsFor[id])}` : ""));
}
function say(text) { $("#say").textContent = $("#say").title = text; }

function play(isOn = !timer) {
  clearInterval(timer);
  timer = 0;
  if (isOn && order.length) {
    if (step === end) go(0);
    const pause = Math.max(250, Math.min(1000, 40_000 / order.length)); // at most about 40 seconds, or 4 steps a second
    timer = setInterval(() => { go(step + 1); if (now()) reveal(now()); else play(false); }, pause);
  }
  $("#play").textContent = timer ? "Pause" : "Play";
}

function walk(by) {
  play(false);
  go(step === end && by > 0 ? 1 : step + by);
  if (now()) reveal(now());
}
