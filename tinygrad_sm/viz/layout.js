"use strict";
// Placing the cards of a picture: layout.py once more, step by step, for the interactive page, which lays out again
// when a box is folded. It gets the same numbers: change both together. What each function does stands in layout.py.

const NODE_GAP = 15.84, ROW_GAP = 21.6, MARGIN = 9, LINE_GAP = 9, THIN = 2, CLEAR = 9, BULGE = 6;
const REACH = 90, BENDS = [0.38, 0.25, 0.16, 0.08], AIM = [0.4, 0.75], APART = 12;
const TOLERANCE = 0.5, FAR = 1000, PASSES = 2, WIDE = 300;
const SHORT = 1, MIDDLE = 0.6, LONG = 0.05, LEAF = 0.004, FREE = 0.0002;

// sizes, boxes, home, titles and labels are objects by id; edges, an array of [id, source, target]
function arrange(sizes, edges, boxes, home, titles, direction = "TB", labels = null) {
  const isFlat = direction === "LR" || direction === "RL";
  const turned = turnedSizes(sizes, isFlat), numbers = turnedSizes(labels || {}, isFlat);
  const given = {
    sizes: turned, boxes: new Map(Object.entries(boxes)), home, titles, direction, numbers, isFlat,
  };
  given.depth = depths(given.boxes);
  const chains = findChains(edges, given);
  let wishes = new Map(), best = null;
  for (let pass = 0; pass < PASSES; pass++) {
    const layout = layOutAll(chains, given, wishes);
    if (best === null || layout.crossings < best.crossings) best = layout;
    wishes = best.crossings ? findWishes(chains, layout) : new Map();
    if (!wishes.size) break;
  }
  const [routes, spots] = findRoutes(chains, best, given);
  const [x0, y0, x1, y1] = best.levels.get(null).frame;
  return directed({width: x1 - x0, height: y1 - y0, places: best.places, frames: best.frames, routes, spots}, direction);
}

const at = (array, k) => array[k < 0 ? array.length + k : k];

function turnedSizes(sizes, isFlat) {
  return new Map(Object.entries(sizes).map(([id, [w, h]]) => [id, isFlat ? [h, w] : [w, h]]));
}

function newLevel() {
  return {
    items: [], left: [], right: [], height: [], row: [], x: [], y: [], low: [], high: [], ups: [], downs: [],
    rows: [], tops: [], bottoms: [], ways: new Map(), weights: new Map(), marks: new Map(), frame: [0, 0, 0, 0],
  };
}

function addItem(level, id, left, right, height, row) {
  level.left.push(left);
  level.right.push(right);
  level.height.push(height);
  for (const values of [level.x, level.y, level.low, level.high]) values.push(0);
  level.items.push(id);
  level.row.push(row);
  level.ups.push([]);
  level.downs.push([]);
  return level.items.length - 1;
}

function layOutAll(chains, given, wishes) {
  const {boxes, depth} = given;
  const levels = new Map([[null, newLevel()]]), number = new Map();
  for (const box of boxes.keys()) levels.set(box, newLevel());
  for (const [id, [w, h]] of given.sizes) {
    number.set(id, addItem(levels.get(given.home[id] ?? null), id, w / 2, w / 2, h, 1));
  }
  for (const [id, parent] of boxes) number.set(id, addItem(levels.get(parent), id, 0, 0, 0, 1));
  const arcs = findArcs(chains, number, levels, wishes);
  let crossings = 0;
  for (const box of [...[...boxes.keys()].sort((a, b) => depth.get(b) - depth.get(a)), null]) {
    const level = levels.get(box);
    crossings += layOut(level, arcs.get(box), levels, given, wishes.size > 0);
    if (box === null) {
      const [low, high] = extent(level), top = level.tops[1];
      level.frame = [low, top, high, Math.max(top, at(level.bottoms, -2))];
      openGates(level, 0, 0);
    } else {
      surround(level, given.titles[box] ?? [0, 0], given.direction);
      const around = levels.get(boxes.get(box)), i = number.get(box);
      around.left[i] = around.right[i] = (level.frame[2] - level.frame[0]) / 2;
      around.height[i] = level.frame[3] - level.frame[1];
    }
  }
  return {levels, crossings, ...absolute(levels, given, number)};
}

