/** Talking to the server behind the page: asking it again and again without piling up, and acting with the token. */
import { banner, byId, fill, h, icon, setPill, setText } from '/assets/elements.js';
import { zonedTime } from '/assets/times.js';

/** What the server has refused, or that it has not answered; the message is for people. */
export class ServerError extends Error {
  /**
   * @param {string} message
   * @param {string} code '' without one
   */
  constructor(message, code = '') {
    super(message);
    this.code = code;
  }
}

/** @param {unknown} error */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/**
 * GET as JSON within ten seconds.
 * @param {string} path
 * @param {number} [withinMs]
 * @param {AbortSignal[]} withdrawn each ends the question
 * @throws {ServerError}
 */
export function getJson(path, withinMs = 10_000, ...withdrawn) {
  const signal = AbortSignal.any([AbortSignal.timeout(withinMs), ...withdrawn]);
  return ask(path, { signal, headers: { accept: 'application/json' } });
}

/**
 * @param {string} path
 * @param {RequestInit} request
 * @returns {Promise<unknown>}
 */
async function ask(path, request) {
  const response = await fetch(path, request).catch(() => {
    throw new ServerError('The server of this page does not answer.');
  });
  const reply = /** @type {unknown} */ (await response.json().catch(() => null));
  if (response.ok) return reply;
  const { error } = /** @type {{ error?: { message: string, code: string } }} */ (reply ?? {});
  throw new ServerError(error?.message ?? `The server answered ${response.status}.`, error?.code);
}

// ------------------------------------------------------------------------------------------------ notices, questions

/** @type {ReturnType<typeof setTimeout> | undefined} */
let noticeTimer;

/**
 * Says in the corner what an action has done; screen readers read it out.
 * @param {'good' | 'bad'} kind
 * @param {string} text
 */
export function notice(kind, text) {
  clearTimeout(noticeTimer);
  const corner = byId('notice');
  fill(corner, h('div', `notice ${kind}`, [icon(kind), text]));
  noticeTimer = setTimeout(() => fill(corner), 8000);
}

/**
 * Asks the person something; resolves to what `read` gives, or to null when the person cancels.
 * @template T
 * @param {{ title: string, content: HTMLElement[], confirm: string, danger?: boolean, read: () => T }} question
 * @returns {Promise<T | null>}
 */
