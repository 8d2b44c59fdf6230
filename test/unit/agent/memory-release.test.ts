import t from 'tap';
import { MemoryRelease } from '../../../agent/memory-release.ts';

/** A process that is looked at every two seconds of a clock of its own, and what it gives back. */
function rig({ releaseTakesMs = 100, residentMib = 120 } = {}) {
  const seen = { now: 0, cpu: 700, releases: [] as number[] };
  const settling = new MemoryRelease({
    now: () => seen.now,
    cpuMs: () => seen.cpu,
    residentBytes: () => residentMib * 1024 * 1024,
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

await t.test('work is followed by a release, once, though sales go on', t => {
  const { pass, releases } = rig();
  pass(30, 0.8);
  t.strictSame(releases, [], 'not while it lasts');
  pass(60, 0.03);
  t.strictSame(releases, [40_000], 'ten seconds later');
  pass(4, 0.9);
  pass(60, 0.004);
  t.equal(releases.length, 2);
  t.end();
});

await t.test('an idle hour is no work, nor is giving back itself', t => {
  const { pass, releases } = rig();
  pass(3_600, 0.004);
  t.strictSame(releases, [], 'an idle hour takes 14.4 s of a processor');
  const slow = rig({ releaseTakesMs: 900 });
  slow.pass(4, 0.9);
  slow.pass(400, 0.004);
  t.equal(slow.releases.length, 1, 'a slow machine does not go round in circles');
  t.end();
});

await t.test('a short burst is not worth it, several are', t => {
  const { pass, releases } = rig();
  pass(2, 0.13);
  pass(60, 0.004);
  t.equal(releases.length, 0);
  pass(2, 0.13);
  pass(60, 0.004);
  t.equal(releases.length, 1);
  t.end();
});

await t.test('who holds little keeps it', t => {
  const { pass, releases } = rig({ residentMib: 85 });
  pass(30, 0.8);
  pass(60, 0.004);
  t.strictSame(releases, []);
  t.end();
});
