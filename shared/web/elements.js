/**
 * Making and filling elements. Text reaches the page as text nodes only, so nothing that a branch sends can become
 * markup.
 */

/** @typedef {Node | string | null | undefined} Child */
/** @typedef {'good' | 'busy' | 'warn' | 'bad' | 'idle' | 'none'} Kind */

/**
 * An element with class, text or children. `h('td', 'right', '5')`, `h('p', '', [child, child])`
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} [className]
 * @param {Child[] | string | null} [content]
 */
export function h(tag, className, content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (Array.isArray(content)) element.append(...present(content));
  else if (content) element.textContent = content;
  return element;
}

/** @param {Child[]} children */
function present(children) {
  return children.filter(child => child !== null && child !== undefined);
}

/**
 * An element of the page itself.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} [kind]
 * @returns {T}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof (kind ?? HTMLElement))) throw new Error(`The page has no ${id}.`);
  return /** @type {T} */ (element);
}

/**
 * Replaces what is in an element.
 * @param {Element} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
}

/**
 * @param {string} id
 * @param {string} text
 */
export function setText(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A button that keeps its focus while the page refreshes.
 * @param {string} text
 * @param {string} focus its name among what can be focused
 * @param {string} className
 * @param {() => unknown} onClick
 */
export function button(text, focus, className, onClick) {
  const element = h('button', className, text);
  element.type = 'button';
  element.dataset.focus = focus;
  element.addEventListener('click', () => void onClick());
  return element;
}

/**
 * Options of a select, keeping the choice; nothing is touched while they are the same.
 * @param {HTMLSelectElement} select
 * @param {[value: string, label: string][]} options
 * @param {string} [chosen]
 */
export function setOptions(select, options, chosen) {
  const wanted = JSON.stringify(options);
  if (select.dataset.options !== wanted) {
    select.dataset.options = wanted;
    fill(
      select,
      ...options.map(([value, label]) => {
        const option = h('option', '', label);
        option.value = value;
        return option;
      }),
    );
  }
  if (chosen !== undefined) select.value = chosen;
}

const SVG = 'http://www.w3.org/2000/svg';

/**
 * @param {string} tag
 * @param {Record<string, string>} attributes
 * @param {Child[]} children
 */
function svg(tag, attributes, children = []) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...present(children));
  return element;
}

/**
 * Shape and word show a state, not colour alone. Sixteen by sixteen, strokes.
 * @type {Record<Kind, string[]>}
 */
const ICONS = {
  good: ['M3.5 8.5 6.5 11.5 12.5 5'],
  busy: ['M13 8a5 5 0 1 1-1.6-3.7', 'M13 2.5v3h-3'],
  warn: ['M8 2.5 14 13H2Z', 'M8 6.5v3', 'M8 11.3v.1'],
  bad: ['M5.2 2h5.6L14 5.2v5.6L10.8 14H5.2L2 10.8V5.2Z', 'M8 5v3.5', 'M8 10.8v.1'],
  idle: ['M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.5Z'],
  none: ['M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11Z'],
};

/** @param {Kind} kind */
export function icon(kind) {
  const paths = ICONS[kind].map(d => svg('path', { d }));
  return svg('svg', { viewBox: '0 0 16 16', class: 'icon', 'aria-hidden': 'true' }, paths);
}

/**
 * @param {Kind} kind
 * @param {string} text
 */
export function pill(kind, text) {
  return h('span', `pill ${kind}`, [icon(kind), text]);
}

/**
 * @param {string} id
 * @param {Kind} kind
 * @param {string} text
 */
export function setPill(id, kind, text) {
  const element = byId(id);
  const shown = `${kind} ${text}`;
  if (element.dataset.shown === shown) return;
  element.dataset.shown = shown;
  element.className = `pill ${kind}`;
  fill(element, icon(kind), text);
}

/**
 * A figure over time as a small curve.
 * @param {readonly number[]} values
 * @param {string} text what it says, for those who do not see it, and on hovering
 */
export function sparkline(values, text) {
  const width = 240;
  const height = 44;
  const most = Math.max(...values, 1);
  const points = values
    .map((value, i) => {
      const x = (i / (values.length - 1)) * width;
      return `${x.toFixed(1)},${(height - 2 - (value / most) * (height - 6)).toFixed(1)}`;
    })
    .join(' ');
  const curve = [
    svg('polygon', { points: `0,${height} ${points} ${width},${height}`, class: 'area' }),
    svg('polyline', { points, class: 'line' }),
  ];
  return svg(
    'svg',
    { viewBox: `0 0 ${width} ${height}`, class: 'sparkline', role: 'img', preserveAspectRatio: 'none' },
    [svg('title', {}, [text]), ...(values.length < 2 ? [] : curve)],
  );
}

/**
 * Rows of a definition list; pairs without a value are left out.
 * @param {[label: string, value: Node | string | null | undefined][]} pairs
 */
export function facts(pairs) {
  return pairs.flatMap(([label, value]) => (value ? [h('dt', '', label), h('dd', '', [value])] : []));
}

/**
 * A fault and what to do about it.
 * @param {'warn' | 'bad'} kind
 * @param {string} title
 * @param {string} message
 * @param {string} [hint]
 * @param {Child} [more] what stands below, such as buttons
 */
export function banner(kind, title, message, hint, more) {
  return h('div', `banner ${kind}`, [
    icon(kind),
    h('div', 'banner-text', [
      h('strong', '', title),
      h('p', '', message),
      hint ? h('p', 'hint', [h('span', 'hint-label', 'What to do: '), hint]) : null,
      more,
    ]),
  ]);
}
