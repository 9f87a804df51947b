"use strict";
// Mouse, fingers, keys and buttons of the interactive page; then its start.

// -- mouse and fingers ---------------------------------------------------------------------------

const pointers = new Map();
let moved = 0, hit = null;
const middle = () => {
  const [a, b = a] = [...pointers.values()];
  return [(a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY)];
};
stage.addEventListener("pointerdown", event => {
  if (event.button) return;
  pointers.set(event.pointerId, event);
  moved = 0;
  hit = event.target;
});
stage.addEventListener("pointermove", event => {
  if (!pointers.has(event.pointerId)) return;
  const [x, y, apart] = middle();
  moved += Math.hypot(event.clientX - pointers.get(event.pointerId).clientX, event.clientY - pointers.get(event.pointerId).clientY);
  pointers.set(event.pointerId, event);
  if (moved < 4) return;
  if (!stage.hasPointerCapture(event.pointerId)) stage.setPointerCapture(event.pointerId); // not before: a click needs its target
  isOwn = true;
  stage.classList.add("drag");
  const [toX, toY, wide] = middle();
  halt();
  view = {...view, x: view.x + toX - x, y: view.y + toY - y};
  if (apart && wide) zoom(wide / apart, toX, toY);
  put();
});
for (const type of ["pointerup", "pointercancel"]) {
  window.addEventListener(type, event => {
    if (!pointers.delete(event.pointerId)) return;
    if (!pointers.size) stage.classList.remove("drag");
    if (type === "pointerup" && moved < 4) press(hit);
  });
}
stage.addEventListener("dblclick", event => {
  const box = event.target.closest(".module, .cluster");
  if (box && !B[box.id].fixed && !event.target.closest(".toggle, [data-zoom]")) toggle(box.id);
});
stage.addEventListener("wheel", event => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.clientX, event.clientY);
}, {passive: false});

function press(target) {
  const button = target.closest("[data-toggle], [data-zoom], .node");
  if (!button) select(null);
  else if (button.dataset.toggle) toggle(button.dataset.toggle);
  else if (button.dataset.zoom) { zoomTo(button.dataset.zoom); select(button.dataset.zoom); }
  else select(button.id);
}

scene.addEventListener("focusin", event => { // what the keyboard reaches is moved into sight
  const {id, dataset} = event.target.closest(".node") || event.target, reached = dataset.zoom || dataset.toggle || id;
  if ((reached in N || reached in B) && event.target.matches(":focus-visible") && !pointers.size) reveal(reached);
});

// -- buttons and keys ----------------------------------------------------------------------------

const KEYS = {
  ArrowRight: () => walk(1), ArrowLeft: () => walk(-1), Home: () => { play(false); go(0); }, End: () => { play(false); go(end); },
  " ": () => play(), Escape: () => { play(false); select(null); }, "/": () => $("#find").focus(), f: fit, t: turn,
  "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
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

const dark = () => document.documentElement.dataset.theme === "dark";
function theme(isDark) {
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  $("#theme").textContent = isDark ? "Light" : "Dark";
}

// -- the start ------------------------------------------------------------------------------------

const on = (id, action) => $(id).addEventListener("click", action);
on("#first", KEYS.Home); on("#prev", () => walk(-1)); on("#play", () => play()); on("#next", () => walk(1)); on("#last", KEYS.End);
on("#turn", turn); on("#in", () => zoom(1.25)); on("#out", () => zoom(0.8)); on("#fit", fit); on("#theme", () => theme(!dark()));
$("#bar").max = end;
$("#bar").addEventListener("input", event => { play(false); go(+event.target.value); if (now()) reveal(now()); });

const preference = matchMedia("(prefers-color-scheme: dark)");
theme(preference.matches);
preference.addEventListener("change", event => theme(event.matches));
let wasDark = false; // paper is white
addEventListener("beforeprint", () => { wasDark = dark(); theme(false); stage.classList.remove("far"); });
addEventListener("afterprint", () => { theme(wasDark); put(); });

$("#depth").append(make("option", {value: "start"}, "as drawn"), ...Array.from({length: deepest}, (_, i) =>
  make("option", {}, String(i + 1))), make("option", {value: "all"}, "all open")); // as depth= counts: 1 is all folded
$(".depth").hidden = !deepest;
let isWarnedOfMany = false;
$("#depth").addEventListener("change", event => {
  const asked = event.target.value, changes = {}, many = Object.keys(N).length;
  if (asked === "all" && many > 1500 && !isWarnedOfMany) {
    isWarnedOfMany = true;
    event.target.value = "start";
    return say(`${counted(many, "card")} take long to draw: choose "all open" once more to have them`);
  }
  const opens = id => asked === "all" || (B[id].is_module !== false && depthOf(id) < +asked);
  for (const id in B) if (!B[id].fixed) changes[id] = asked === "start" ? B[id].open : opens(id);
  setOpen(changes, selected);
  if (selected) reveal(selected); else start();
  show(selected || now());
});

const parameters = Object.values(N).filter(node => node.role === "parameter").reduce((sum, node) => sum + node.size, 0);
$("#sum").textContent = `${counted(Object.keys(N).length, "node")}, ${counted(parameters, "parameter")}`;
layOut();
go(end);
start();
new ResizeObserver(() => { if (!isOwn && step === end && !selected) start(); }).observe(stage);