function askPerson({ title, content, confirm, danger = false, read }) {
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
    /** @type {T | null} */
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

/**
 * Whether the person confirms.
 * @param {string} title
 * @param {string[]} paragraphs
 * @param {string} confirm
 */
export async function confirmAction(title, paragraphs, confirm) {
  const content = paragraphs.map(text => h('p', '', text));
  return (await askPerson({ title, content, confirm, danger: true, read: () => true })) ?? false;
}

// ----------------------------------------------------------------------------------------------------------- acting

const TOKEN_KEY = 'tributary-token';

/** @typedef {'sync' | 'operate'} ActingRole */

/** That of this tab, else the one that this computer keeps. */
function knownToken() {
  return sessionStorage.getItem(TOKEN_KEY) ?? localStorage.getItem(TOKEN_KEY);
}

/** The one that was used. */
function forgetToken() {
  const place = sessionStorage.getItem(TOKEN_KEY) === null ? localStorage : sessionStorage;
  place.removeItem(TOKEN_KEY);
}

/**
 * A token that only has a branch send what waits stays on this computer, for the shop's manager. Any other one goes with
 * the tab.
 * @param {string} token
 * @throws {ServerError} TOKEN_WRONG
 */
async function keepToken(token) {
  const { role } = /** @type {{ role: ActingRole }} */ (await post('/api/token', {}, token));
  if (role === 'sync') sessionStorage.removeItem(TOKEN_KEY);
  (role === 'sync' ? localStorage : sessionStorage).setItem(TOKEN_KEY, token);
}

/** The link that the command `token` prints carries the token after the #, which no server sees. */
function takeTokenFromAddress() {
  const token = /^#token=([\w-]+)$/.exec(location.hash)?.[1];
  if (token === undefined) return;
  sessionStorage.setItem(TOKEN_KEY, token);
  history.replaceState(null, '', location.pathname + location.search);
  // One that is wrong is asked for again when it is used.
  keepToken(token).catch(() => undefined);
}

takeTokenFromAddress();

// A link to #main would be taken for a view.
document.querySelector('.skip')?.addEventListener('click', event => {
  event.preventDefault();
  byId('main').focus();
});

/**
 * @param {'agent' | 'applier'} program whose command prints the token
 * @param {ActingRole} role that the action needs
 * @param {string} why the token before does not do; '': there was none
 */
function askForToken(program, role, why) {
  const input = h('input', 'token-input');
  input.type = 'password';
  input.id = 'token-input';
  input.autocomplete = 'off';
  input.spellcheck = false;
  input.required = true;
  const label = h('label', '', 'Token');
  label.htmlFor = input.id;
  const content = [
    h('p', '', [
      'Everybody who reaches this page may look; only who has a token may act. To print the token, run ',
      h('code', '', `tributary-${program} token${role === 'operate' ? '' : ` --role ${role}`}`),
      ' on the machine where it runs, as root or as the user that it runs as. ',
      role === 'sync' ? 'This computer keeps that token.' : 'This tab keeps the token until you close it.',
    ]),
    label,
    input,
  ];
  if (why !== '') content.unshift(h('p', 'wrong', [icon('warn'), why]));
  return askPerson({
    title: 'This needs a token of this page',
    content,
    confirm: 'Continue',
    read: () => input.value.trim(),
  });
}

/**
 * @param {string} path
 * @param {object} body
 * @param {string | null} token
 */
function post(path, body, token) {
  return ask(path, {
    method: 'POST',
    signal: AbortSignal.timeout(30_000),
    headers: { 'content-type': 'application/json', ...(token === null ? {} : { 'x-tributary-token': token }) },
    body: JSON.stringify(body),
  });
}

/** Whether a proxy has signed the person in, so that no token is needed. */
async function isSignedIn() {
  const { name } = /** @type {{ name: string | null }} */ (await getJson('/api/me'));
  return name !== null;
}

/**
 * POST from this page with a token; asks the person for it where it is not known. Resolves to the answer, or to null
 * when the person cancels.
 * @param {'agent' | 'applier'} program whose command prints the token
 * @param {string} path
 * @param {ActingRole} role that the action needs
 * @param {object} [body]
 */
export async function act(program, path, role, body = {}) {
  let isAsked = false;
  for (let why = ''; ;) {
    try {
      if (isAsked || (knownToken() === null && !(await isSignedIn()))) {
        const given = await askForToken(program, role, why);
        if (given === null || given === '') return null;
        await keepToken(given);
        isAsked = false;
      }
      return await post(path, body, knownToken());
    } catch (error) {
      const code = error instanceof ServerError ? error.code : '';
      const isRefused = code === 'TOKEN_WRONG' || code === 'TOKEN_MISSING';
      // Whom the proxy has signed in cannot do better with another token.
      if (!isRefused && !(code === 'ROLE_TOO_LOW' && knownToken() !== null)) throw error;
      if (code === 'TOKEN_WRONG') forgetToken();
      why = code === 'TOKEN_WRONG' ? 'That is not a token of this page.' : messageOf(error);
      isAsked = true;
    }
  }
}

// ------------------------------------------------------------------------------------------------------- refreshing

/**
 * Without an answer nothing on the page is known to be true: it turns grey, and takes its states back.
 * @param {Date | null} answeredAt
 * @param {string} message
 */
function showStale(answeredAt, message) {
  const since = answeredAt === null ? '' : ` since ${zonedTime(answeredAt)}`;
  fill(
    byId('connection'),
    banner(
      'warn',
      `No answer${since}`,
      message,
      'Check that the program runs and can be reached from here. The page retries by itself; what it shows is old.',
    ),
  );
  document.body.classList.add('stale');
  for (const { id } of document.querySelectorAll('.pill[id]')) setPill(id, 'none', `${id} not known`);
}

/**
 * Runs `work` every `everyMs`, one at a time, more slowly while the page is hidden; shows how fresh it is in #updated
 * and a banner in #connection while it fails. Returns a function that runs it at once.
 * @param {number} everyMs
 * @param {() => Promise<void>} work
 */
export function refresh(everyMs, work) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {Date | null} */
  let answeredAt = null;
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
      answeredAt = new Date();
      setText('updated', `updated ${zonedTime(answeredAt)}`);
      fill(byId('connection'));
      document.body.classList.remove('stale');
    } catch (error) {
      showStale(answeredAt, messageOf(error));
    } finally {
      running = false;
      timer = setTimeout(() => void run(), again ? 0 : document.hidden ? everyMs * 5 : everyMs);
      again = false;
    }
  };
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) void run();
  });
  void run();
  return run;
}
