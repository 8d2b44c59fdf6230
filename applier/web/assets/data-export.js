/** Exports of what is chosen: the file is kept here while it comes, so that it can be cancelled and a fault be told. */
import { byId } from '/assets/elements.js';
import { bytes } from '/assets/numbers.js';
import { messageOf, notice } from '/assets/server.js';
import { TEXTS } from '/assets/texts.js';

const T = TEXTS.data;
const running = byId('export-running');
const said = byId('export-said');
const buttons = [byId('export-csv', HTMLButtonElement), byId('export-xlsx', HTMLButtonElement)];
/** @type {AbortController | null} */
let current = null;

/** @param {() => { table: string, query: URLSearchParams }} chosen */
export function listenToExport(chosen) {
  byId('export-csv').addEventListener('click', () => void start('csv', chosen()));
  byId('export-xlsx').addEventListener('click', () => void start('xlsx', chosen()));
  byId('export-cancel').addEventListener('click', () => current?.abort());
}

/** @param {string} table whose completeness the link leads to */
export function exportLink(table) {
  const link = byId('export-completeness', HTMLAnchorElement);
  link.href = `/api/tables/${encodeURIComponent(table)}/completeness.csv`;
  link.download = `${table}-completeness.csv`;
  link.title = T.completenessTitle;
}

/**
 * @param {'csv' | 'xlsx'} format
 * @param {{ table: string, query: URLSearchParams }} chosen
 */
async function start(format, { table, query }) {
  if (current !== null || table === '') return;
  current = new AbortController();
  show(T.exporting(bytes(0)));
  try {
    query.set('format', format);
    const path = `/api/tables/${encodeURIComponent(table)}/export?${query}`;
    const response = await fetch(path, { signal: current.signal });
    if (!response.ok || response.body === null) throw new Error(await refusal(response));
    keep(await collect(response.body), nameOf(response));
    notice('good', T.exported);
  } catch (error) {
    if (current.signal.aborted) notice('good', T.cancelled);
    else notice('bad', `${T.exportFailed}: ${error instanceof TypeError ? T.cutOff : messageOf(error)}`);
  } finally {
    current = null;
    show(null);
  }
}

/** @param {string | null} text */
function show(text) {
  running.hidden = text === null;
  said.textContent = text ?? '';
  for (const button of buttons) button.disabled = text !== null;
}

/**
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
 * @throws {TypeError} where the connection was cut
 */
async function collect(body) {
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const parts = [];
  let size = 0;
  const reader = body.getReader();
  for (;;) {
    /** @type {ReadableStreamReadResult<Uint8Array<ArrayBuffer>>} */
    const read = await reader.read();
    if (read.done) return new Blob(parts);
    parts.push(read.value);
    size += read.value.length;
    said.textContent = T.exporting(bytes(size));
  }
}

/** @param {Response} response */
async function refusal(response) {
  /** @type {unknown} */
  const answer = await response.json().catch(() => null);
  const reply = /** @type {{ error?: { message: string } } | null} */ (answer);
  return reply?.error?.message ?? `${response.status}`;
}

/** @param {Response} response */
function nameOf(response) {
  return /filename="([^"]+)"/.exec(response.headers.get('content-disposition') ?? '')?.[1] ?? 'export';
}

/**
 * @param {Blob} file
 * @param {string} name
 */
function keep(file, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  // The browser has begun to write it by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
