import t from 'tap';
import { Settling } from '../../agent/settling.ts';

/** A process that is looked at every two seconds of a clock of its own, and what it gives back. */
function rig({ releaseTakesMs = 100 } = {}) {
  const seen = { now: 0, cpu: 700, releases: [] as number[] };
  const settling = new Settling({
    now: () => seen.now,
    cpuMs: () => seen.cpu,
    release: () => {
      seen.releases.push(seen.now);
      seen.now += releaseTakesMs;
      seen.cpu += releaseTakesMs;
    },
  });
  return {
    releases: seen.releases,
    /** For so many seconds it takes so much of a processor. */
    pass: (seconds: number, share: number): void => {
      for (let end = seen.now + seconds * 1_000; seen.now < end;) {
        seen.now += 2_000;
        seen.cpu += 2_000 * share;
        settling.look();
      }
    },
  };
}

await t.test('what the start has taken is given back once it is over', t => {
  const { pass, releases } = rig();
  pass(4, 0.9);
  t.strictSame(releases, []);
  pass(30, 0.004);
  t.strictSame(releases, [14_000], 'once, ten seconds later');
  t.end();
});

await t.test('work is followed by a release, though sales go on', t => {
  const { pass, releases } = rig();
  pass(20, 0.004);
  t.equal(releases.length, 1);
  pass(30, 0.8);
  t.equal(releases.length, 1, 'not while it lasts');
  pass(20, 0.03);
  t.equal(releases.length, 2);
  t.end();
});

await t.test('giving back takes at most a twentieth of the processor time, and is no work itself', t => {
  const { pass, releases } = rig({ releaseTakesMs: 100 });
  pass(20, 0.004);
  pass(3_600, 0.004);
  // An idle hour takes 14.4 s of a processor.
  t.equal(releases.length, 1 + 7);
  const slow = rig({ releaseTakesMs: 900 });
  slow.pass(20, 0.004);
  slow.pass(400, 0.004);
  t.equal(slow.releases.length, 1, 'a slow machine does not go round in circles');
  t.end();
});

await t.test('a short burst is not worth it', t => {
  const { pass, releases } = rig();
  pass(20, 0);
  pass(2, 0.5);
  pass(60, 0);
  t.equal(releases.length, 1);
  t.end();
});
