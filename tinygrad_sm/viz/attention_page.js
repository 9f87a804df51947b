"use strict";
// The page of attention weights: unpacks them, draws all heads, and keeps what is shown in the address.
// attention_head.js shows one head. Tokens come from anywhere: they enter the document as text, never as markup.

const D = JSON.parse(document.getElementById("data").textContent);
const T = D.tokens.length, L = D.heads.length, SIDES = D.sides.length;
const $ = id => document.getElementById(id);
const MISSING = -1; // a weight that was too small to be kept
const THUMB = 96; // cells on a side of a small map at most

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter(child => child !== null && child !== undefined));
  return element;
}

// -- weights -------------------------------------------------------------------------------------

function numbers(text) { // base64 of 16-bit numbers, low byte first
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Uint16Array(bytes.buffer);
}
const unpacked = new Map();
function once(key, get) {
  if (!unpacked.has(key)) unpacked.set(key, get());
  return unpacked.get(key);
}
const value = code => code === 65535 ? NaN : code / 65534;

function one(side, layer, head, w, floor) { // fill in the weights of a head
  const packed = D.sides[side].layers[layer];
  if (D.kept) {
    const [places, codes] = once(`${side} ${layer}`, () => packed.map(numbers));
    w.fill(MISSING);
    for (let i = 0, at = head * T * D.kept; i < T; i++) {
      floor[i] = Infinity;
      for (let k = 0; k < D.kept; k++, at++) {
        w[i * T + places[at]] = value(codes[at]);
        floor[i] = Math.min(floor[i], value(codes[at]));
      }
    }
    return;
  }
  const codes = once(`${side} ${layer}`, () => numbers(packed));
  let at = head * (D.causal ? T * (T + 1) / 2 : T * T);
  for (let i = 0; i < T; i++) for (let j = 0; j < (D.causal ? i + 1 : T); j++) w[i * T + j] = value(codes[at++]);
}

function weights(side, layer, head) { // of a head, or of "mean": all T × T, and for each row the least that was kept
  const w = new Float32Array(T * T), floor = D.kept ? new Float32Array(T) : null, H = D.heads[layer];
  if (head !== "mean") one(side, layer, head, w, floor);
  else if (D.kept) one(side, layer, H, w, floor);
  else {
    const part = new Float32Array(T * T);
    for (let h = 0; h < H; h++) {
      one(side, layer, h, part);
      for (let k = 0; k < w.length; k++) w[k] += part[k] / H;
    }
  }
  return { w, floor };
}

// -- numbers and words ---------------------------------------------------------------------------

const hidden = (i, j) => D.causal && j > i;
function format(w) {
  if (Number.isNaN(w)) return "NaN";
  return w > 0.95 ? w.toFixed(3) : w < 1e-5 ? "below 0.00001" : w.toPrecision(2);
}
function brief(w) {
  return Number.isNaN(w) ? "NaN" : w >= 0.995 ? "1.0" : w < 0.005 ? "<.01" : w.toFixed(2).replace(/^0/, "");
}
function told(m, i, j) { // the weight in words
  if (hidden(i, j)) return "hidden, a later token";
  const w = m.w[i * T + j];
  return w === MISSING ? `below ${format(m.floor[i]).replace("below ", "")}` : format(w);
}
const share = x => x === null ? "–" : x.toFixed(2);
const percent = x => x === null ? "–" : `${x > 0 && x < 0.01 ? "<1" : Math.round(100 * x)} %`;
const title = (layer, head) => head === "mean" ? `layer ${layer}, mean of ${D.heads[layer]} heads` : `layer ${layer} head ${head}`;
const sentence = s => `entropy ${share(s[0])} of log n, largest weight ${share(s[1])} on average, ${percent(s[2])} of rows above 0.99`;
function average(rows) {
  return [0, 1, 2].map(k => {
    const known = rows.map(row => row[k]).filter(x => x !== null);
    return known.length ? known.reduce((a, b) => a + b) / known.length : null;
  });
}
const stats = (side, layer, head) => head === "mean" ? average(D.sides[side].stats[layer]) : D.sides[side].stats[layer][head];

