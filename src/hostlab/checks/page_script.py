"""What the page of a judgement does: the table in sight, search, keys, links to cells.

Text of hosts goes into the page by `textContent` alone, never as HTML.
"""

from __future__ import annotations

from typing import Final

SCRIPT: Final = """
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const find = id => document.getElementById(id);
const SIGNS = {h: '✓', f: '✗', u: '?', s: '–', '-': '–'};
const WORDS = {h: 'holds', f: 'does not hold', u: 'could not be judged',
  s: 'is not asked: its condition does not hold', '-': 'is not asked'};
const HEIGHT = 30, AROUND = 6, LINES = 3, MOST_PRINTED = 40000;
const scroll = find('scroll'), detail = find('detail'), search = find('search');
const only = find('only');
const wrong = states => /[fu]/.test(states);
let rows = [], columns = [], opened = null, cursor = [0, 0], from = -1, to = -1, printing = false;

function make(name, text, ...classes) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  made.classList.add(...classes.filter(each => each));
  return made;
}

const table = make('table'), head = make('thead'), body = make('tbody');
table.setAttribute('role', 'grid');
table.setAttribute('aria-label', 'Hosts and checks');
table.append(head, body);
scroll.append(table);

function choose() {
  const words = search.value.toLowerCase().split(/\\s+/).filter(each => each);
  const said = text => words.every(word => text.toLowerCase().includes(word));
  const byColumn = words.length > 0 && data.columns.some(said);
  columns = data.columns.map((_, number) => number)
    .filter(number => !byColumn || said(data.columns[number]));
  const hosts = new Map();
  for (const group of data.groups) {
    const found = group.hosts.filter(host => byColumn || said(host.name + ' ' + group.roles));
    hosts.set(group, found.filter(host =>
      !only.checked || columns.some(number => wrong(host.states[number]))));
  }
  if (only.checked) {
    const shown = [...hosts.values()].flat();
    columns = columns.filter(number => shown.some(host => wrong(host.states[number])));
  }
  rows = [];
  for (const [group, found] of hosts) {
    if (!found.length) continue;
    rows.push({group: group.roles + ' (' + found.length + ')'});
    rows.push(...found.map(host => ({host})));
  }
  const number = rows.filter(row => row.host).length;
  find('count').textContent = number + (number === 1 ? ' host, ' : ' hosts, ')
    + columns.length + (columns.length === 1 ? ' check' : ' checks');
  table.setAttribute('aria-rowcount', rows.length + 1);
  table.setAttribute('aria-colcount', columns.length + 1);
  const top = make('tr');
  const corner = make('th', 'host'), wide = Math.min(220, 0.35 * innerWidth);
  corner.style.width = wide + 'px';
  table.style.width = wide + 38 * columns.length + 'px';
  top.append(corner);
  for (const number of columns) {
    const cell = make('th');
    cell.append(make('span', data.columns[number]));
    cell.title = data.columns[number];
    cell.scope = 'col';
    top.append(cell);
  }
  head.replaceChildren(top);
  from = to = -1;
  draw();
}

function draw() {
  let first = Math.max(0, Math.floor(scroll.scrollTop / HEIGHT) - AROUND);
  let last = Math.min(rows.length, first + Math.ceil(scroll.clientHeight / HEIGHT) + 2 * AROUND);
  if (printing) [first, last] = [0, rows.length];
  if (first === from && last === to) return;
  [from, to] = [first, last];
  const focused = document.activeElement && document.activeElement.closest('#scroll td');
  const drawn = rows.slice(first, last).map((row, place) => line(row, first + place));
  body.replaceChildren(space(first), ...drawn, space(rows.length - last));
  if (focused) focus(false);
}

function space(number) {
  const row = make('tr');
  row.setAttribute('aria-hidden', 'true');
  row.style.height = number * HEIGHT + 'px';
  return row;
}

function line(row, number) {
  const made = make('tr', undefined, row.group !== undefined && 'group');
  made.setAttribute('aria-rowindex', number + 2);
  const name = make('th', row.group !== undefined ? row.group : row.host.name);
  name.scope = row.group !== undefined ? 'rowgroup' : 'row';
  name.title = name.textContent;
  made.append(name);
  if (row.group !== undefined) return made;
  columns.forEach((column, place) => made.append(square(row.host, column, number, place)));
  return made;
}

function square(host, column, number, place) {
  const state = host.states[column], cell = make('td');
  const sign = make('span', SIGNS[state], state === '-' || state === 's' ? 'none' : state);
  cell.append(sign);
  cell.ariaLabel = host.name + ', ' + data.columns[column] + ': ' + WORDS[state];
  cell.title = data.columns[column];
  cell.dataset.at = number + ',' + place;
  cell.tabIndex = number === cursor[0] && place === cursor[1] ? 0 : -1;
  if (opened && opened[0] === host && opened[1] === column) cell.classList.add('open');
  return cell;
}

function focus(jump) {
  const top = cursor[0] * HEIGHT, room = scroll.clientHeight - head.offsetHeight;
  if (jump && top < scroll.scrollTop) scroll.scrollTop = top;
  if (jump && top + HEIGHT > scroll.scrollTop + room) scroll.scrollTop = top + HEIGHT - room;
  draw();
  for (const each of body.querySelectorAll('td[tabindex="0"]')) each.tabIndex = -1;
  const cell = body.querySelector('td[data-at="' + cursor.join(',') + '"]');
  if (!cell) return;
  cell.tabIndex = 0;
  cell.focus({preventScroll: !jump});
}

function move(down, right) {
  let row = cursor[0];
  do row += down; while (rows[row] && !rows[row].host);
  if (!rows[row]) row = cursor[0];
  const place = Math.min(columns.length - 1, Math.max(0, cursor[1] + right));
  cursor = [row, place];
  focus(true);
}

function open(host, column) {
  opened = [host, column];
  const state = host.states[column], more = host.more[column] || {};
  detail.className = state;
  const close = make('button', 'close');
  close.addEventListener('click', shut);
  const title = make('h3');
  const shade = state === '-' || state === 's' ? 'none' : state;
  title.append(make('span', SIGNS[state], 'mark', shade), make('bdi', host.name), ' ',
    make('code', data.columns[column]));
  const list = make('dl');
  const say = (word, text) => list.append(make('dt', word), make('dd', text));
  say('state', WORDS[state]);
  if (more.expected) say('expected', more.expected);
  if (host.seen[column] >= 0) say('seen', data.texts[host.seen[column]]);
  if (state !== '-') say('time', host.took[column] / 1000 + ' s'
    + (more.tries ? ' of ' + more.within + ' s, ' + more.tries
      + (more.tries === 1 ? ' try' : ' tries') : ''));
  detail.replaceChildren(close, title, list);
  if (host.at[column] >= 0) source(...data.places[host.at[column]]);
  if (more.trace && more.trace.length) {
    const steps = make('ol', undefined, 'trace');
    for (const [at, text] of more.trace) {
      const step = make('li');
      step.append(make('b', at.toFixed(2) + ' s'), ' ' + text);
      steps.append(step);
    }
    detail.append(steps);
  }
  if (more.log && more.log.length) detail.append(make('pre', more.log.join('\\n'), 'log'));
  for (const word of ['jobs', 'packets']) {
    if (!more[word] || !more[word].length) continue;
    const folded = make('details');
    folded.append(make('summary', word), make('pre', more[word].join('\\n'), 'log'));
    detail.append(folded);
  }
  if (more.repeat) {
    const line = make('p', 'repeat: ');
    line.append(make('code', more.repeat));
    detail.append(line);
  }
  detail.hidden = false;
  history.replaceState(null, '', '#' + encodeURIComponent(host.name) + '/'
    + encodeURIComponent(data.columns[column]));
  from = to = -1;
  draw();
}

function source(file, line) {
  detail.append(make('p', file + ':' + line, 'soft'));
  const found = data.excerpts.find(each => each.file === file && each.first <= line
    && line < each.first + each.lines.length);
  if (!found) return;
  const shown = make('pre', undefined, 'source');
  found.lines.forEach((text, place) => {
    const number = found.first + place;
    if (Math.abs(number - line) > LINES) return;
    shown.append(make('span', String(number).padStart(4) + '  ' + text + '\\n',
      number === line && 'here'));
  });
  detail.append(shown);
}

function shut() {
  opened = null;
  detail.hidden = true;
  history.replaceState(null, '', location.pathname + location.search);
  from = to = -1;
  draw();
}

function link() {
  const [name, check] = location.hash.slice(1).split('/').map(decodeURIComponent);
  const column = data.columns.indexOf(check);
  const row = rows.findIndex(each => each.host && each.host.name === name);
  if (column < 0 || row < 0) return;
  cursor = [row, Math.max(0, columns.indexOf(column))];
  open(rows[row].host, column);
  focus(true);
}

function topology() {
  const segments = new Map();
  for (const group of data.groups) for (const host of group.hosts) for (const at of host.on) {
    if (!segments.has(at)) segments.set(at, []);
    segments.get(at).push(host);
  }
  if (!segments.size) return;
  const place = find('topology');
  place.hidden = false;
  for (const [at, hosts] of segments) {
    const card = make('div', undefined, 'segment');
    card.append(make('h3', data.texts[at]), ...hosts.map(node));
    place.append(card);
  }
}

function node(host) {
  const bad = [...host.states].filter(state => state === 'f').length;
  const unsure = [...host.states].filter(state => state === 'u').length;
  const state = bad ? 'f' : unsure ? 'u' : 'h';
  const made = make('button', SIGNS[state] + ' ' + host.name, 'node', state);
  made.type = 'button';
  made.title = host.name + ': ' + (bad ? bad + ' do not hold' : unsure
    ? unsure + ' could not be judged' : 'nothing is wrong');
  made.addEventListener('click', () => {
    search.value = '';
    only.checked = false;
    choose();
    const column = Math.max(0, [...host.states].findIndex(each => each === state));
    cursor = [rows.findIndex(each => each.host === host), columns.indexOf(column)];
    open(host, column);
    focus(true);
  });
  return made;
}

function openAt(cell) {
  cursor = cell.dataset.at.split(',').map(Number);
  open(rows[cursor[0]].host, columns[cursor[1]]);
  focus(true);
}

const MOVES = {ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1],
  Home: [0, -1e6], End: [0, 1e6]};
scroll.addEventListener('keydown', event => {
  const cell = event.target.closest('td');
  if (!cell) return;
  if (MOVES[event.key]) move(...MOVES[event.key]);
  else if (event.key === 'Enter' || event.key === ' ') openAt(cell);
  else return;
  event.preventDefault();
});
scroll.addEventListener('click', event => {
  const cell = event.target.closest('td');
  if (cell) openAt(cell);
});
document.addEventListener('keydown', event => {
  if (event.key === 'Escape' && opened) { shut(); focus(true); }
  if (event.key === '/' && event.target !== search) { search.focus(); event.preventDefault(); }
});
scroll.addEventListener('scroll', draw);
addEventListener('resize', draw);
addEventListener('beforeprint', () => {
  printing = rows.length * columns.length <= MOST_PRINTED;
  draw();
});
addEventListener('afterprint', () => { printing = false; draw(); });
addEventListener('hashchange', link);
search.addEventListener('input', choose);
only.addEventListener('change', choose);
document.querySelector('.controls').hidden = false;
cursor = [1, 0];
choose();
topology();
link();
"""
