// Asks /health every second and shows what it says. Rates come from successive answers.
const $ = id => document.getElementById(id);
const count = n => Math.round(n).toLocaleString('en');
const short = n => n < 1e6 ? count(n) : (n / 1e6).toLocaleString('en', n < 1e9 ? { maximumSignificantDigits: 4 } : { maximumFractionDigits: 0 }) + ' M';
const perSecond = n => (n >= 100 || n === 0 ? count(n) : n.toFixed(1)) + '/s';

function duration(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 9.95) return s.toFixed(1) + ' s';
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const i = units.findIndex(([size]) => s >= size);
  const [size, name] = units[i], next = units[i + 1];
  const rest = next ? Math.floor(s % size / next[0]) : 0;
  return Math.floor(s / size) + ' ' + name + (rest ? ' ' + rest + ' ' + next[1] : '');
}

function set(element, text) { if (element.textContent !== text) element.textContent = text; }

function make(tag, className = '', text = '') {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

// Makes the children of `parent` those of `items`, in order, and keeps those that are there already: a selection survives.
function sync(parent, items, keyOf, create, update) {
  const known = new Map([...parent.children].map(child => [child.dataset.key, child]));
  let before = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = known.get(key);
    known.delete(key);
    if (!child) { child = create(item); child.dataset.key = key; }
    if (child === before) before = before.nextElementSibling; else parent.insertBefore(child, before);
    update(child, item);
  }
  for (const child of known.values()) child.remove();
}

const TONES = { RUNNING: 'ok', CREATED: 'warn', REBALANCING: 'warn', STARTING: 'warn', RESTORING: 'warn', SUSPENDED: 'warn',
  PARTITIONS_REVOKED: 'warn', PARTITIONS_ASSIGNED: 'warn', PENDING_SHUTDOWN: 'warn', PENDING_ERROR: 'bad', ERROR: 'bad', DEAD: 'bad' };

function pill(element, text, tone) {
  set(element, text);
  element.className = 'pill ' + (tone || '');
}

// -- rates --
const HISTORY_S = 120;
let samples = [];

function remember(health) {
  const last = samples.at(-1);
  // Counts that shrink are those of another process.
  if (last && last.totals.processed > health.totals.processed) samples = [];
  samples.push({ at: health.now_ms, totals: health.totals });
  while (samples.length > 1 && health.now_ms - samples[0].at > HISTORY_S * 1000) samples.shift();
}

// Over the last five seconds.
function rate(name) {
  const last = samples.at(-1);
  const first = samples.find(s => last.at - s.at <= 5500) || last;
  return last.at > first.at ? (last.totals[name] - first.totals[name]) * 1000 / (last.at - first.at) : null;
}

function sparkline() {
  const points = samples.slice(1).map((s, i) => [s.at, (s.totals.processed - samples[i].totals.processed) / Math.max(1, s.at - samples[i].at)]);
  const top = Math.max(...points.map(p => p[1]), 1e-9) * 1.1, end = samples.at(-1).at;
  const line = points.map(([at, v]) => (HISTORY_S - (end - at) / 1000).toFixed(1) + ' ' + (100 - 100 * v / top).toFixed(1));
  const [area, stroke] = $('spark').children;
  stroke.setAttribute('d', line.length > 1 ? 'M' + line.join('L') : '');
  area.setAttribute('d', line.length > 1 ? 'M' + line[0].split(' ')[0] + ' 100L' + line.join('L') + 'L' + HISTORY_S + ' 100Z' : '');
}