// -- colours -------------------------------------------------------------------------------------

let ramp = [], alarm = [0, 0, 0];
function rgb(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1);
  const long = hex.length === 3 ? [...hex].map(c => c + c).join("") : hex;
  return [0, 2, 4].map(i => parseInt(long.slice(i, i + 2), 16));
}
function mixColours() {
  const [a, b, c] = ["--c0", "--c1", "--c2"].map(rgb);
  ramp = Array.from({ length: 256 }, (_, k) => {
    const t = k / 127.5, [from, to, x] = t < 1 ? [a, b, t] : [b, c, t - 1];
    return from.map((v, i) => Math.round(v + (to[i] - v) * x));
  });
  alarm = rgb("--hot");
}
const tone = w => S.scale === "linear" ? w : Math.sqrt(w);
function colour(w) {
  return Number.isNaN(w) ? alarm : ramp[Math.round(255 * tone(Math.min(Math.max(w, 0), 1)))];
}
const css = c => `rgb(${c.join(",")})`;
function inkOn(c) { // black or white, whichever can be read better
  const [r, g, b] = c.map(x => x <= 10.3 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}
function paint(canvas, m, most) { // a pixel is a cell, or the largest of a block of cells
  const step = Math.ceil(T / most), n = Math.ceil(T / step);
  canvas.width = canvas.height = n;
  const best = new Float32Array(n * n).fill(-2), pen = canvas.getContext("2d"), image = pen.createImageData(n, n);
  for (let i = 0; i < T; i++) {
    const row = Math.floor(i / step) * n;
    for (let j = 0, end = D.causal ? i + 1 : T; j < end; j++) {
      const k = row + Math.floor(j / step), w = m.w[i * T + j];
      if (!(w <= best[k])) best[k] = w; // NaN stays
    }
  }
  for (let k = 0; k < n * n; k++) if (best[k] !== -2) image.data.set([...colour(best[k]), 255], 4 * k);
  pen.putImageData(image, 0, 0);
}
function drawLegend() {
  $("legend").replaceChildren(...[0, 0.01, 0.1, 0.3, 1].map(w => make("span", {}, make("i", { style: `background:${css(colour(w))}` }), String(w))));
}

// -- what is shown, and its address --------------------------------------------------------------

const S = { layer: null, head: null, query: null, show: SIDES > 1 ? "both" : "0", scale: "root" };
const whole = (text, n) => /^\d{1,5}$/.test(text ?? "") && +text < n ? +text : null;
const shown = () => S.show === "both" ? [0, 1] : [+S.show];

function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)), layer = whole(given.get("layer"), L);
  const head = layer === null ? null : given.get("head") === "mean" ? "mean" : whole(given.get("head"), D.heads[layer]);
  Object.assign(S, head === null ? { layer: null, head: null, query: null } : { layer, head, query: whole(given.get("query"), T) });
  if (SIDES > 1) S.show = ["0", "1"].includes(given.get("show")) ? given.get("show") : "both";
  S.scale = given.get("scale") === "linear" ? "linear" : "root";
}
function address() {
  const parts = [];
  if (S.layer !== null) parts.push(`layer=${S.layer}`, `head=${S.head}`);
  if (S.query !== null) parts.push(`query=${S.query}`);
  if (S.show !== (SIDES > 1 ? "both" : "0")) parts.push(`show=${S.show}`);
  if (S.scale !== "root") parts.push(`scale=${S.scale}`);
  return `#${parts.join("&")}`;
}
function keepAddress(step = false) { // a step is one that the browser's Back undoes
  try {
    history[step ? "pushState" : "replaceState"](null, "", address());
  } catch { /* in a frame without an address of its own */ }
}

function set(change, step = false) {
  Object.assign(S, change);
  if (S.layer === null) S.query = null;
  keepAddress(step);
  render();
}