const wishKey = (box, edge) => JSON.stringify([box, edge]);

function findWishes(chains, layout) {
  const wishes = new Map();
  for (const chain of chains) {
    [chain.out, chain.into].forEach((crossed, side) => {
      crossed.forEach((box, k) => {
        const around = k + 1 < crossed.length ? crossed[k + 1] : chain.level, level = layout.levels.get(around);
        const step = Math.min(level.marks.size ? 2 : 1, level.ways.get(chain.edge).length - 1);
        wishes.set(wishKey(box, chain.edge), xOf(chain, side, around, side ? -1 - step : step, layout));
      });
    });
  }
  return wishes;
}

function xOf(chain, side, box, step, layout) {
  let item = at(layout.levels.get(box).ways.get(chain.edge), step);
  const inner = layout.levels.get(box).items[item];
  if (layout.levels.has(inner)) {
    box = inner;
    item = at(layout.levels.get(inner).ways.get(chain.edge), side ? -1 : 0);
  }
  return Math.round((layout.levels.get(box).x[item] + layout.shifts.get(box)[0]) * 1000) / 1000;
}

// -- which item is where in the tree of boxes

function depths(boxes) {
  const depth = new Map();
  for (const box of boxes.keys()) {
    const chain = [];
    for (let step = box; step !== null && !depth.has(step); step = boxes.get(step)) chain.push(step);
    for (const inner of chain.reverse()) {
      const above = boxes.get(inner);
      depth.set(inner, above === null ? 1 : depth.get(above) + 1);
    }
  }
  return depth;
}

function findChains(edges, {boxes, home, depth}) {
  const found = [], between = new Map(), order = new Map();
  for (const [edge, source, target] of edges) {
    const out = [], into = [];
    let a = home[source] ?? null, b = home[target] ?? null;
    while (a !== b) {
      if (b === null || (a !== null && depth.get(a) >= depth.get(b))) {
        out.push(a);
        a = boxes.get(a);
      } else {
        into.push(b);
        b = boxes.get(b);
      }
    }
    if (source === target) continue;
    const upper = out.length ? at(out, -1) : source, lower = into.length ? at(into, -1) : target;
    found.push({edge, upper: source, lower: target, out, into, level: a, isTurned: false, ends: [upper, lower]});
    if (!between.has(a)) between.set(a, []);
    between.get(a).push([upper, lower]);
  }
  for (const pairs of between.values()) for (const [item, rank] of numbered(pairs)) order.set(item, rank);
  return found.map((chain) => {
    const {edge, upper, lower, out, into, level, ends} = chain;
    if (order.get(ends[0]) <= order.get(ends[1])) return chain;
    return {edge, upper: lower, lower: upper, out: into, into: out, level, isTurned: true};
  });
}

function numbered(pairs) {
  const after = new Map(), finished = [], seen = new Set();
  for (const [a, b] of pairs) {
    if (!after.has(a)) after.set(a, []);
    after.get(a).push(b);
    if (!after.has(b)) after.set(b, []);
  }
  for (const start of after.keys()) {
    if (seen.has(start)) continue;
    seen.add(start);
    const stack = [[start, 0]];
    while (stack.length) {
      const [item, k] = stack.pop();
      if (k === after.get(item).length) {
        finished.push(item);
        continue;
      }
      stack.push([item, k + 1]);
      const below = after.get(item)[k];
      if (!seen.has(below)) {
        seen.add(below);
        stack.push([below, 0]);
      }
    }
  }
  return finished.map((item, n) => [item, finished.length - n]);
}

function findArcs(chains, number, levels, wishes) {
  const arcs = new Map([...levels.keys()].map((box) => [box, []])), parts = [];
  const part = (box, edge, item, goesOut) => parts.push({box, edge, item, goesOut, at: wishes.get(wishKey(box, edge)) ?? 0});
  for (const chain of chains) {
    let inner = chain.upper;
    for (const box of chain.out) {
      part(box, chain.edge, number.get(inner), true);
      inner = box;
    }
    const upper = inner;
    inner = chain.lower;
    for (const box of chain.into) {
      part(box, chain.edge, number.get(inner), false);
      inner = box;
    }
    arcs.get(chain.level).push({edge: chain.edge, upper: number.get(upper), lower: number.get(inner), isInner: true});
  }
  for (const {box, edge, item, goesOut} of parts.sort((a, b) => a.at - b.at)) {
    const port = addItem(levels.get(box), "", THIN, THIN, 0, 0);
    arcs.get(box).push({edge, upper: goesOut ? item : port, lower: goesOut ? port : item, isInner: false});
  }
  return arcs;
}

