/** Keeps a list of elements in line with what the server says. */
import { takeTimes } from '/assets/times.js';

/**
 * Brings the children of an element in line with the items; children that it did not make stay in front. A child is
 * replaced only when it shows something else, and only moved otherwise: what is focused, hovered or selected stays so
 * while the page refreshes.
 * @template Item
 * @param {Element} parent
 * @param {readonly Item[]} items
 * @param {(item: Item) => string} keyOf names an item among the others
 * @param {(item: Item) => HTMLElement} make
 */
export function patch(parent, items, keyOf, make) {
  const children = [...parent.children].filter(
    child => child instanceof HTMLElement && child.dataset.key !== undefined,
  );
  const present = new Map(children.map(child => [/** @type {HTMLElement} */ (child).dataset.key, child]));
  let place = children[0] ?? null;
  for (const item of items) {
    const key = keyOf(item);
    const fresh = make(item);
    fresh.dataset.key = key;
    const known = present.get(key);
    present.delete(key);
    /** @type {Element} */
    let child = known ?? fresh;
    if (known?.isEqualNode(fresh)) takeTimes(known, fresh);
    else if (known !== undefined) {
      const focused = known.contains(document.activeElement) ? document.activeElement : null;
      if (place === known) place = fresh;
      known.replaceWith(fresh);
      child = fresh;
      if (focused instanceof HTMLElement && focused.dataset.focus) refocus(fresh, focused.dataset.focus);
    }
    if (child === place) place = child.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const gone of present.values()) gone.remove();
}

/**
 * @param {HTMLElement} element
 * @param {string} name
 */
function refocus(element, name) {
  const named = element.dataset.focus === name ? element : element.querySelector(`[data-focus="${CSS.escape(name)}"]`);
  if (named instanceof HTMLElement) named.focus();
}