let cameFrom = null; // the card that was opened
function render() {
  const all = S.layer === null;
  $("overview").hidden = !all;
  $("one").hidden = all;
  for (const button of $("show").children) check(button, button.dataset.show === S.show);
  $("scale").value = S.scale;
  drawLegend();
  if (all) drawAll(); else drawHead();
  document.title = all ? heading : `${title(S.layer, S.head)} – ${heading}`;
}
const heading = document.title;
function check(button, on) {
  button.setAttribute("aria-checked", on);
  button.tabIndex = on ? 0 : -1;
}
function radios(group, among) { // arrow keys move in a group of choices
  group.addEventListener("keydown", event => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key], list = [...among()];
    if (!by || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const next = list[list.indexOf(event.target) + by];
    if (next) { next.click(); next.focus(); }
  });
}

// -- all heads -----------------------------------------------------------------------------------

let drawn = "", painting = 0;
function card(layer, head) {
  const sides = shown(), known = sides.map(side => stats(side, layer, head));
  const said = sides.map((side, k) => (SIDES > 1 ? `${D.labels[side]}: ` : "") + sentence(known[k])).join("; ");
  const lines = s => [["entropy", share(s[0])], ["largest", share(s[1])], ["> 0.99", percent(s[2])]];
  return make("button", { class: "card", "data-layer": layer, "data-head": head, "aria-label": `${title(layer, head)}: ${said}`, tabindex: -1 },
    make("b", {}, title(layer, head)),
    make("span", { class: "pair" }, ...sides.map((side, k) => make("span", { class: "side" },
      make("canvas", { "data-side": side }),
      sides.length > 1 ? make("span", {}, make("span", { class: "name" }, D.labels[side])) : null,
      ...lines(known[k]).map(([word, number]) => make("span", {}, make("span", {}, word), make("span", {}, number)))))));
}
function drawAll() {
  const key = `${S.show} ${S.scale} ${ramp[255]}`;
  if (key === drawn) return;
  drawn = key;
  $("maps").className = shown().length > 1 ? "two" : "";
  $("maps").replaceChildren(...D.heads.map((heads, layer) => {
    const means = shown().map(side => (SIDES > 1 ? `${D.labels[side]}: ` : "") + sentence(stats(side, layer, "mean"))).join("; ");
    const mean = make("button", { "data-layer": layer, "data-head": "mean", "aria-label": `layer ${layer}: mean over heads` }, "Mean over heads");
    return make("div", {}, make("div", { class: "layer" }, make("h2", {}, `Layer ${layer}`), make("small", {}, means), mean),
      make("div", { class: "maps" }, ...Array.from({ length: heads }, (_, head) => card(layer, head))));
  }));
  document.querySelector(".card").tabIndex = 0;
  const canvases = [...document.querySelectorAll(".card canvas")], turn = ++painting;
  (function some() { // a few at a time, so that the page can be used meanwhile
    const end = performance.now() + 12;
    while (canvases.length && turn === painting && performance.now() < end) {
      const canvas = canvases.shift(), { layer, head } = canvas.closest(".card").dataset;
      paint(canvas, weights(+canvas.dataset.side, +layer, +head), THUMB);
    }
    if (canvases.length && turn === painting) requestAnimationFrame(some);
  })();
}
$("maps").addEventListener("click", event => {
  const button = event.target.closest("[data-head]");
  if (!button) return;
  const { layer, head } = button.dataset;
  cameFrom = `#maps [data-layer="${layer}"][data-head="${head}"]`;
  set({ layer: +layer, head: head === "mean" ? head : +head, query: null }, true);
  scrollTo(0, 0);
  document.querySelector("#heads [aria-checked=true]").focus({ preventScroll: true });
});
$("maps").addEventListener("keydown", event => {
  const at = event.target.closest(".card");
  if (!at || event.ctrlKey || event.altKey || event.metaKey) return;
  const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!move) return;
  event.preventDefault();
  const next = document.querySelector(`.card[data-layer="${+at.dataset.layer + move[0]}"][data-head="${+at.dataset.head + move[1]}"]`);
  if (next) { at.tabIndex = -1; next.tabIndex = 0; next.focus(); }
});
function close() {
  set({ layer: null, head: null }, true);
  const card = cameFrom && document.querySelector(cameFrom);
  if (card) card.focus(); else scrollTo(0, 0);
}