// -- one box

function layOut(level, arcs, levels, given, portsAreFixed) {
  const hasNumbers = arcs.some((arc) => arc.isInner && given.numbers.has(arc.edge));
  let last = rankItems(level, arcs);
  if (hasNumbers) {
    level.row = level.row.map((row) => (row ? 2 * row - 1 - (row === last ? 1 : 0) : 0));
    last = 2 * last - 2;
  }
  thread(level, arcs, levels, given, hasNumbers);
  const [rows, crossings] = findOrder(level, last, portsAreFixed);
  level.rows = rows;
  placeItems(level);
  stackRows(level, hasNumbers);
  return crossings;
}

function rankItems(level, arcs) {
  const n = level.items.length, above = level.items.map(() => []), below = level.items.map(() => []);
  for (const arc of arcs) {
    above[arc.lower].push(arc.upper);
    below[arc.upper].push(arc.lower);
  }
  let row = level.items.map((id) => (id ? 1 : 0)), last = 1;
  const waits = above.map((items) => items.length), ready = [];
  for (let i = 0; i < n; i++) if (!waits[i]) ready.push(i);
  for (const i of ready) {
    for (const j of below[i]) {
      row[j] = Math.max(row[j], row[i] + 1);
      waits[j] -= 1;
      if (!waits[j]) ready.push(j);
    }
  }
  for (let i = 0; i < n; i++) if (level.items[i]) last = Math.max(last, row[i] + 1);
  for (const i of ready.reverse()) {
    if (!level.items[i] && above[i].length) row[i] = last;
    else if (level.items[i] && below[i].length > above[i].length) {
      let first = Infinity;
      for (const j of below[i]) first = Math.min(first, row[j]);
      row[i] = first - 1;
    }
  }
  const wide = new Set();
  for (let i = 0; i < n; i++) if (level.items[i] && level.left[i] + level.right[i] > WIDE) wide.add(row[i]);
  if (wide.size) {
    const doubled = row.map((r, i) => 2 * r + (wide.has(r) && !above[i].length && below[i].length ? 1 : 0));
    const used = [...new Set([0, 2 * last, ...doubled])].sort((a, b) => a - b);
    const rank = new Map(used.map((r, k) => [r, k]));
    row = doubled.map((r) => rank.get(r));
    last = rank.get(2 * last);
  }
  level.row = row;
  return last;
}

function thread(level, arcs, levels, {numbers, isFlat}, hasNumbers) {
  const isLeaf = level.items.map((id) => Boolean(id));
  for (const arc of arcs) isLeaf[arc.lower] = false;
  const hasTrunk = level.items.map(() => false);
  for (const arc of arcs) if (!isLeaf[arc.upper]) hasTrunk[arc.lower] = true;
  for (const arc of arcs) {
    const first = level.row[arc.upper], last = level.row[arc.lower], way = [arc.upper];
    let mark = arc.isInner && numbers.has(arc.edge) ? Math.floor((first + last) / 2) : -1;
    if (mark > 0) mark += mark % 2;
    for (let row = first + 1; row < last; row++) {
      if (row === mark) {
        const [width, height] = numbers.get(arc.edge), wide = width + THIN + 2, thin = THIN + 2;
        level.marks.set(arc.edge, addItem(level, "", isFlat ? wide : thin, isFlat ? thin : wide, height, row));
        way.push(level.marks.get(arc.edge));
      } else {
        way.push(addItem(level, "", THIN, THIN, 0, row));
      }
    }
    way.push(arc.lower);
    level.ways.set(arc.edge, way);
    const passed = Math.floor((way.length - 2) / (hasNumbers ? 2 : 1));
    const own = isLeaf[arc.upper] && hasTrunk[arc.lower] ? LEAF : [SHORT, MIDDLE, LONG][Math.min(passed, 2)];
    const [starts, less] = portOf(level, arc.upper, arc.edge, levels, -1, own);
    const [ends, weight] = portOf(level, arc.lower, arc.edge, levels, 0, less);
    level.weights.set(arc.edge, weight);
    for (let k = 0; k + 1 < way.length; k++) {
      const a = way[k], b = way[k + 1], atA = k === 0 ? starts : 0, atB = k === way.length - 2 ? ends : 0;
      level.downs[a].push({item: b, there: atB, here: atA, weight});
      level.ups[b].push({item: a, there: atA, here: atB, weight});
    }
  }
}

