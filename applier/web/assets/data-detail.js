/** One row in full: where it came from, its values, and its versions if they are kept. */
import { banner, facts, fill, h } from '/assets/elements.js';
import { tableText } from '/assets/numbers.js';
import { getJson, messageOf } from '/assets/server.js';
import { TEXTS } from '/assets/texts.js';

/** @import { RowDetail, RowVersion } from '../row-detail.ts' */

const T = TEXTS.data;

/**
 * @param {string} table
 * @param {readonly string[]} key
 */
export async function showDetail(table, key) {
  const close = h('button', '', T.close);
  close.type = 'button';
  const title = h('h2', '', T.rowOf(table));
  title.id = 'row-title';
  const content = h('div', 'row-content', [h('p', 'muted', T.loading)]);
  const dialog = h('dialog', 'row-dialog', [h('div', 'row-head', [title, close]), content]);
  dialog.setAttribute('aria-labelledby', title.id);
  close.addEventListener('click', () => dialog.close());
  dialog.addEventListener('close', () => dialog.remove());
  // A click beside it closes it.
  dialog.addEventListener('click', ({ target }) => {
    if (target === dialog) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  try {
    const path = `/api/tables/${encodeURIComponent(table)}/row?${new URLSearchParams({ key: JSON.stringify(key) })}`;
    const row = /** @type {RowDetail} */ (await getJson(path));
    fill(content, origin(row), values(row), row.versions === null ? null : versions(row, row.versions));
  } catch (error) {
    fill(content, banner('warn', T.failed, messageOf(error)));
  }
}

/** @param {RowDetail} row */
function origin({ source, batch, changedAt, versions: kept }) {
  const branch = h('a', '', source?.branch ?? '');
  branch.href = `#/branch/${encodeURIComponent(source?.branch ?? '')}`;
  branch.addEventListener('click', () => document.querySelector('dialog')?.close());
  const present = kept?.find(version => version.validUntil === null) ?? null;
  const committed = kept === null || present === null ? T.notKept : (utc(present.committedAt) ?? T.bySnapshot);
  return h('section', '', [
    h('h3', '', T.origin),
    h(
      'dl',
      'facts row-facts',
      facts([
        [T.branch, source === null ? null : branch],
        [T.fromTable, source === null ? null : tableText(source)],
        [T.batch, batch],
        [T.committed, committed],
        [T.written, utc(changedAt)],
      ]),
    ),
  ]);
}

/** @param {string | null} time */
function utc(time) {
  return time === null ? null : `${time} ${T.utc}`;
}

/** @param {RowDetail} row */
function values({ columns, values: cells }) {
  return h('section', '', [
    h('h3', '', T.values),
    h(
      'dl',
      'facts row-facts',
      columns.flatMap(({ name, utc: isUtc }, i) => {
        const value = cells[i] ?? null;
        return [
          h('dt', '', isUtc ? `${name} (${T.utc})` : name),
          h('dd', value === null ? 'null' : 'row-value', value ?? T.nothing),
        ];
      }),
    ),
  ]);
}

/**
 * @param {RowDetail} row
 * @param {readonly RowVersion[]} kept
 */
function versions({ versionColumns }, kept) {
  const heads = [T.validFrom, T.validUntil, T.committedAt, T.changed].map(text => {
    const cell = h('th', '', text);
    cell.scope = 'col';
    return cell;
  });
  const rows = kept.map((version, i) =>
    h('tr', '', [
      h('td', 'nowrap', version.validFrom),
      h('td', 'nowrap', version.validUntil ?? T.now),
      h('td', 'nowrap', version.committedAt ?? T.bySnapshot),
      h('td', 'wrap', changesOf(version, kept[i + 1] ?? null, versionColumns)),
    ]),
  );
  const region = h('div', 'sheet', [h('table', '', [h('thead', '', [h('tr', '', heads)]), h('tbody', '', rows)])]);
  region.tabIndex = 0;
  region.role = 'region';
  region.ariaLabel = T.versions;
  return h('section', '', [h('h3', '', T.versions), region]);
}

/**
 * @param {RowVersion} version
 * @param {RowVersion | null} before
 * @param {readonly string[]} columns
 */
function changesOf(version, before, columns) {
  if (version.deleted) return T.deleted;
  if (before === null) return T.firstKept;
  const changed = columns.flatMap((name, i) => {
    const [was, is] = [before.values[i] ?? null, version.values[i] ?? null];
    return was === is && !before.deleted
      ? []
      : [`${name}: ${before.deleted ? '' : `${was ?? T.nothing} → `}${is ?? T.nothing}`];
  });
  return changed.length === 0 ? T.unchanged : changed.join('; ');
}
