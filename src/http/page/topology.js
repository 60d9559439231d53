// Draws the topology: each sub-topology in layers, from its topics through its nodes and stores to its topics.
const SVG = 'http://www.w3.org/2000/svg';
const LINE = 15, BETWEEN_LAYERS = 36, BETWEEN_NODES = 16, PADDING = 14;
const pen = document.createElement('canvas').getContext('2d');

// The nodes and edges to draw: besides the nodes themselves, their topics and stores.
function picture(sub) {
  const nodes = new Map(), edges = [];
  const add = (id, kind, name) => nodes.set(id, nodes.get(id) || { id, kind, name, out: [], in: [] });
  const link = (from, to, kind) => edges.push({ from, to, kind });
  for (const n of sub.nodes) add('n:' + n.name, n.kind, n.name);
  const order = topological(sub.nodes);
  const users = new Map();
  for (const n of order) {
    const id = 'n:' + n.name;
    for (const to of n.successors) if (nodes.has('n:' + to)) link(id, 'n:' + to, 'flow');
    for (const topic of n.topics) {
      const end = n.kind === 'source' ? 'in:' : 'out:';
      add(end + topic, 'topic', topic);
      if (n.kind === 'source') link(end + topic, id, 'flow'); else link(id, end + topic, 'flow');
    }
    for (const store of n.stores) users.set(store, [...(users.get(store) || []), id]);
  }
  // The first that uses a store fills it, those behind it read it: this order has no circles.
  for (const [store, ids] of users) {
    add('s:' + store, 'store', store);
    ids.forEach((id, i) => i ? link('s:' + store, id, 'state') : link(id, 's:' + store, 'state'));
  }
  return { nodes: [...nodes.values()], edges };
}

function topological(list) {
  const byName = new Map(list.map(n => [n.name, n])), seen = new Set(), order = [];
  const visit = n => {
    if (!n || seen.has(n.name)) return;
    seen.add(n.name);
    n.successors.forEach(name => visit(byName.get(name)));
    order.unshift(n);
  };
  [...list].reverse().forEach(visit);
  return order;
}

// A generated name's number gets a line of its own: boxes stay narrow, so that the whole fits without shrinking.
function measure(node) {
  const [, stem, digits] = node.name.match(/^(.+-)(\d{10}(?:-.*)?)$/) || [null, node.name, ''];
  node.lines = digits ? [stem, digits] : [stem];
  const family = getComputedStyle(document.body).fontFamily;
  pen.font = '12.5px ' + family;
  const names = node.lines.map(line => pen.measureText(line).width);
  // Room for what is written there later.
  pen.font = '600 11px ' + family;
  const kind = { topic: 'topic · lag 9,999,999', store: 'store · ≈ 9,999,999 rows' }[node.kind] || node.kind;
  node.w = Math.ceil(Math.max(...names, pen.measureText(kind).width)) + 26;
  node.h = LINE * (node.lines.length + 1) + (node.kind === 'store' ? 24 : 16);
}