// -- parts of the page --
function showVerdict(health) {
  const tone = health.status === 'DOWN' ? (health.state === 'PENDING_SHUTDOWN' ? 'warn' : 'bad') : health.broker_trouble ? 'warn' : TONES[health.state] || '';
  $('verdict').dataset.tone = tone;
  const up = !['PENDING_SHUTDOWN', 'NOT_RUNNING', 'PENDING_ERROR', 'ERROR'].includes(health.state);
  set($('state'), up && !health.live ? health.state + ', not live' : health.state);
  set($('reason'), health.reason);
  set($('since'), 'for ' + duration(health.now_ms - health.state_since_ms));
  pill($('live'), health.live ? 'live' : 'not live', health.live ? 'ok' : 'bad');
  pill($('ready'), health.ready ? 'ready' : 'not ready', health.ready ? 'ok' : 'warn');
  pill($('started'), health.started ? 'started' : 'not started', health.started ? 'ok' : 'warn');
  set($('application'), health.application_id);
  set($('version'), 'watersmeet ' + health.version);
  const trouble = health.broker_trouble;
  $('trouble').hidden = !trouble;
  if (trouble) set($('trouble'), 'Broker trouble for ' + duration(health.now_ms - trouble.since_ms) + ': ' + trouble.what);
  sign(health.state + ' · ' + health.application_id, tone);
}

// The tab's title and icon.
function sign(title, tone) {
  document.title = title;
  const fill = { ok: '%2312936a', warn: '%23d98a1c', bad: '%23d23a30' }[tone] || '%23808c98';
  const icon = `data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='7' fill='${fill}'/></svg>`;
  if ($('icon').getAttribute('href') !== icon) $('icon').setAttribute('href', icon);
}

const TILES = [['produced', 'Produced'], ['lag', 'Lag'], ['join_misses', 'Join misses'], ['dropped', 'Dropped'],
  ['dead_lettered', 'Dead-lettered'], ['failed_threads', 'Failed threads']];

function showTotals(health) {
  const speed = rate('processed');
  set($('speed'), speed === null ? '–' : perSecond(speed));
  set($('processed'), count(health.totals.processed) + ' records in all');
  sparkline();
  const [wide] = $('tiles').children;
  wide.dataset.key = 'wide';
  const shown = TILES.filter(([name]) => name !== 'failed_threads' || health.totals.failed_threads);
  sync($('tiles'), [['wide'], ...shown], ([name]) => name, ([name, title]) => {
    const tile = make('div', 'tile');
    tile.append(make('h2', '', title), make('div', 'figure'), make('div', 'rate'));
    return tile;
  }, (tile, [name]) => {
    if (name === 'wide') return;
    const value = name === 'lag' ? health.lag : health.totals[name];
    set(tile.children[1], short(value));
    tile.title = count(value);
    const now = name === 'lag' ? null : rate(name);
    set(tile.children[2], name === 'lag' ? catchUp(health.lag, speed) : name === 'failed_threads' ? 'since start' : now === null ? '' : perSecond(now));
    const worth = ['dropped', 'dead_lettered', 'failed_threads'].includes(name) && value > 0;
    tile.classList.toggle('attention', worth);
  });
}

function catchUp(lag, speed) {
  if (!lag) return 'caught up';
  return speed ? '≈ ' + duration(lag * 1000 / speed) + ' of work' : 'waiting';
}

function showRestores(health) {
  const restores = health.threads.flatMap(t => t.tasks).flatMap(task => task.restore.map(r => ({ task: task.id, ...r })));
  $('restores').hidden = !restores.length;
  sync($('restores').lastElementChild, restores, r => r.task + ' ' + r.store, r => {
    const row = make('div', 'restore'), bar = make('progress');
    bar.setAttribute('aria-label', 'Restore of ' + r.store + ', task ' + r.task);
    row.append(make('span', '', r.store + ' · task ' + r.task), bar, make('span', 'muted small'));
    return row;
  }, (row, r) => {
    row.children[1].max = Math.max(1, r.total);
    row.children[1].value = r.restored;
    const share = r.total ? Math.floor(100 * r.restored / r.total) : 100;
    const eta = r.eta_s === null ? '' : ' · ' + duration(r.eta_s * 1000) + ' left';
    set(row.children[2], `${share} % · ${count(r.restored)} of ${count(r.total)} records · ${perSecond(r.rate)}${eta}`);
  });
}

