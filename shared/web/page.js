/**
 * What both pages use: making elements, showing numbers and times, and asking again and again without piling up.
 * Text reaches the page through textContent only, so nothing that a branch sends can become markup.
 */

/** An element with class, text or children. `h('td', 'right', '5')`, `h('p', '', [child, child])` */
export function h(tag, className, content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (Array.isArray(content)) element.append(...content.filter(child => child !== null));
  else if (content !== undefined && content !== null) element.textContent = String(content);
  return element;
}

/** Replaces what is in an element, found by id or given. */
export function fill(target, ...children) {
  const element = typeof target === 'string' ? document.getElementById(target) : target;
  element.replaceChildren(...children.filter(child => child !== null));
  return element;
}

export function setText(id, text) {
  const element = document.getElementById(id);
  if (element.textContent !== text) element.textContent = text;
}

export function pill(kind, text) {
  return h('span', `pill ${kind}`, text);
}

export function setPill(id, kind, text) {
  const element = document.getElementById(id);
  element.className = `pill ${kind}`;
  element.textContent = text;
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

const numbers = new Intl.NumberFormat('en-GB');

export function count(value) {
  return value === null || value === undefined ? '–' : numbers.format(value);
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

const dateTime = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
const timeOfDay = new Intl.DateTimeFormat('en-GB', { timeStyle: 'short' });
const dayAndTime = new Intl.DateTimeFormat('en-GB', {
  weekday: 'short',
  day: 'numeric',
  month: 'short',
  hour: '2-digit',
  minute: '2-digit',
});

/** A time in full, in the reader's time zone. */
export function fullTime(iso) {
  return dateTime.format(new Date(iso));
}

/** How long ago, by the server's clock; the exact time shows on hovering. */
export function ago(iso, now) {
  if (iso === null || iso === undefined) return h('span', 'muted', 'never');
  const seconds = (Date.parse(now) - Date.parse(iso)) / 1000;
  const element = h('span', 'nowrap', seconds < 2 ? 'just now' : `${duration(seconds)} ago`);
  element.title = fullTime(iso);
  return element;
}

/** A time of day, with its date when it is not today. */
export function clock(iso, now) {
  const date = new Date(iso);
  const sameDay = date.toDateString() === new Date(now).toDateString();
  return sameDay ? timeOfDay.format(date) : dayAndTime.format(date);
}

/** A fault with its cure. */
export function banner(kind, title, message, cure) {
  return h('div', `banner ${kind}`, [h('strong', '', title), h('p', '', message), cure ? h('p', 'small', cure) : null]);
}

/** GET as JSON within ten seconds; throws an Error whose message is for people. */
export async function getJson(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(10_000), headers: { accept: 'application/json' } });
  return readReply(response);
}

/** POST from this page: with the token that only this page's origin can read. */
export async function postJson(path, body) {
  const { token } = await getJson('/api/token');
  const response = await fetch(path, {
    method: 'POST',
    signal: AbortSignal.timeout(20_000),
    headers: { 'content-type': 'application/json', 'x-tributary-token': token },
    body: body === undefined ? '' : JSON.stringify(body),
  });
  return readReply(response);
}

async function readReply(response) {
  const reply = await response.json();
  if (!response.ok) throw new Error(reply.error?.message ?? `the server answered ${response.status}`);
  return reply;
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
      fill('connection');
    } catch (error) {
      fill('connection', banner('warn', 'No answer', error.message, 'What is shown below is old. Trying again.'));
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
