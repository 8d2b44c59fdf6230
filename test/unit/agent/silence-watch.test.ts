import t from 'tap';
import { SilenceWatch } from '../../../agent/silence-watch.ts';

const MINUTE = 60_000;
const UP = {
  connected: true,
  windowOpen: true,
  syncing: false,
  lastHelloAt: 0,
  lastAnswerAt: null,
  inFlightBytes: 0,
};

/** Looks every 2 s from one minute to another. */
function look(watch: SilenceWatch, facts: Parameters<SilenceWatch['look']>[0], from: number, to: number): void {
  for (let at = from * MINUTE; at <= to * MINUTE; at += 2_000) watch.look(facts, at);
}

void t.test('a head office that answers is not silent, and one that stops answering is', t => {
  const watch = new SilenceWatch();
  for (let at = 100; at < 110; at += 1) look(watch, { ...UP, lastAnswerAt: at * MINUTE }, at, at + 1);
  t.equal(watch.silentSince, null);
  look(watch, { ...UP, lastHelloAt: 110 * MINUTE, lastAnswerAt: 109 * MINUTE }, 110, 112);
  t.equal(watch.silentSince, 110 * MINUTE);
  look(watch, { ...UP, lastAnswerAt: 112 * MINUTE }, 112, 113);
  t.equal(watch.silentSince, null);
  t.end();
});

void t.test('a broker that takes connections and never gets an answer through is silent, though they break', t => {
  const watch = new SilenceWatch();
  for (let at = 100; at < 104; at += 1) {
    look(watch, UP, at, at + 0.5);
    look(watch, { ...UP, connected: false }, at + 0.5, at + 1);
  }
  t.equal(watch.silentSince, 100 * MINUTE);
  t.end();
});

void t.test('a branch that is offline, or outside its windows, knows nothing of the head office', t => {
  const watch = new SilenceWatch();
  look(watch, UP, 100, 101);
  look(watch, { ...UP, connected: false }, 101, 110);
  t.equal(watch.silentSince, null);
  look(watch, UP, 110, 111);
  t.equal(watch.silentSince, null, 'it has just come back');
  look(watch, { ...UP, windowOpen: false }, 111, 120);
  t.equal(watch.silentSince, null);
  look(watch, { ...UP, windowOpen: false, syncing: true }, 120, 122);
  t.equal(watch.silentSince, 120 * MINUTE, 'but a sync opens the link');
  t.end();
});

void t.test('what is in flight on a slow link delays an answer', t => {
  const watch = new SilenceWatch();
  look(watch, { ...UP, inFlightBytes: 4 * 1024 * 1024 }, 100, 105);
  t.equal(watch.silentSince, null);
  t.end();
});

void t.test('where hellos are rare, only one without an answer counts', t => {
  const watch = new SilenceWatch();
  const answered = { ...UP, lastHelloAt: 100 * MINUTE - 200, lastAnswerAt: 100 * MINUTE };
  for (let at = 100 * MINUTE; at <= 115 * MINUTE; at += 2_000) {
    watch.look(answered, at);
    t.equal(watch.silentSince, null);
  }
  const asked = { ...answered, lastHelloAt: 115 * MINUTE };
  look(watch, asked, 115, 116.5);
  t.equal(watch.silentSince, null, 'it may still answer');
  look(watch, asked, 116.5, 117);
  t.equal(watch.silentSince, 115 * MINUTE);
  t.end();
});
