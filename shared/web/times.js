/** Times as people read them: in the reader's time zone, by the server's clock, and going on by themselves. */
import { h } from '/assets/elements.js';
import { LANGUAGE } from '/assets/language.js';
import { duration } from '/assets/numbers.js';

const inFull = new Intl.DateTimeFormat(LANGUAGE, {
  year: 'numeric',
  month: 'short',
  day: 'numeric',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  timeZoneName: 'short',
});
const timeOfDay = new Intl.DateTimeFormat(LANGUAGE, { timeStyle: 'short' });
const dayAndTime = new Intl.DateTimeFormat(LANGUAGE, {
  weekday: 'short',
  day: 'numeric',
  month: 'short',
  hour: '2-digit',
  minute: '2-digit',
});
const secondOfDay = new Intl.DateTimeFormat(LANGUAGE, { timeStyle: 'long' });

/** How far this machine's clock is behind the server's. */
let clockOffsetMs = 0;

/** @param {string} iso */
export function serverTime(iso) {
  clockOffsetMs = Date.parse(iso) - Date.now();
}

/**
 * The exact time behind each element that shows one: not in the document, so that showing it anew changes nothing.
 * @type {WeakMap<Element, string>}
 */
const times = new WeakMap();

/**
 * @param {HTMLTimeElement} element
 * @param {string} iso
 */
function timed(element, iso) {
  times.set(element, iso);
  return element;
}

/**
 * An element that shows the same as another takes over the exact times behind it.
 * @param {Element} to
 * @param {Element} from
 */
export function takeTimes(to, from) {
  const newer = from.querySelectorAll('time');
  to.querySelectorAll('time').forEach((element, i) => {
    const iso = newer[i] && times.get(newer[i]);
    if (iso !== undefined) times.set(element, iso);
  });
}

/** @param {string} iso */
function agoText(iso) {
  const seconds = (Date.now() + clockOffsetMs - Date.parse(iso)) / 1000;
  return seconds < 5 ? 'just now' : `${duration(seconds)} ago`;
}

/**
 * How long ago; the exact time shows on hovering.
 * @param {string | null} iso
 */
export function ago(iso) {
  if (iso === null) return h('span', 'muted', 'never');
  return timed(h('time', 'nowrap ago', agoText(iso)), iso);
}

setInterval(() => {
  for (const element of document.querySelectorAll('time.ago')) {
    const iso = times.get(element);
    const text = iso === undefined ? '' : agoText(iso);
    if (text !== '' && element.textContent !== text) element.textContent = text;
  }
}, 1000);

document.addEventListener('mouseover', ({ target }) => {
  if (!(target instanceof HTMLTimeElement)) return;
  const iso = times.get(target);
  if (iso !== undefined) target.title = inFull.format(new Date(iso));
});

/**
 * A time of day, with its date when it is not today.
 * @param {string} iso
 */
export function clock(iso) {
  const date = new Date(iso);
  const sameDay = date.toDateString() === new Date(Date.now() + clockOffsetMs).toDateString();
  return sameDay ? timeOfDay.format(date) : dayAndTime.format(date);
}

/**
 * The same as an element, in full on hovering.
 * @param {string} iso
 */
export function clockTime(iso) {
  return timed(h('time', 'nowrap', clock(iso)), iso);
}

/**
 * This machine's time of day with its zone, which is that of all times on the page.
 * @param {Date} date
 */
export function zonedTime(date) {
  return secondOfDay.format(date);
}
