/** Bytes on the line, today and this month. */
import { h } from '/assets/elements.js';
import { bytes } from '/assets/numbers.js';

/** @import { Bytes, TrafficStatus } from '../../forward/traffic.ts' */

/**
 * The lines of the link's facts.
 * @param {TrafficStatus} traffic
 * @returns {[string, HTMLElement][]}
 */
export function trafficFacts({ today, month }) {
  return [
    ['On the line today', both(today)],
    ['This month', both(month)],
  ];
}

/** @param {Bytes} counted */
function both({ sent, received }) {
  const text = h('span', '', bytes(sent + received));
  text.title = `${bytes(sent)} sent, ${bytes(received)} received`;
  return text;
}