function portOf(level, i, edge, levels, end, weight) {
  const inner = levels.get(level.items[i]);
  if (inner === undefined) return [0, weight];
  const middle = (inner.frame[0] + inner.frame[2]) / 2;
  return [inner.x[at(inner.ways.get(edge), end)] - middle, Math.min(weight, inner.weights.get(edge))];
}

// -- the order in each row

function findOrder(level, last, portsAreFixed) {
  const widths = level.left.map((left, i) => left + level.right[i] || 1);
  const ends = (side) => side.map((pulls) => pulls.map((p) => [p.item, p.there / widths[p.item]]));
  const above = ends(level.ups), below = ends(level.downs), patience = widths.length < 5000 ? 4 : 1;
  const place = widths.map(() => 0);
  let best = [], fewest = Infinity;
  for (const [onward, back] of [[above, below], [below, above]]) {
    const rows = walked(level.row, last, onward, back);
    if (portsAreFixed) for (const row of [rows[0], at(rows, -1)]) row.sort((a, b) => a - b);
    numberRows(rows, place);
    let failures = 0, turn = 0;
    while (fewest && failures <= patience) {
      const crossings = countCrossings(rows, place, above);
      failures += 1;
      if (crossings < fewest) {
        best = rows.map((row) => [...row]);
        fewest = crossings;
        failures = 0;
      }
      const free = portsAreFixed ? rows.slice(1, -1) : rows;
      sweep(turn % 2 ? free.slice().reverse() : free, place, turn % 2 ? below : above);
      swap(free, place, above, below);
      turn += 1;
    }
  }
  const even = balanced(best, above, below);
  numberRows(even, place);
  if (countCrossings(even, place, above) <= fewest) best = even;
  let lean = 0;
  for (const row of best[0].length ? best : []) {
    if (!row.some((i) => level.items[i])) continue;
    row.forEach((i, k) => {
      lean += level.items[i] ? 0 : k - (row.length - 1) / 2;
    });
  }
  const mirrored = best.map((row) => [...row].reverse());
  numberRows(mirrored, place);
  if (lean < 0 && !portsAreFixed && countCrossings(mirrored, place, above) <= fewest) best = mirrored;
  return [best, fewest];
}

function balanced(rows, above, below) {
  const found = [];
  let place = new Map();
  rows.forEach((row, r) => {
    if (r > 0 && r < rows.length - 1 && row.every((i) => above[i].length === 1)) {
      row = [...row].sort((a, b) => place.get(above[a][0][0]) - place.get(above[b][0][0]));
    }
    const order = [];
    let run = [], target = -1;
    for (const i of [...row, -1]) {
      const to = i >= 0 ? targetOf(i, above, below) : -1;
      if (to < 0 || to !== target) {
        const leaves = run.filter((j) => !above[j].length);
        const half = leaves.length < run.length ? Math.floor(leaves.length / 2) : 0;
        order.push(...leaves.slice(0, half), ...run.filter((j) => above[j].length), ...leaves.slice(half));
        run = [];
        target = to;
      }
      if (i >= 0) run.push(i);
    }
    place = new Map(order.map((i, k) => [i, k]));
    found.push(order);
  });
  return found;
}

function targetOf(i, above, below) {
  for (let n = 0; n < 2; n++) {
    if (below[i].length !== 1) return -1;
    i = below[i][0][0];
    if (above[i].length > 1) return i;
  }
  return i;
}

