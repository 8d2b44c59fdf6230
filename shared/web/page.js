/**
 * What both pages use: making elements, showing numbers and times, asking again and again without piling up, and
 * acting with the token. Text reaches the page through textContent only, so nothing that a branch sends can become
 * markup.
 */

// ------------------------------------------------------------------------------------------------------- elements

/** An element with class, text or children. `h('td', 'right', '5')`, `h('p', '', [child, child])` */
export function h(tag, className, content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (Array.isArray(content)) element.append(...content.filter(child => child !== null && child !== undefined));
  else if (content !== undefined && content !== null) element.textContent = String(content);
  return element;
}

/** Replaces what is in an element, found by id or given. */
export function fill(target, ...children) {
  const element = typeof target === 'string' ? document.getElementById(target) : target;
  element.replaceChildren(...children.filter(child => child !== null && child !== undefined));
  return element;
}

export function setText(id, text) {
  const element = document.getElementById(id);
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Brings the children of an element in line with the items; children that it did not make stay in front. A child is
 * replaced only when it shows something else, and only moved otherwise: what is focused, hovered or selected stays so
 * while the page refreshes.
 * @param keyOf names an item among the others; `make(item)` gives its element
 */
export function patch(parent, items, keyOf, make) {
  const children = [...parent.children].filter(child => child.dataset.key !== undefined);
  const present = new Map(children.map(child => [child.dataset.key, child]));
  let place = children[0] ?? null;
  for (const item of items) {
    const key = String(keyOf(item));
    const fresh = make(item);
    fresh.dataset.key = key;
    let child = present.get(key);
    present.delete(key);
    if (child === undefined) child = fresh;
    else if (child.isEqualNode(fresh)) takeTimes(child, fresh);
    else {
      const focused = child.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
      if (place === child) place = fresh;
      child.replaceWith(fresh);
      child = fresh;
      if (focused !== undefined) refocus(child, focused);
    }
    if (child === place) place = child.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const gone of present.values()) gone.remove();
}

function refocus(element, name) {
  if (element.dataset.focus === name) element.focus();
  else element.querySelector(`[data-focus="${CSS.escape(name)}"]`)?.focus();
}

const SVG = 'http://www.w3.org/2000/svg';

function svg(tag, attributes, children = []) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A state is told by shape and word, not by colour alone. Sixteen by sixteen, strokes. */
const ICONS = {
  good: ['M3.5 8.5 6.5 11.5 12.5 5'],
  busy: ['M13 8a5 5 0 1 1-1.6-3.7', 'M13 2.5v3h-3'],
  warn: ['M8 2.5 14 13H2Z', 'M8 6.5v3', 'M8 11.3v.1'],
  bad: ['M5.2 2h5.6L14 5.2v5.6L10.8 14H5.2L2 10.8V5.2Z', 'M8 5v3.5', 'M8 10.8v.1'],
  idle: ['M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.5Z'],
  none: ['M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11Z'],
};

export function icon(name) {
  const paths = (ICONS[name] ?? ICONS.none).map(d => svg('path', { d }));
  return svg('svg', { viewBox: '0 0 16 16', class: 'icon', 'aria-hidden': 'true' }, paths);
}

export function pill(kind, text) {
  return h('span', `pill ${kind}`, [icon(kind), document.createTextNode(text)]);
}

export function setPill(id, kind, text) {
  const element = document.getElementById(id);
  const shown = `${kind} ${text}`;
  if (element.dataset.shown === shown) return;
  element.dataset.shown = shown;
  element.className = `pill ${kind}`;
  fill(element, icon(kind), document.createTextNode(text));
}

/** A figure over time as a small curve. @param text what it says, for those who do not see it, and on hovering */
export function sparkline(values, text) {
  const width = 240;
  const height = 44;
  const root = svg('svg', {
    viewBox: `0 0 ${width} ${height}`,
    class: 'sparkline',
    role: 'img',
    preserveAspectRatio: 'none',
  });
  root.append(svg('title', {}, [document.createTextNode(text)]));
  if (values.length < 2) return root;
  const most = Math.max(...values, 1);
  const points = values.map((value, i) => {
    const x = (i / (values.length - 1)) * width;
    return `${x.toFixed(1)},${(height - 2 - (value / most) * (height - 6)).toFixed(1)}`;
  });
  root.append(
    svg('polygon', { points: `0,${height} ${points.join(' ')} ${width},${height}`, class: 'area' }),
    svg('polyline', { points: points.join(' '), class: 'line' }),
  );
  return root;
}

/** Rows of a definition list: pairs of label and text or element; pairs without a value are left out. */
export function facts(pairs) {
  return pairs
    .filter(([, value]) => value !== null && value !== undefined && value !== '')
    .flatMap(([label, value]) => [
      h('dt', '', label),
      value instanceof Node ? h('dd', '', [value]) : h('dd', '', value),
    ]);
}

// -------------------------------------------------------------------------------------------------------- numbers

const numbers = new Intl.NumberFormat('en-GB');

export function count(value) {
  return value === null || value === undefined ? '–' : numbers.format(value);
}

/** A table as people type it, as `tableText` of shared/table-name.ts has it: a name with a dot stands in backquotes. */
export function tableText({ schema, name }) {
  const part = text => (/[.`]/.test(text) ? `\`${text.replaceAll('`', '``')}\`` : text);
  return `${part(schema)}.${part(name)}`;
}

export function plural(value, one, many) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

export function bytes(value) {
  if (value === null || value === undefined) return '–';
  let amount = value;
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (amount < 1024)
      return `${amount >= 100 || Number.isInteger(amount) ? Math.round(amount) : amount.toFixed(1)} ${unit}`;
    amount /= 1024;
  }
  return `${amount.toFixed(1)} TiB`;
}

/** A rate with as many digits as say something. */
export function rate(perSecond, unit) {
  if (perSecond < 0.05) return null;
  const shown = perSecond >= 10 ? count(Math.round(perSecond)) : perSecond.toFixed(1);
  return `${shown} ${unit}/s`;
}

/** Seconds in the one or two largest units. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds < 1) return 'under 1 s';
  const whole = Math.floor(seconds);
  const parts = [
    [Math.floor(whole / 86400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ];
  const first = parts.findIndex(([amount]) => amount > 0);
  return parts
    .slice(first, first + 2)
    .filter(([amount]) => amount > 0)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(' ');
}

// ---------------------------------------------------------------------------------------------------------- times

const dateTime = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
const timeOfDay = new Intl.DateTimeFormat('en-GB', { timeStyle: 'short' });
const dayAndTime = new Intl.DateTimeFormat('en-GB', {
  weekday: 'short',
  day: 'numeric',
  month: 'short',
  hour: '2-digit',
  minute: '2-digit',
});

/** How far this machine's clock is behind the server's: times are told by the server's. */
let clockOffsetMs = 0;

export function serverTime(iso) {
  clockOffsetMs = Date.parse(iso) - Date.now();
}

/** A time in full, in the reader's time zone. */
export function fullTime(iso) {
  return dateTime.format(new Date(iso));
}

/** The exact time behind each element that shows one: not in the document, so that showing it anew changes nothing. */
const times = new WeakMap();

function timed(element, iso) {
  times.set(element, iso);
  return element;
}

function takeTimes(to, from) {
  const newer = from.querySelectorAll('time');
  to.querySelectorAll('time').forEach((element, i) => times.set(element, times.get(newer[i])));
}

function agoText(iso) {
  const seconds = (Date.now() + clockOffsetMs - Date.parse(iso)) / 1000;
  return seconds < 5 ? 'just now' : `${duration(seconds)} ago`;
}

/** How long ago, going on by itself; the exact time shows on hovering. */
export function ago(iso) {
  if (iso === null || iso === undefined) return h('span', 'muted', 'never');
  return timed(h('time', 'nowrap ago', agoText(iso)), iso);
}

setInterval(() => {
  for (const element of document.querySelectorAll('time.ago')) {
    const text = agoText(times.get(element));
    if (element.textContent !== text) element.textContent = text;
  }
}, 1000);

document.addEventListener('mouseover', ({ target }) => {
  if (target instanceof HTMLTimeElement && times.has(target)) target.title = fullTime(times.get(target));
});

/** A time of day, with its date when it is not today. */
export function clock(iso) {
  const date = new Date(iso);
  const sameDay = date.toDateString() === new Date(Date.now() + clockOffsetMs).toDateString();
  return sameDay ? timeOfDay.format(date) : dayAndTime.format(date);
}

/** The same as an element, in full on hovering. */
export function clockTime(iso) {
  return timed(h('time', 'nowrap', clock(iso)), iso);
}

// --------------------------------------------------------------------------------------------------------- notices

/** A fault with its cure. `more`: elements below it, such as buttons. */
export function banner(kind, title, message, cure, more) {
  return h('div', `banner ${kind}`, [
    icon(kind === 'warn' ? 'warn' : 'bad'),
    h('div', 'banner-text', [
      h('strong', '', title),
      h('p', '', message),
      cure ? h('p', 'cure', [h('span', 'cure-label', 'What to do: '), document.createTextNode(cure)]) : null,
      more ?? null,
    ]),
  ]);
}

let noticeTimer;

/** Says in the corner what an action has done; read out by screen readers. */
export function notice(kind, text) {
  clearTimeout(noticeTimer);
  fill('notice', h('div', `notice ${kind}`, [icon(kind), document.createTextNode(text)]));
  noticeTimer = setTimeout(() => fill('notice'), 8000);
}

/** A question with a button that answers it; resolves to what `read` gives, or null. */
function ask({ title, content, confirm, danger = false, read = () => true }) {
  return new Promise(resolve => {
    const cancel = h('button', '', 'Cancel');
    cancel.type = 'button';
    const ok = h('button', danger ? 'danger' : 'primary', confirm);
    ok.type = 'submit';
    const heading = h('h2', '', title);
    heading.id = 'dialog-title';
    const form = h('form', '', [heading, ...content, h('div', 'dialog-buttons', [cancel, ok])]);
    const dialog = h('dialog', '', [form]);
    dialog.setAttribute('aria-labelledby', 'dialog-title');
    let answer = null;
    form.addEventListener('submit', event => {
      event.preventDefault();
      answer = read();
      dialog.close();
    });
    cancel.addEventListener('click', () => dialog.close());
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(answer);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Whether the person really wants that. */
export function confirmAction(title, paragraphs, confirm) {
  const content = paragraphs.map(text => h('p', '', text));
  return ask({ title, content, confirm, danger: true });
}

// ------------------------------------------------------------------------------------------------- asking the server

/** GET as JSON within ten seconds; throws an Error whose message is for people. */
export async function getJson(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(10_000), headers: { accept: 'application/json' } });
  return readReply(response);
}

async function readReply(response) {
  const reply = await response.json();
  if (response.ok) return reply;
  const error = new Error(reply.error?.message ?? `the server answered ${response.status}`);
  error.code = reply.error?.code ?? '';
  error.status = response.status;
  throw error;
}

const TOKEN_KEY = 'tributary-token';

/** The link that the command `token` prints brings the token along, after the #, where no server sees it. */
function takeTokenFromAddress() {
  const match = /^#token=([\w-]+)$/.exec(location.hash);
  if (match === null) return;
  sessionStorage.setItem(TOKEN_KEY, match[1]);
  history.replaceState(null, '', location.pathname + location.search);
}
takeTokenFromAddress();

// A link to #main would be taken for a view.
document.querySelector('.skip')?.addEventListener('click', event => {
  event.preventDefault();
  document.getElementById('main').focus();
});

async function askForToken(program, wrong) {
  const input = h('input', 'token-input');
  input.type = 'password';
  input.id = 'token-input';
  input.autocomplete = 'off';
  input.spellcheck = false;
  input.required = true;
  const label = h('label', '', 'Token');
  label.htmlFor = input.id;
  const command = h('code', '', `tributary-${program} token`);
  const content = [
    wrong ? h('p', 'wrong', [icon('warn'), document.createTextNode('That was not the token of this page.')]) : null,
    h('p', '', [
      document.createTextNode(
        'Looking needs no right; doing does. On the machine where it runs, as root or as its own user, ',
      ),
      command,
      document.createTextNode(' prints the token. It is kept in this tab until you close it.'),
    ]),
    label,
    input,
  ].filter(child => child !== null);
  return ask({ title: 'This needs the page’s token', content, confirm: 'Go on', read: () => input.value.trim() });
}

/**
 * POST from this page with the token, which is asked for where it is not known. Resolves to the answer, or to null
 * when the person gave up.
 * @param program `agent` or `applier`: whose command prints the token
 */
export async function act(program, path, body = {}) {
  for (let wrong = false; ; wrong = true) {
    const token = sessionStorage.getItem(TOKEN_KEY) ?? (await askForToken(program, wrong));
    if (token === null || token === '') return null;
    sessionStorage.setItem(TOKEN_KEY, token);
    try {
      const response = await fetch(path, {
        method: 'POST',
        signal: AbortSignal.timeout(20_000),
        headers: { 'content-type': 'application/json', 'x-tributary-token': token },
        body: JSON.stringify(body),
      });
      return await readReply(response);
    } catch (error) {
      if (error.code !== 'TOKEN_WRONG' && error.code !== 'TOKEN_MISSING') throw error;
      sessionStorage.removeItem(TOKEN_KEY);
    }
  }
}

/**
 * Runs `work` every `everyMs`, one at a time, slower while the page is hidden; shows how fresh it is in #updated and a
 * banner in #connection while it fails. Returns a function that runs it at once.
 */
export function refresh(everyMs, work) {
  let timer;
  let running = false;
  let again = false;
  const run = async () => {
    clearTimeout(timer);
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      await work();
      setText('updated', `updated ${new Date().toLocaleTimeString('en-GB')}`);
      document.getElementById('connection').replaceChildren();
      document.body.classList.remove('stale');
    } catch (error) {
      fill(
        'connection',
        banner('warn', 'No answer', error.message, 'Nothing: it is tried again. What is shown is old.'),
      );
      document.body.classList.add('stale');
    } finally {
      running = false;
      timer = setTimeout(run, again ? 0 : document.hidden ? everyMs * 5 : everyMs);
      again = false;
    }
  };
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) void run();
  });
  void run();
  return run;
}
