"use strict";
// Placing the cards of a picture: layout.py, rows.py, places.py and routes.py once more, step by step, for the
// interactive page, which lays out again when a box is folded. It gets the same numbers: change both together. The
// functions stand in the same order, and what each does stands there.

const at = (array, k) => array[k < 0 ? array.length + k : k];
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const most = (numbers, least) => numbers.reduce((a, b) => Math.max(a, b), least);

// -- layout.py

// sizes, boxes, home, titles and labels are objects by id; edges, an array of [id, source, target]
function arrange(sizes, edges, boxes, home, titles, direction = "TB", labels = null) {
  const isFlat = direction === "LR" || direction === "RL";
  const turned = (given) => new Map(Object.entries(given).map(([id, [w, h]]) => [id, isFlat ? [h, w] : [w, h]]));
  const turnedSizes = turned(sizes), numbers = turned(labels || {});
  const [levels, cards] = tree(turnedSizes, new Map(Object.entries(boxes)), home);
  const arrows = findArrows(edges, cards);
  cut(arrows);
  for (const level of levels) {
    level.hasNumbers = level.arcs.some(([arrow]) => numbers.has(arrow.id) && arrow.level() === level);
    const last = rank(level);
    thread(level, numbers, isFlat);
    order(level, last);
    place(level);
    stack(level);
    surround(level, titles[level.box] ?? [0, 0], direction);
  }
  makeAbsolute(levels);
  const [routes, spots] = findRoutes(levels, arrows, numbers, isFlat);
  const places = new Map([...cards].map(([id, card]) => [id, [card.x, card.y + card.height / 2]]));
  const frames = new Map(levels.filter((level) => level.box !== null).map((level) => [level.box, level.frame]));
  const [, , width, height] = at(levels, -1).frame;
  return directed({width, height, places, frames, routes, spots}, direction);
}

function tree(sizes, boxes, home) {
  const levels = new Map([null, ...boxes.keys()].map((box) => [box, new Level(box)])), cards = new Map();
  for (const [id, [w, h]] of sizes) {
    const level = levels.get(home[id] ?? null);
    cards.set(id, level.add(new Item(id, level, {left: w / 2, right: w / 2, height: h})));
  }
  for (const [box, parent] of boxes) {
    const level = levels.get(box), around = levels.get(parent);
    level.item = around.add(new Item(box, around, {inner: level}));
    for (let step = box; step !== null; step = boxes.get(step)) level.depth += 1;
  }
  return [[...levels.values()].sort((a, b) => b.depth - a.depth), cards];
}

function findArrows(edges, cards) {
  const found = [], pairs = [];
  for (const [edge, source, target] of edges) {
    const arrow = new Arrow(edge, cards.get(source), cards.get(target));
    let a = arrow.upper, b = arrow.lower;
    while (a.home !== b.home) {
      if (a.home.depth >= b.home.depth) {
        arrow.out.push(a.home);
        a = a.home.item;
      } else {
        arrow.into.push(b.home);
        b = b.home.item;
      }
    }
    if (source === target) continue;
    found.push(arrow);
    pairs.push([a, b]);
  }
  const order = numbered(pairs);
  found.forEach((arrow, k) => {
    if (order.get(pairs[k][0]) <= order.get(pairs[k][1])) return;
    [arrow.upper, arrow.lower, arrow.out, arrow.into] = [arrow.lower, arrow.upper, arrow.into, arrow.out];
    arrow.isTurned = true;
  });
  return found;
}

function numbered(pairs) {
  const after = new Map(), finished = new Map(), seen = new Set();
  for (const [a, b] of pairs) {
    for (const item of [a, b]) if (!after.has(item)) after.set(item, []);
    after.get(a).push(b);
  }
  for (const start of after.keys()) {
    const stack = [[start, false]];
    while (stack.length) {
      const [item, isDone] = stack.pop();
      if (isDone) {
        finished.set(item, -finished.size);
      } else if (!seen.has(item)) {
        seen.add(item);
        stack.push([item, true]);
        for (const below of [...after.get(item)].reverse()) stack.push([below, false]);
      }
    }
  }
  return finished;
}