function walked(row, last, onward, back) {
  const rows = Array.from({length: last + 1}, () => []), seen = row.map(() => false);
  const all = [...row.keys()];
  for (const start of [...all.filter((i) => !back[i].length), ...all.filter((i) => back[i].length)]) {
    const stack = [start];
    while (stack.length) {
      const i = stack.pop();
      if (seen[i]) continue;
      seen[i] = true;
      rows[row[i]].push(i);
      for (let k = onward[i].length - 1; k >= 0; k--) stack.push(onward[i][k][0]);
    }
  }
  return rows;
}

function numberRows(rows, place) {
  for (const row of rows) row.forEach((i, k) => { place[i] = k; });
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

function countCrossings(rows, place, above) {
  let total = 0;
  for (const row of rows.slice(1)) {
    const seen = [], pairs = [];
    for (const i of row) for (const [j, at] of above[i]) pairs.push([place[j] + at, place[i]]);
    for (const [, end] of pairs.sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
      const k = bisect(seen, end, true);
      total += seen.length - k;
      seen.splice(k, 0, end);
    }
  }
  return total;
}

function sweep(rows, place, ends) {
  for (const row of rows) {
    const key = new Map();
    for (const i of row) {
      let mean = 0;
      for (const [j, at] of ends[i]) mean += place[j] + at;
      key.set(i, ends[i].length ? mean / ends[i].length : place[i]);
    }
    row.sort((a, b) => key.get(a) - key.get(b));
    numberRows([row], place);
  }
}

function swap(rows, place, above, below) {
  for (const row of rows) {
    const near = (side, i) => side[i].map(([j, at]) => place[j] + at).sort((a, b) => a - b);
    const ends = row.map((i) => [near(above, i), near(below, i)]);
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
    numberRows([row], place);
  }
}

// -- x and y

function placeItems(level) {
  const {rows, ups, downs} = level, upwards = rows.slice().reverse();
  for (const row of rows) {
    let x = 0;
    row.forEach((i, k) => {
      x += k ? gapOf(level, row[k - 1], i) : 0;
      level.x[i] = x;
    });
    for (const i of row) level.x[i] -= x / 2;
  }
  for (let n = 0; n < 6; n++) {
    for (const row of rows) settle(level, row, [ups]);
    for (const row of upwards) settle(level, row, [downs]);
  }
  for (let n = 0; n < 2; n++) {
    for (const row of rows) settle(level, row, [ups, downs]);
    for (const row of upwards) settle(level, row, [ups, downs]);
  }
}

function gapOf(level, a, b) {
  const wide = (level.items[a] ? 1 : 0) + (level.items[b] ? 1 : 0);
  return level.right[a] + level.left[b] + [2 * THIN, LINE_GAP, NODE_GAP][wide];
}

function settle(level, row, sides) {
  const wants = [], weights = [], gaps = [];
  row.forEach((i, k) => {
    let weight = FREE, pull = FREE * level.x[i];
    for (const side of sides) {
      for (const p of side[i]) {
        weight += p.weight;
        pull += p.weight * (level.x[p.item] + p.there - p.here);
      }
    }
    wants.push(pull / weight);
    weights.push(weight);
    gaps.push(k ? gapOf(level, row[k - 1], i) : 0);
  });
  apart(wants, weights, gaps).forEach((x, k) => { level.x[row[k]] = x; });
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

function stackRows(level, hasNumbers) {
  const last = level.rows.length - 1;
  let y = 0;
  level.rows.forEach((row, r) => {
    let height = 0, slant = 0;
    for (const i of row) height = Math.max(height, level.height[i]);
    level.tops.push(y);
    level.bottoms.push(y + height);
    for (const i of row) {
      const room = height - level.height[i];
      level.y[i] = y + (!level.ups[i].length ? room : !level.downs[i].length ? 0 : room / 2);
      for (const p of level.downs[i]) {
        slant = Math.max(slant, Math.abs(level.x[p.item] + p.there - level.x[i] - p.here));
      }
    }
    y += height + (r === 0 || r === last - 1 ? MARGIN : hasNumbers ? ROW_GAP / 2 : ROW_GAP);
    y += Math.min(Math.max(slant - 50, 0) * 0.1, ROW_GAP);
  });
}

function extent(level) {
  if (!level.x.length) return [0, 0];
  let low = Infinity, high = -Infinity;
  level.x.forEach((x, i) => {
    low = Math.min(low, x - level.left[i]);
    high = Math.max(high, x + level.right[i]);
  });
  return [low, high];
}

function surround(level, [width, height], direction) {
  let [low, high] = extent(level);
  const {tops, bottoms, rows} = level, last = rows.length - 1;
  if (direction === "LR" || direction === "RL") {
    bottoms[last] = Math.max(bottoms[last], tops[0] + width + 2 * MARGIN);
    level.frame = [low - MARGIN - height, tops[0], high + MARGIN, bottoms[last]];
    openGates(level, 0, 0);
    return;
  }
  if (direction === "TB") tops[0] -= height;
  else bottoms[last] += height;
  let edge = low + width;
  const titleRow = direction === "TB" ? 0 : last;
  for (const port of rows[titleRow]) {
    level.x[port] = Math.max(level.x[port], edge + LINE_GAP);
    edge = level.x[port];
  }
  high = Math.max(high, edge + THIN, low + width);
  level.frame = [low - MARGIN, tops[0], high + MARGIN, bottoms[last]];
  openGates(level, width, titleRow);
}

function openGates(level, title, titleRow) {
  const {items, left, right, x, low, high, frame} = level, marks = new Set(level.marks.values());
  level.rows.forEach((row, r) => {
    let edge = frame[0] + (title && r === titleRow ? MARGIN + title + CLEAR : MARGIN / 2);
    row.forEach((i, k) => {
      low[i] = edge;
      if (k === row.length - 1) {
        edge = frame[2] - MARGIN / 2;
      } else {
        const j = row[k + 1], from = x[i] + right[i], to = x[j] - left[j];
        if (Boolean(items[i]) === Boolean(items[j])) edge = (from + to) / 2;
        else edge = items[i] ? from + CLEAR : to - CLEAR;
      }
      high[i] = edge;
      if (!items[i]) {
        low[i] += left[i];
        high[i] -= right[i];
      }
    });
    if (r === 0 || r === level.rows.length - 1 || row.some((i) => items[i])) return;
    for (let k = 0; k + 1 < row.length; k++) {
      if (!marks.has(row[k]) && !marks.has(row[k + 1])) low[row[k + 1]] = low[row[k]];
    }
    for (let k = row.length - 2; k >= 0; k--) {
      if (!marks.has(row[k]) && !marks.has(row[k + 1])) high[row[k]] = high[row[k + 1]];
    }
  });
}

// -- all boxes together

function absolute(levels, {boxes, depth}, number) {
  const root = levels.get(null).frame, shifts = new Map([[null, [-root[0], -root[1]]]]);
  const frames = new Map(), places = new Map();
  for (const [box, parent] of [...boxes].sort((a, b) => depth.get(a[0]) - depth.get(b[0]))) {
    const around = levels.get(parent), i = number.get(box), [dx, dy] = shifts.get(parent);
    const left = around.x[i] - around.left[i] + dx, top = around.y[i] + dy, [x0, y0, x1, y1] = levels.get(box).frame;
    shifts.set(box, [left - x0, top - y0]);
    frames.set(box, [left, top, left + x1 - x0, top + y1 - y0]);
  }
  for (const [home, level] of levels) {
    const [dx, dy] = shifts.get(home);
    level.items.forEach((id, i) => {
      if (id && !levels.has(id)) places.set(id, [level.x[i] + dx, level.y[i] + level.height[i] / 2 + dy]);
    });
  }
  return {shifts, places, frames};
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

// -- arrows

function findRoutes(chains, layout, {sizes, numbers, isFlat}) {
  const {levels, shifts} = layout, routes = new Map(), spots = new Map();
  const gates = chains.map((chain) => [...chain.out, chain.level, ...[...chain.into].reverse()].flatMap(
    (box) => gatesOf(levels.get(box), levels.get(box).ways.get(chain.edge), shifts.get(box))));
  const [starts, ends] = findEnds(chains, gates, layout, sizes);
  chains.forEach((chain, k) => {
    const route = smooth(tight(starts[k], gates[k], ends[k]), gates[k]);
    if (numbers.has(chain.edge)) {
      const level = levels.get(chain.level), [dx, dy] = shifts.get(chain.level), mark = level.marks.get(chain.edge);
      const y = level.y[mark] + level.height[mark] / 2 + dy, [width, height] = numbers.get(chain.edge);
      const beside = [-1, 0, 1].map((step) => xAt(route, y + (step * height) / 2));
      const x = isFlat ? Math.max(Math.min(...beside), level.low[mark] + dx)
        : Math.min(Math.max(...beside), level.high[mark] + dx);
      const aside = width / 2 + THIN + 2;
      spots.set(chain.edge, [isFlat ? x - aside : x + aside, y]);
    }
    routes.set(chain.edge, chain.isTurned ? route.reverse() : route);
  });
  return [routes, spots];
}

function gatesOf(level, way, [dx, dy]) {
  const found = [];
  way.forEach((i, k) => {
    const low = level.low[i] + dx, high = level.high[i] + dx;
    const top = level.tops[level.row[i]], bottom = level.bottoms[level.row[i]];
    if (k > 0 || !level.items[i]) found.push([top + dy, low, high]);
    if (bottom > top && !level.items[i]) found.push([(top + bottom) / 2 + dy, low, high]);
    if (bottom > top && (k < way.length - 1 || !level.items[i])) found.push([bottom + dy, low, high]);
  });
  return found;
}

function findEnds(chains, gates, layout, sizes) {
  const {places} = layout, found = [new Map(), new Map()];
  chains.forEach((chain, k) => {
    const [ax, ay] = places.get(chain.upper), [bx, by] = places.get(chain.lower);
    const [aw, ah] = sizes.get(chain.upper), [bw, bh] = sizes.get(chain.lower);
    const first = [ay + ah / 2, ...sideOf(ax, aw)], last = [by - bh / 2, ...sideOf(bx, bw)];
    const line = tight([ax, ay], [first, ...gates[k], last], [bx, by]);
    [first[0], last[0]].forEach((y, side) => {
      const [p, q, more] = side ? [...line].reverse() : line;
      const aim = q[1] === y && more ? more : q, card = side ? chain.lower : chain.upper;
      const crossed = side ? chain.into : chain.out, box = crossed.length ? crossed[0] : chain.level;
      if (!found[side].has(card)) found[side].set(card, []);
      found[side].get(card).push([xOf(chain, side, box, side ? -2 : 1, layout), k, p[0] + AIM[line.length > 2 ? 1 : 0] * (aim[0] - p[0])]);
    });
  });
  return found.map((groups, side) => {
    const at = [];
    for (const [card, group] of groups) {
      group.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
      const [low, high] = sideOf(places.get(card)[0], sizes.get(card)[0]), count = group.length;
      const gap = Math.min(APART, (high - low) / count);
      const xs = apart(group.map((end) => end[2]), group.map(() => 1), group.map(() => gap));
      const y = places.get(card)[1] + ((side ? -1 : 1) * sizes.get(card)[1]) / 2;
      group.forEach(([, k], n) => {
        at[k] = [Math.min(Math.max(xs[n], low + n * gap), high - (count - 1 - n) * gap), y];
      });
    }
    return at;
  });
}

function sideOf(x, width) {
  const half = Math.max(width / 2 - 10, width / 4);
  return [x - half, x + half];
}

function tight(start, gates, end) {
  const stops = [...gates, [end[1], end[0], end[0]]], line = [start];
  let k = 0;
  while (k < stops.length) {
    let [x, y] = at(line, -1), least = -Infinity, most = Infinity, left = k, right = k, n = k, a = 0, b = 0, down = 0;
    while (n < stops.length) {
      down = stops[n][0] - y;
      if (down <= 1e-9) {
        x = Math.min(Math.max(x, stops[n][1]), stops[n][2]);
        if (x !== at(line, -1)[0]) {
          line.push([x, y]);
          least = -Infinity;
          most = Infinity;
        }
        n += 1;
        continue;
      }
      a = (stops[n][1] - x) / down;
      b = (stops[n][2] - x) / down;
      if ((a - most) * down > TOLERANCE || (least - b) * down > TOLERANCE || n - k === FAR) break;
      if (a >= least) [least, left] = [a, n];
      if (b <= most) [most, right] = [b, n];
      n += 1;
    }
    if (n === stops.length) break;
    if (n - k === FAR) {
      line.push([x + ((least + most) / 2) * (stops[n][0] - y), stops[n][0]]);
      k = n;
    } else if ((a - most) * down > TOLERANCE) {
      line.push([stops[right][2], stops[right][0]]);
      k = right + 1;
    } else {
      line.push([stops[left][1], stops[left][0]]);
      k = left + 1;
    }
  }
  return [...line, end];
}

function smooth(corners, gates) {
  let line = corners.filter((p, k) => k === 0 || p[0] !== corners[k - 1][0] || p[1] !== corners[k - 1][1]);
  if (line.length > 2) line = withStraightParts(line);
  const steps = line.slice(1).map((p, k) => [p[0] - line[k][0], p[1] - line[k][1]]);
  const lengths = steps.map(([x, y]) => Math.sqrt(x * x + y * y));
  if (steps.length === 1) return piece(line[0], steps[0], line[1], steps[0], lengths[0] / 3);
  const steep = ([x, y]) => [x * 0.4, Math.max(y, Math.abs(x) * 0.4)], tangents = [steep(steps[0])];
  for (let k = 1; k < steps.length; k++) {
    const a = Math.min(lengths[k - 1], REACH) / lengths[k - 1], b = Math.min(lengths[k], REACH) / lengths[k];
    tangents.push([0, 1].map((axis) => steps[k - 1][axis] * a + steps[k][axis] * b));
  }
  tangents.push(steep(at(steps, -1)));
  const route = [line[0]];
  let g = 0;
  for (let k = 0; k < steps.length; k++) {
    const start = line[k], end = line[k + 1];
    let part = [];
    if (lengths[k] > 2 * REACH + 1) {
      part = piece(start, steps[k], end, steps[k], lengths[k] / 3);
    } else {
      while (g < gates.length && gates[g][0] <= start[1]) g += 1;
      const first = g;
      while (g < gates.length && gates[g][0] < end[1]) g += 1;
      for (const bend of BENDS) {
        part = piece(start, tangents[k], end, tangents[k + 1], lengths[k] * bend);
        const isFree = gates.slice(first, g).every(([y, low, high]) => {
          const x = xAt(part, y);
          return low - BULGE <= x && x <= high + BULGE;
        });
        if (isFree) break;
      }
    }
    route.push(...part.slice(1));
  }
  return route;
}

function withStraightParts(line) {
  const found = [line[0]];
  for (let k = 0; k + 1 < line.length; k++) {
    const [ax, ay] = line[k], [bx, by] = line[k + 1];
    const length = Math.sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay));
    if (length > 6 * REACH) {
      const part = (2 * REACH) / length;
      found.push([ax + (bx - ax) * part, ay + (by - ay) * part], [bx - (bx - ax) * part, by - (by - ay) * part]);
    } else if (length > 2 * REACH) {
      for (const n of [1, 2]) found.push([ax + ((bx - ax) * n) / 3, ay + ((by - ay) * n) / 3]);
    }
    found.push([bx, by]);
  }
  return found;
}

function piece(a, leaving, b, reaching, reach) {
  const [[px, py], [qx, qy]] = [leaving, reaching].map(([x, y]) => {
    let size = reach / (Math.sqrt(x * x + y * y) || 1);
    if (y * size > (b[1] - a[1]) / 2) size = (b[1] - a[1]) / 2 / y;
    return [x * size, y * size];
  });
  return [a, [a[0] + px, a[1] + py], [b[0] - qx, b[1] - qy], b];
}

function xAt(route, y) {
  let k = 0;
  while (k + 4 < route.length && route[k + 3][1] < y) k += 3;
  const [[ax, ay], [bx, by], [cx, cy], [dx, dy]] = route.slice(k, k + 4);
  let low = 0, high = 1;
  for (let n = 0; n < 24; n++) {
    const t = (low + high) / 2, s = 1 - t;
    if (s * s * s * ay + 3 * s * s * t * by + 3 * s * t * t * cy + t * t * t * dy < y) low = t;
    else high = t;
  }
  const s = 1 - low;
  return s * s * s * ax + 3 * s * s * low * bx + 3 * s * low * low * cx + low * low * low * dx;
}