// Layers by longest path; edges over several layers get a bend in each; few crossings; then straight lines where possible.
// `main` is the direction of the flow, `cross` the other one.
function layout({ nodes, edges }, horizontal) {
  const byId = new Map(nodes.map(n => [n.id, { ...n, main: horizontal ? n.w : n.h, cross: horizontal ? n.h : n.w, up: [], down: [] }]));
  const rank = new Map();
  const into = new Map(nodes.map(n => [n.id, edges.filter(e => e.to === n.id && e.from !== e.to).map(e => e.from)]));
  const open = new Set();
  const rankOf = id => {
    if (rank.has(id)) return rank.get(id);
    if (open.has(id)) return 0;
    open.add(id);
    const r = Math.max(-1, ...into.get(id).map(rankOf)) + 1;
    open.delete(id);
    rank.set(id, r);
    return r;
  };
  nodes.forEach(n => rankOf(n.id));
  const hasInput = nodes.some(n => n.id.startsWith('in:'));
  for (const n of nodes) if (!n.id.startsWith('in:') && hasInput) rank.set(n.id, Math.max(1, rank.get(n.id)));
  const last = Math.max(0, ...nodes.filter(n => !n.id.startsWith('out:')).map(n => rank.get(n.id)));
  for (const n of nodes) if (n.id.startsWith('out:')) rank.set(n.id, last + 1);

  const layers = [];
  const place = (box, r) => (layers[r] = layers[r] || []).push(Object.assign(box, { rank: r }));
  byId.forEach((box, id) => place(box, rank.get(id)));
  const chains = edges.map(edge => {
    const [from, to] = [byId.get(edge.from), byId.get(edge.to)];
    const chain = [from];
    for (let r = from.rank + 1; r < to.rank; r++) {
      const bend = { bend: true, main: 0, cross: 2, up: [], down: [] };
      place(bend, r);
      chain.push(bend);
    }
    chain.push(to);
    for (let i = 1; i < chain.length; i++) { chain[i - 1].down.push(chain[i]); chain[i].up.push(chain[i - 1]); }
    return { edge, chain };
  });
  const rows = layers.filter(Boolean);

  const number = row => row.forEach((box, i) => box.index = i);
  rows.forEach(number);
  const mean = (list, of, otherwise) => list.length ? list.reduce((sum, b) => sum + of(b), 0) / list.length : otherwise;
  for (let sweep = 0; sweep < 8; sweep++) {
    const side = sweep % 2 ? 'down' : 'up';
    for (const row of sweep % 2 ? [...rows].reverse() : rows) {
      for (const box of row) box.wish = mean(box[side], b => b.index, box.index);
      row.sort((a, b) => a.wish - b.wish);
      number(row);
    }
  }
  for (const row of rows) {
    let at = 0;
    for (const box of row) { box.y = at + box.cross / 2; at += box.cross + BETWEEN_NODES; }
  }
  for (let sweep = 0; sweep < 60; sweep++) {
    for (const row of sweep % 2 ? [...rows].reverse() : rows) {
      align(row, row.map(box => mean([...box.up, ...box.down], b => b.y, box.y)));
    }
  }

  let at = PADDING;
  for (const row of rows) {
    const thick = Math.max(...row.map(b => b.main));
    for (const box of row) Object.assign(box, { x: at + thick / 2, thick });
    at += thick + BETWEEN_LAYERS;
  }
  const boxes = rows.flat();
  const top = Math.min(...boxes.map(b => b.y - b.cross / 2)) - PADDING;
  boxes.forEach(b => b.y -= top);
  const length = at - BETWEEN_LAYERS + PADDING, breadth = Math.max(...boxes.map(b => b.y + b.cross / 2)) + PADDING;
  const point = (main, cross) => horizontal ? [main, cross] : [cross, main];
  const [width, height] = point(length, breadth);
  return { boxes: boxes.filter(b => !b.bend), chains, point, width, height, horizontal };
}