function cut(arrows) {
  const parts = [];
  for (const arrow of arrows) {
    const ends = [];
    for (let [item, crossed] of [[arrow.upper, arrow.out], [arrow.lower, arrow.into]]) {
      for (const level of crossed) {
        parts.push([arrow, level, item, crossed === arrow.out]);
        item = level.item;
      }
      ends.push(item);
    }
    ends[0].home.arcs.push([arrow, ends[0], ends[1]]);
  }
  for (const [arrow, level, item, goesOut] of parts) {
    const port = level.add(new Item("", level));
    level.arcs.push(goesOut ? [arrow, item, port] : [arrow, port, item]);
  }
}

function makeAbsolute(levels) {
  for (const level of [...levels].reverse()) {
    const [left, top, right, bottom] = level.frame, {item} = level;
    const dx = item ? item.x - item.left - left : -left, dy = item ? item.y - top : -top;
    level.frame = [left + dx, top + dy, right + dx, bottom + dy];
    level.title += dx;
    level.tops = level.tops.map((y) => y + dy);
    level.bottoms = level.bottoms.map((y) => y + dy);
    for (const each of level.items) {
      each.x += dx;
      each.y += dy;
    }
  }
}

function directed({width, height, places, frames, routes, spots}, direction) {
  const isFlat = direction === "LR" || direction === "RL", isMirrored = direction === "BT" || direction === "RL";
  const rounded = (x) => Math.round(x * 100) / 100;
  const point = ([x, y]) => {
    const down = isMirrored ? height - y : y;
    return isFlat ? [rounded(down), rounded(x)] : [rounded(x), rounded(down)];
  };
  const frame = ([x0, y0, x1, y1]) => {
    const [ax, ay] = point([x0, y0]), [bx, by] = point([x1, y1]);
    return [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
  };
  const each = (map, change) => Object.fromEntries([...map].map(([id, value]) => [id, change(value)]));
  return {
    width: rounded(isFlat ? height : width), height: rounded(isFlat ? width : height),
    places: each(places, point), frames: each(frames, frame),
    routes: each(routes, (route) => route.map(point)), spots: each(spots, point),
  };
}

// -- rows.py

const NODE_GAP = 15.84, LINE_GAP = 9, THIN = 2;
const PULLS = [1, 0.6, 0.05], LOOSE = 0.0005, LEAF = 0.004;

const placeOf = (pull) => pull.item.place + pull.there / (pull.item.left + pull.item.right);

class Item {
  constructor(id, home, {left = THIN, right = THIN, height = 0, row = 0, inner = null} = {}) {
    Object.assign(this, {id, home, left, right, height, row, place: 0, x: 0, y: 0, low: 0, high: 0});
    Object.assign(this, {ups: [], downs: [], inner, isMark: false, column: []});
  }

  beside(side) {
    return this.home.rows[this.row][this.place + side] ?? null;
  }

  isTall() {
    const {rows, hasNumbers} = this.home;
    return this.row > 0 && this.row < rows.length - 1 && (this.row % 2 === 1 || !hasNumbers);
  }

  isBend() {
    const isLast = [...this.ups, ...this.downs].some((pull) => pull.item.id);
    return isLast && !this.isMark && !this.isTall() && this.row > 0 && this.row < this.home.rows.length - 1;
  }
}

class Level {
  constructor(box) {
    Object.assign(this, {box, depth: 0, item: null, items: [], arcs: [], rows: [], tops: [], bottoms: []});
    Object.assign(this, {frame: [0, 0, 0, 0], title: -Infinity, hasNumbers: false});
  }

  add(item) {
    item.column.push(item);
    this.items.push(item);
    return item;
  }
}

class Arrow {
  constructor(id, upper, lower) {
    Object.assign(this, {id, upper, lower, isTurned: false, out: [], into: []});
    Object.assign(this, {ways: new Map(), weights: new Map(), mark: null});
  }

  level() {
    const crossed = this.out.length ? this.out : this.into;
    return (crossed.length ? at(crossed, -1).item : this.upper).home;
  }

  way() {
    const levels = [...this.out, this.level(), ...[...this.into].reverse()];
    const thin = levels.flatMap((level) => this.ways.get(level).filter((item) => !item.id));
    return [this.upper, ...thin, this.lower];
  }
}

function rank(level) {
  const step = level.hasNumbers ? 2 : 1;
  const above = new Map(level.items.map((item) => [item, 0])), below = new Map(level.items.map((item) => [item, []]));
  for (const [, upper, lower] of level.arcs) {
    above.set(lower, above.get(lower) + 1);
    below.get(upper).push(lower);
  }
  for (const item of level.items) item.row = item.id ? 1 : 0;
  const waits = new Map(above), ready = level.items.filter((item) => !waits.get(item));
  for (const item of ready) {
    for (const other of below.get(item)) {
      other.row = Math.max(other.row, item.id ? item.row + step : 1);
      waits.set(other, waits.get(other) - 1);
      if (!waits.get(other)) ready.push(other);
    }
  }
  const last = most(level.items.filter((item) => item.id).map((item) => item.row), 1) + 1;
  for (const item of ready.reverse()) {
    const lower = below.get(item);
    if (!item.id && above.get(item)) item.row = last;
    else if (item.id && lower.length > above.get(item)) {
      item.row = -most(lower.map((other) => -(other.id ? other.row - step : last - 1)), -Infinity);
    }
  }
  return last;
}

function thread(level, numbers, isFlat) {
  const entered = new Set(level.arcs.map(([, , lower]) => lower));
  const leaves = new Set(level.items.filter((item) => item.id && !entered.has(item)));
  const trunk = new Set(level.arcs.filter(([, upper]) => !leaves.has(upper)).map(([, , lower]) => lower));
  for (const [arrow, upper, lower] of level.arcs) {
    let mark = -1;
    if (numbers.has(arrow.id) && arrow.level() === level) {
      mark = Math.floor((upper.row + lower.row) / 2);
      mark += mark % 2;
    }
    const way = [upper];
    for (let row = upper.row + 1; row < lower.row; row++) {
      const item = level.add(new Item("", level, {row}));
      if (row === mark) {
        const [width, height] = numbers.get(arrow.id);
        item.height = height;
        [item.left, item.right] = isFlat ? [THIN + 2 + width, THIN + 2] : [THIN + 2, THIN + 2 + width];
        item.isMark = true;
        arrow.mark = item;
      }
      way.push(item);
    }
    way.push(lower);
    const passed = Math.floor((way.length - 2) / (level.hasNumbers ? 2 : 1));
    let weight = leaves.has(upper) && trunk.has(lower) ? LEAF : PULLS[Math.min(passed, 2)];
    const where = new Map();
    for (const [item, end] of [[upper, -1], [lower, 0]]) {
      if (!item.inner) continue;
      const [left, , right] = item.inner.frame;
      where.set(item, at(arrow.ways.get(item.inner), end).x - (left + right) / 2);
      weight = Math.min(weight, arrow.weights.get(item.inner));
    }
    arrow.ways.set(level, way);
    arrow.weights.set(level, weight);
    for (let k = 0; k + 1 < way.length; k++) {
      const a = way[k], b = way[k + 1], atA = where.get(a) ?? 0, atB = where.get(b) ?? 0;
      const pull = weight === PULLS[2] && [a, b].some((end) => end.id && !end.inner) ? LOOSE : weight;
      a.downs.push({item: b, there: atB, here: atA, weight: pull});
      b.ups.push({item: a, there: atA, here: atB, weight: pull});
    }
  }
}

function order(level, last) {
  const patience = level.items.length < 5000 ? 4 : 1;
  let best = [], fewest = Infinity;
  for (const [isUp, isMirrored] of [[true, false], [false, false], [true, true], [false, true]]) {
    const rows = walked(level.items, last, isUp, isMirrored);
    number(rows);
    let failures = 0, turn = 0;
    while (fewest && failures <= patience) {
      const crossings = countCrossings(rows);
      failures += 1;
      if (crossings < fewest) {
        best = rows.map((row) => [...row]);
        fewest = crossings;
        failures = 0;
      }
      sweep(turn % 2 ? [...rows].reverse() : rows, turn % 2 === 1);
      swap(rows);
      turn += 1;
    }
  }
  const even = balanced(best);
  level.rows = countCrossings(number(even)) <= countCrossings(number(best)) ? even : best;
  const mirrored = level.rows.map((row) => [...row].reverse());
  if (leansRight(mirrored) && countCrossings(number(mirrored)) <= fewest) level.rows = mirrored;
  number(level.rows);
}

function leansRight(rows) {
  let lean = 0;
  for (const row of rows) {
    if (!row.some((item) => item.id)) continue;
    row.forEach((item, k) => {
      lean += item.id ? 0 : k - (row.length - 1) / 2;
    });
  }
  return lean > 0;
}

function walked(items, last, isUp, isMirrored) {
  const rows = Array.from({length: last + 1}, () => []), seen = new Set();
  const isEnd = (item) => !(isUp ? item.downs : item.ups).length;
  for (const start of [...items.filter(isEnd), ...items.filter((item) => !isEnd(item))]) {
    const waiting = [start];
    while (waiting.length) {
      const item = waiting.pop();
      if (seen.has(item)) continue;
      seen.add(item);
      rows[item.row].push(item);
      const next = (isUp ? item.ups : item.downs).map((pull) => pull.item);
      for (const other of isMirrored ? next : next.reverse()) waiting.push(other);
    }
  }
  return rows;
}

function number(rows) {
  for (const row of rows) row.forEach((item, k) => { item.place = k; });
  return rows;
}

// how many of the sorted numbers are below x, or not above it
function bisect(sorted, x, orEqual) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < x || (orEqual && sorted[middle] === x)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function countCrossings(rows) {
  let total = 0;
  for (const row of rows) {
    const seen = [], ends = [];
    for (const item of row) {
      for (const pull of item.ups) ends.push([placeOf(pull), item.place + pull.here / (item.left + item.right)]);
    }
    for (const [, end] of ends.sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
      const k = bisect(seen, end, true);
      total += seen.length - k;
      seen.splice(k, 0, end);
    }
  }
  return total;
}

function sweep(rows, isUp) {
  for (const row of rows) {
    const key = new Map();
    for (const item of row) {
      const pulls = isUp ? item.downs : item.ups;
      let mean = 0;
      for (const pull of pulls) mean += placeOf(pull) / pulls.length;
      key.set(item, pulls.length ? mean : item.place);
    }
    row.sort((a, b) => key.get(a) - key.get(b));
    number([row]);
  }
}

function swap(rows) {
  for (const row of rows) {
    const ends = row.map((item) => [item.ups, item.downs].map((side) => side.map(placeOf).sort((a, b) => a - b)));
    for (let k = 0; k + 1 < row.length; k++) {
      let gain = 0;
      for (const side of [0, 1]) {
        const b = ends[k + 1][side];
        for (const end of ends[k][side]) gain += bisect(b, end, false) - b.length + bisect(b, end, true);
      }
      if (gain > 0) {
        [row[k], row[k + 1]] = [row[k + 1], row[k]];
        [ends[k], ends[k + 1]] = [ends[k + 1], ends[k]];
      }
    }
    number([row]);
  }
}

function balanced(rows) {
  const found = [];
  for (let row of rows) {
    if (found.length && row.every((item) => item.ups.length === 1)) {
      const places = new Map(at(found, -1).map((item, k) => [item, k])), key = (item) => places.get(item.ups[0].item);
      row = [...row].sort((a, b) => key(a) - key(b));
    }
    const runs = [];
    let before;
    for (const item of row) {
      const target = targetOf(item);
      if (!runs.length || target !== before) runs.push({target, items: []});
      at(runs, -1).items.push(item);
      before = target;
    }
    found.push(runs.flatMap(({target, items}) => {
      const isLeaf = (item) => target && !item.ups.length;
      const leaves = items.filter(isLeaf), others = items.filter((item) => !isLeaf(item));
      const half = others.length ? Math.floor(leaves.length / 2) : 0;
      return [...leaves.slice(0, half), ...others, ...leaves.slice(half)];
    }));
  }
  return found;
}

function targetOf(item) {
  for (let n = 0; n < 2; n++) {
    if (item.downs.length !== 1) return null;
    item = item.downs[0].item;
    if (item.ups.length > 1) break;
  }
  return item;
}

// -- places.py

const ROW_GAP = 21.6, MARGIN = 9, TITLE_SHIFT = 40, STAY = 0.0002;

function place(level) {
  const {rows} = level, upwards = [...rows].reverse();
  for (const row of rows) {
    let x = 0;
    row.forEach((item, k) => {
      x += k ? gapOf(row[k - 1], item) : 0;
      item.x = x;
    });
    for (const item of row) item.x -= x / 2;
  }
  for (let n = 0; n < 6; n++) {
    for (const row of rows) settle(row, true, n > 3);
    for (const row of upwards) settle(row, n > 3, true);
  }
  if (!joinColumns(level)) return;
  straighten(level);
  for (const some of [rows, upwards, rows, upwards]) for (const row of some) settle(row, true, true);
}

function gapOf(a, b, side = -1) {
  const room = side < 0 ? a.right + b.left : a.left + b.right;
  return room + [2 * THIN, LINE_GAP, NODE_GAP][(a.id ? 1 : 0) + (b.id ? 1 : 0)];
}

function settle(row, ups, downs) {
  const wants = [], weights = [], gaps = [];
  row.forEach((item, k) => {
    let weight = STAY, pull = STAY * item.x;
    for (const side of [ups ? item.column[0].ups : [], downs ? at(item.column, -1).downs : []]) {
      for (const p of side) {
        weight += p.weight;
        pull += p.weight * (p.item.x + p.there - p.here);
      }
    }
    wants.push(pull / weight);
    weights.push(weight);
    gaps.push(k ? gapOf(row[k - 1], item) : 0);
  });
  let xs = row.length > 1 ? apart(wants, weights, gaps) : wants;
  if (row.some((item) => item.column.length > 1)) xs = limited(row, xs, gaps);
  row.forEach((item, k) => {
    for (const other of item.column) other.x = xs[k];
  });
}

function limited(row, xs, gaps) {
  const limits = (item, side) => item.column.filter((other) => other !== item).map((other) => limit(other, side));
  const lows = row.map((item) => Math.max(-Infinity, ...limits(item, -1)));
  const highs = row.map((item) => Math.min(Infinity, ...limits(item, 1)));
  for (let k = 1; k < row.length; k++) lows[k] = Math.max(lows[k], lows[k - 1] + gaps[k]);
  for (let k = row.length - 1; k > 0; k--) highs[k - 1] = Math.min(highs[k - 1], highs[k] - gaps[k]);
  return xs.map((x, k) => clamp(x, lows[k], highs[k]));
}

function limit(item, side) {
  const other = item.beside(side);
  return other ? other.x - side * gapOf(other, item, side) : side * Infinity;
}

function joinColumns(level) {
  let found = false;
  for (const row of level.rows) {
    let furthest = -1;
    for (const item of row) {
      const below = !item.id && item.downs.length ? item.downs[0].item : item;
      if (below === item || below.id || below.place < furthest || item.isBend() || below.isBend()) continue;
      furthest = below.place;
      item.column.push(below);
      below.column = item.column;
      found = true;
    }
  }
  return found;
}

function straighten(level) {
  const firsts = level.items.filter((item) => item.column[0] === item);
  const [lows, highs] = [1, -1].map(
    (side) => pushed(new Map(firsts.map((first) => [first, first.id ? first.x : -side * Infinity])), side));
  const wants = new Map();
  for (const first of firsts) {
    const low = lows.get(first), high = highs.get(first), pulls = [...first.ups, ...at(first.column, -1).downs];
    let want = pulls.length ? 0 : first.x;
    for (const {item, there, here} of pulls) want += (item.x + there - here) / pulls.length;
    wants.set(first, low <= high ? clamp(want, low, high) : (low + high) / 2);
  }
  const right = pushed(new Map(wants), 1), left = pushed(wants, -1);
  for (const item of level.items) item.x = (left.get(item.column[0]) + right.get(item.column[0])) / 2;
}

function pushed(xs, side) {
  const waits = new Map(), ready = [];
  for (const first of xs.keys()) {
    waits.set(first, first.column.filter((item) => item.beside(-side)).length);
    if (!waits.get(first)) ready.push(first);
  }
  for (const first of ready) {
    for (const item of first.column) {
      const other = item.beside(side);
      if (!other) continue;
      const moved = other.column[0];
      xs.set(moved, side * Math.max(side * xs.get(moved), side * xs.get(first) + gapOf(item, other, -side)));
      waits.set(moved, waits.get(moved) - 1);
      if (!waits.get(moved)) ready.push(moved);
    }
  }
  return xs;
}

function apart(wants, weights, gaps) {
  const blocks = [], offsets = [], found = [];
  let offset = 0;
  wants.forEach((want, k) => {
    offset += gaps[k];
    offsets.push(offset);
    let block = [weights[k], weights[k] * (want - offset), 1];
    while (blocks.length && at(blocks, -1)[1] / at(blocks, -1)[0] >= block[1] / block[0]) {
      const last = blocks.pop();
      block = [last[0] + block[0], last[1] + block[1], last[2] + block[2]];
    }
    blocks.push(block);
  });
  for (const [weight, total, size] of blocks) {
    for (let n = 0; n < size; n++) found.push(total / weight + offsets[found.length]);
  }
  return found;
}

function stack(level) {
  const last = level.rows.length - 1;
  let y = 0;
  level.rows.forEach((row, r) => {
    const height = most(row.map((item) => item.height), 0);
    let slant = 0;
    level.tops.push(y);
    level.bottoms.push(y + height);
    for (const item of row) {
      const room = height - item.height;
      item.y = y + (!item.ups.length ? room : !item.downs.length ? 0 : room / 2);
      for (const p of item.downs) slant = Math.max(slant, Math.abs(p.item.x + p.there - item.x - p.here));
    }
    y += height + (r === 0 || r === last - 1 ? MARGIN : ROW_GAP / (level.hasNumbers ? 2 : 1));
    y += Math.min(Math.max(slant - 50, 0) * 0.1, ROW_GAP);
  });
}

function surround(level, [width, height], direction) {
  const {items, tops, bottoms, rows} = level, last = rows.length - 1;
  let low = items.length ? -most(items.map((item) => item.left - item.x), -Infinity) : 0;
  let high = items.length ? most(items.map((item) => item.x + item.right), -Infinity) : 0;
  if (!level.item) {
    level.frame = [low, tops[1], high, Math.max(tops[1], at(bottoms, -2))];
    return;
  }
  if (direction === "LR" || direction === "RL") {
    bottoms[last] = Math.max(bottoms[last], tops[0] + width + 2 * MARGIN);
    low -= height;
  } else {
    if (direction === "TB") tops[0] -= height;
    else bottoms[last] += height;
    const ports = rows[direction === "TB" ? 0 : last];
    const short = ports.length ? low + width + LINE_GAP - ports[0].x : 0;
    low -= short > 0 && short < TITLE_SHIFT ? short : 0;
    let edge = low + width;
    level.title = edge;
    for (const port of ports) {
      port.x = Math.max(port.x, edge + LINE_GAP);
      edge = port.x;
    }
    high = Math.max(high, edge + THIN);
  }
  level.frame = [low - MARGIN, tops[0], high + MARGIN, bottoms[last]];
  level.item.left = level.item.right = (level.frame[2] - level.frame[0]) / 2;
  level.item.height = level.frame[3] - level.frame[1];
}

// -- routes.py

const NEAR = 3, APART = 12, AIM = 0.4, LONG = 40, STEEP = 0.6, BENDS = [1, 0.6, 0.3];

function findRoutes(levels, arrows, numbers, isFlat) {
  for (const level of levels) openGates(level);
  const [starts, ends] = findEnds(arrows), found = new Map(), spots = new Map();
  arrows.forEach((arrow, n) => {
    const [all, gates] = wayOf(arrow, starts[n], ends[n]), knots = calm(all, gates), route = [starts[n]];
    for (let k = 0; k + 1 < knots.length; k++) route.push(...pieceOf(knots, k).slice(1));
    found.set(arrow.id, arrow.isTurned ? route.reverse() : route);
    if (!numbers.has(arrow.id)) return;
    const [width, height] = numbers.get(arrow.id), {mark} = arrow, side = isFlat ? -1 : 1;
    const y = mark.y + mark.height / 2, xs = [-1, 0, 1].map((step) => side * xAt(knots, y + (step * height) / 2));
    const x = Math.min(Math.max(...xs), side * (isFlat ? mark.low : mark.high));
    spots.set(arrow.id, [side * (x + width / 2 + THIN + 2), y]);
  });
  return [found, spots];
}

function openGates(level) {
  const [left, , right] = level.frame, last = level.rows.length - 1;
  level.rows.forEach((row, r) => {
    const isBesideTitle = level.title > left && level.bottoms[r] - level.tops[r] > 0 && (r === 0 || r === last);
    let edge = isBesideTitle ? level.title + LINE_GAP : left + MARGIN / 2;
    row.forEach((item, k) => {
      item.low = edge;
      edge = right - MARGIN / 2;
      if (k < row.length - 1) {
        const after = row[k + 1], a = item.x + item.right, b = after.x - after.left;
        edge = (a + b) / 2;
        if (Boolean(item.id) !== Boolean(after.id)) edge = item.id ? a + LINE_GAP : b - LINE_GAP;
      }
      item.high = edge;
      if (!item.id) {
        item.low += item.left;
        item.high -= item.right;
      }
    });
    if (r === 0 || r === last || row.some((item) => item.id)) return;
    for (let k = 0; k + 1 < row.length; k++) if (!row[k].isMark && !row[k + 1].isMark) row[k + 1].low = row[k].low;
    for (let k = row.length - 1; k > 0; k--) if (!row[k].isMark && !row[k - 1].isMark) row[k - 1].high = row[k].high;
  });
}

function findEnds(arrows) {
  return [1, -1].map((side) => {
    const points = [], groups = new Map();
    arrows.forEach((arrow, k) => {
      const [card, other] = side > 0 ? [arrow.upper, arrow.lower] : [arrow.lower, arrow.upper];
      const way = side > 0 ? arrow.way() : arrow.way().reverse();
      const lane = way.slice(1, -1).find((item) => item.isTall());
      const aim = lane ? lane.x : card.x + AIM * (other.x - card.x);
      if (!groups.has(card)) groups.set(card, []);
      groups.get(card).push([way[1].x, k, aim]);
    });
    for (const [card, group] of groups) {
      group.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
      const half = Math.max((card.left + card.right) / 2 - 10, (card.left + card.right) / 4);
      const gap = Math.min(APART, (2 * half) / group.length);
      const xs = apart(group.map(([, , aim]) => aim), group.map(() => 1), group.map(() => gap));
      group.forEach(([, k], n) => {
        const x = clamp(xs[n], card.x - half + n * gap, card.x + half - (group.length - 1 - n) * gap);
        points[k] = [x, card.y + (side > 0 ? card.height : 0)];
      });
    }
    return points;
  });
}

function wayOf(arrow, start, end) {
  const {upper, lower} = arrow, top = upper.home.bottoms[upper.row], bottom = lower.home.tops[lower.row];
  const knots = [start, [start[0], top]], gates = [[top, upper.low, upper.high]];
  for (const item of arrow.way().slice(1, -1)) {
    const a = item.home.tops[item.row], b = item.home.bottoms[item.row];
    for (const y of item.isTall() ? [a, b] : [(a + b) / 2]) knots.push([item.x, y]);
    for (const y of [a, (a + b) / 2, b]) gates.push([y, item.low, item.high]);
  }
  return [[...knots, [end[0], bottom], end], [...gates, [bottom, lower.low, lower.high]]];
}

function calm(knots, gates) {
  const direct = [knots[0], at(knots, -1)];
  if (fits(direct, 0, 1, gates)) return direct;
  knots = [...knots];
  for (let k = 1; k < knots.length - 1;) {
    const [[ax, ay], [bx, by], [cx, cy]] = knots.slice(k - 1, k + 2);
    const isStraight = (ax === bx && by - ay > LONG) || (bx === cx && cy - by > LONG);
    const fewer = [...knots.slice(0, k), ...knots.slice(k + 1)];
    if ((ax === bx && bx === cx) || by === ay || (!isStraight && fits(fewer, k - 2, k + 1, gates))) {
      knots = fewer;
      k = Math.max(k - 1, 1);
    } else {
      k += 1;
    }
  }
  for (let k = 1; k < knots.length - 1; k++) {
    const [[ax, ay], [bx, by], [cx, cy]] = knots.slice(k - 1, k + 2);
    const before = bendRoom(bx - ax), after = bendRoom(cx - bx);
    for (const bend of BENDS) {
      let y = by;
      if (bx === cx && by - ay < before) y += bend * Math.min(before - (by - ay), 0.4 * (cy - by));
      else if (ax === bx && cy - by < after) y -= bend * Math.min(after - (cy - by), 0.4 * (by - ay));
      else break;
      const moved = [...knots.slice(0, k), [bx, y], ...knots.slice(k + 1)];
      if (fits(moved, k - 2, k + 2, gates)) {
        knots = moved;
        break;
      }
    }
  }
  return knots;
}

const bendRoom = (aside) => Math.min(40 + 0.4 * Math.abs(aside), 160);

function fits(knots, first, last, gates) {
  for (let k = Math.max(first, 0); k < Math.min(last, knots.length - 1); k++) {
    const piece = pieceOf(knots, k), from = knots[k][1], to = knots[k + 1][1];
    for (const [y, least, greatest] of gates) {
      if (y < from || y >= to) continue;
      const x = xOn(piece, y);
      if (x < least - NEAR || x > greatest + NEAR) return false;
    }
  }
  return true;
}

function slopeAt(knots, k) {
  const near = knots.slice(Math.max(k - 1, 0), k + 2), steps = [];
  for (let j = 0; j + 1 < near.length; j++) {
    const [ax, ay] = near[j], [bx, by] = near[j + 1];
    steps.push(by > ay ? (bx - ax) / (by - ay) : 0);
  }
  const [a, b] = steps;
  if (k > 0 && k < knots.length - 1) return a * b > 0 ? (2 * a * b) / (a + b) : 0;
  return knots.length === 2 ? a : STEEP * a;
}

function pieceOf(knots, k) {
  const [[ax, ay], [bx, by]] = knots.slice(k, k + 2), third = (by - ay) / 3;
  return [
    [ax, ay], [ax + third * slopeAt(knots, k), ay + third], [bx - third * slopeAt(knots, k + 1), by - third], [bx, by],
  ];
}

function xAt(knots, y) {
  const k = bisect(knots.map((knot) => knot[1]), y, true) - 1;
  return xOn(pieceOf(knots, clamp(k, 0, knots.length - 2)), y);
}

function xOn([[a, top], [b], [c], [d, bottom]], y) {
  const t = bottom > top ? clamp((y - top) / (bottom - top), 0, 1) : 0, s = 1 - t;
  return s * s * s * a + 3 * s * s * t * b + 3 * s * t * t * c + t * t * t * d;
}