function showThreads(health) {
  const tasks = health.threads.reduce((n, t) => n + t.tasks.length, 0);
  const plural = (n, what) => n + ' ' + what + (n === 1 ? '' : 's');
  set($('crew'), plural(health.threads.length, 'thread') + ', ' + plural(tasks, 'task'));
  sync($('threads'), health.threads, t => t.name, thread => {
    const card = make('div', 'thread'), head = make('div'), scroll = make('div', 'scroll');
    head.append(make('h3', '', thread.name), make('span', 'pill'), make('span', 'muted small'));
    card.append(head, make('p', 'error'), scroll);
    const table = make('table'), row = make('tr'), tbody = make('tbody');
    const columns = [['Task'], ['State'], ['Partition'], ['Lag', 'n'], ['In queue', 'n'], ['Position', 'n wide-only'], ['Waiting for']];
    row.append(...columns.map(([text, name]) => Object.assign(make('th', name, text), { scope: 'col' })));
    table.append(make('thead'), tbody);
    table.tHead.append(row);
    scroll.append(table);
    return card;
  }, (card, thread) => {
    const [head, error, scroll] = card.children;
    const stalled = health.stalled.find(text => text.startsWith(thread.name + ' '));
    pill(head.children[1], stalled ? thread.state + ', stalled' : thread.state, stalled ? 'bad' : TONES[thread.state]);
    const alive = thread.state !== 'DEAD';
    set(head.children[2], alive ? 'last turn ' + duration(health.now_ms - thread.last_turn_ms) + ' ago' : '');
    const text = thread.error || stalled || '';
    error.hidden = !text;
    set(error, text);
    scroll.hidden = !thread.tasks.length;
    const rows = thread.tasks.flatMap(task => task.partitions.map((p, i) => ({ task, p, first: i === 0 })));
    sync(scroll.querySelector('tbody'), rows, r => [r.task.id, r.p.topic, r.p.partition].join(' '), () => {
      const row = make('tr');
      row.append(make('td'), make('td'), make('td'), make('td', 'n'), make('td', 'n'), make('td', 'n wide-only'), make('td', 'muted'));
      row.children[1].append(make('span', 'pill'));
      return row;
    }, (row, { task, p, first }) => {
      const cells = row.children;
      set(cells[0], first ? task.id : '');
      cells[1].firstChild.hidden = !first;
      pill(cells[1].firstChild, task.state, TONES[task.state]);
      set(cells[2], p.topic + '-' + p.partition);
      set(cells[3], p.lag === null ? 'unknown' : count(p.lag));
      cells[3].classList.toggle('lagging', p.lag > 0);
      set(cells[4], count(p.buffered));
      set(cells[5], count(p.position));
      set(cells[6], first ? task.waiting_for : '');
    });
  });
}

// -- the beat --
let lastAnswer = null, failingSince = null;

function show(health) {
  remember(health);
  showVerdict(health);
  showTotals(health);
  showRestores(health);
  showThreads(health);
  annotate(health);
}

function silence(error) {
  failingSince = failingSince || Date.now();
  const known = lastAnswer ? ' What is shown is ' + duration(Date.now() - lastAnswer) + ' old.' : '';
  $('silence').hidden = false;
  set($('silence'), 'The application does not answer (' + error + ').' + known + ' Asking again every second.');
  document.body.classList.add('silent');
  for (const id of ['live', 'ready', 'started']) pill($(id), id + '?');
  sign('no answer · ' + $('application').textContent, 'bad');
}

async function beat() {
  const abort = new AbortController(), timer = setTimeout(() => abort.abort(), 3000);
  try {
    const response = await fetch('health', { cache: 'no-store', signal: abort.signal });
    const health = await response.json();
    if (failingSince) { failingSince = null; drawTopology(); }
    lastAnswer = Date.now();
    $('silence').hidden = true;
    document.body.classList.remove('silent');
    show(health);
    set($('fresh'), 'updated ' + new Date().toLocaleTimeString());
  } catch (error) {
    silence(error.name === 'AbortError' ? 'no answer within 3 s' : error.message);
  } finally {
    clearTimeout(timer);
    setTimeout(beat, 1000);
  }
}

$('described').addEventListener('toggle', async event => {
  if (event.target.open) set(event.target.querySelector('pre'), await (await fetch('topology')).text());
});
new ResizeObserver(redraw).observe($('drawing'));
drawTopology();
beat();