// Centers as near to the wishes as the order and the gaps allow: neighbours that would overlap share their mean wish.
function align(row, wishes) {
  const offsets = [];
  row.forEach((box, i) => offsets.push(i ? offsets[i - 1] + (row[i - 1].cross + box.cross) / 2 + BETWEEN_NODES : 0));
  const blocks = [];
  wishes.forEach((wish, i) => {
    let block = { sum: wish - offsets[i], n: 1 };
    while (blocks.length && blocks.at(-1).sum / blocks.at(-1).n > block.sum / block.n) {
      const before = blocks.pop();
      block = { sum: before.sum + block.sum, n: before.n + block.n };
    }
    blocks.push(block);
  });
  let i = 0;
  for (const block of blocks) for (let k = 0; k < block.n; k++, i++) row[i].y = block.sum / block.n + offsets[i];
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function drawNode(box, point) {
  const [cx, cy] = point(box.x, box.y), { w, h, kind } = box, x = cx - w / 2, y = cy - h / 2;
  const group = svg('g', { class: 'node ' + kind, 'data-kind': kind, 'data-name': box.name });
  group.append(svg('title', {}, kind + ' ' + box.name));
  if (kind === 'store') {
    const rim = 5;
    group.append(svg('path', { class: 'shape', d: `M${x} ${y + rim}v${h - 2 * rim}a${w / 2} ${rim} 0 0 0 ${w} 0v${2 * rim - h}` }),
      svg('ellipse', { class: 'shape', cx, cy: y + rim, rx: w / 2, ry: rim }));
  } else {
    group.append(svg('rect', { class: 'shape', x, y, width: w, height: h, rx: kind === 'topic' ? h / 2 : 7 }));
    if (kind !== 'topic') group.append(svg('rect', { class: 'bar', x, y: y + 8, width: 4, height: h - 16, rx: 2 }));
  }
  const first = y + 18 + (kind === 'store' ? 8 : 0);
  group.append(svg('text', { class: 'kind', x: cx, y: first, 'text-anchor': 'middle' }, kind));
  box.lines.forEach((line, i) => {
    group.append(svg('text', { class: i ? 'digits' : '', x: cx, y: first + LINE * (i + 1), 'text-anchor': 'middle' }, line));
  });
  return group;
}

function drawEdge({ edge, chain }, { point }) {
  const first = chain[0], end = chain.at(-1), arrow = edge.kind === 'flow';
  let at = [first.x + first.main / 2, first.y], d = 'M' + point(...at);
  const curve = (main, cross) => {
    const half = (at[0] + main) / 2;
    d += 'C' + point(half, at[1]) + ' ' + point(half, cross) + ' ' + point(main, cross);
    at = [main, cross];
  };
  // Straight past the boxes of a layer, curved between layers.
  for (const bend of chain.slice(1, -1)) {
    curve(bend.x - bend.thick / 2, bend.y);
    at = [bend.x + bend.thick / 2, bend.y];
    d += 'L' + point(...at);
  }
  curve(end.x - end.main / 2 - (arrow ? 2 : 0), end.y);
  return svg('path', arrow ? { class: 'edge', d, 'marker-end': 'url(#arrow)' } : { class: 'edge state', d });
}

function drawSub(sub, width, all) {
  const graph = picture(sub);
  if (!graph.nodes.length) return null;
  graph.nodes.forEach(measure);
  // From left to right where that stays readable at this width, else from top to bottom.
  const wide = layout(graph, true), plan = wide.width * 0.8 <= width ? wide : layout(graph, false);
  const image = svg('svg', { width: plan.width, height: plan.height, viewBox: `0 0 ${plan.width} ${plan.height}`, role: 'img',
    'aria-label': 'Sub-topology ' + sub.id + ': ' + sub.nodes.map(n => n.kind + ' ' + n.name).join(', ') });
  image.append(svg('defs', {}, svg('marker', { id: 'arrow', viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, orient: 'auto',
    markerUnits: 'userSpaceOnUse' }, svg('path', { d: 'M0 .5L8 4 0 7.5z' }))));
  const inner = plan.boxes.filter(b => b.kind !== 'topic');
  const corner = b => [...plan.point(b.x - b.main / 2, b.y - b.cross / 2), ...plan.point(b.x + b.main / 2, b.y + b.cross / 2)];
  const corners = inner.map(corner);
  const [x0, y0] = [0, 1].map(i => Math.min(...corners.map(c => c[i])) - 10);
  const [x1, y1] = [2, 3].map(i => Math.max(...corners.map(c => c[i])) + 10);
  image.append(svg('rect', { class: 'hull', x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: 12 }));
  image.append(...plan.chains.map(chain => drawEdge(chain, plan)), ...plan.boxes.map(box => drawNode(box, plan.point)));
  const figure = document.createElement('figure');
  const caption = document.createElement('figcaption');
  caption.textContent = all > 1 ? 'Sub-topology ' + sub.id : '';
  caption.hidden = all <= 1;
  figure.append(caption, image);
  // Below half size nobody can read it: then it scrolls.
  figure.className = plan.width * 0.5 > width ? 'scrolls' : '';
  return figure;
}

let topology = null, drawnWidth = 0;

async function drawTopology() {
  try {
    const response = await fetch('topology?format=json', { cache: 'no-store' });
    if (response.ok) { topology = await response.json(); drawnWidth = 0; redraw(); }
  } catch { /* the beat says that nobody answers, and calls again when somebody does */ }
}

function redraw() {
  const area = $('drawing'), width = area.clientWidth;
  if (!topology || !width || width === drawnWidth) return;
  drawnWidth = width;
  const subs = topology.sub_topologies;
  const drawn = subs.map(sub => drawSub(sub, width, subs.length)).filter(Boolean);
  area.replaceChildren(...drawn);
}

// Writes lag on topics and progress on stores.
function annotate(health) {
  const lag = new Map(), restore = new Map(), rows = new Map();
  for (const task of health.threads.flatMap(t => t.tasks)) {
    for (const p of task.partitions) if (p.lag !== null) lag.set(p.topic, (lag.get(p.topic) || 0) + p.lag);
    for (const s of task.stores) rows.set(s.name, (rows.get(s.name) || 0) + s.entries);
    for (const r of task.restore) {
      const sum = restore.get(r.store) || { restored: 0, total: 0 };
      restore.set(r.store, { restored: sum.restored + r.restored, total: sum.total + r.total });
    }
  }
  for (const node of document.querySelectorAll('#drawing .node')) {
    const { kind, name } = node.dataset, label = node.querySelector('.kind');
    if (kind === 'topic') {
      // An internal topic has the application's id before its name.
      const behind = lag.get(name) ?? lag.get(health.application_id + '-' + name);
      set(label, behind === undefined ? 'topic' : behind ? 'topic · lag ' + count(behind) : 'topic · caught up');
      node.classList.toggle('behind', behind > 0);
    } else if (kind === 'store') {
      const r = restore.get(name), n = rows.get(name);
      const restoring = r && r.restored < r.total && 'restoring ' + Math.floor(100 * r.restored / r.total) + ' %';
      const text = restoring || n !== undefined && '≈ ' + count(n) + ' rows';
      set(label, text ? 'store · ' + text : 'store');
    }
  }
}
