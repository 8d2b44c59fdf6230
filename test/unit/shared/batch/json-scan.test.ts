import fc from 'fast-check';
import t from 'tap';
import { JsonScan, scanJson } from '../../../../shared/batch/json-scan.ts';
import type { JsonLimits } from '../../../../shared/batch/json-scan.ts';

const FREE: JsonLimits = { depth: 100, containers: 100, values: 100, members: 100, allMembers: 100 };

/** Why the text is refused; null: it passes. */
function refusalOf(text: string, limits: JsonLimits): string | null {
  return reasonOf(refuse => {
    scanJson(Buffer.from(text), limits, refuse);
  });
}

/** The same of a text that comes in parts. */
function refusalInParts(parts: readonly Buffer[], limits: JsonLimits): string | null {
  return reasonOf(refuse => {
    const scan = new JsonScan(limits, refuse);
    for (const part of parts) {
      scan.nextPart();
      let at = 0;
      while (at < part.length) {
        if (!scan.inString) at = scan.outside(part, at);
        if (at < 0) break;
        at = scan.stringEnd(part, at);
        if (at < 0) break;
        at += 1;
      }
    }
  });
}

function reasonOf(work: (refuse: (reason: string) => never) => void): string | null {
  try {
    work(reason => {
      throw new Error(reason);
    });
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

void t.test('each limit is kept by itself: what reaches it passes, one more is refused', t => {
  const cases: readonly (readonly [keyof JsonLimits, RegExp, at: string, beyond: string])[] = [
    ['depth', /nested/, '[[[]],[[]]]', '[[[[]]]]'],
    ['containers', /arrays/, '[{},{}]', '[{},{},{}]'],
    ['values', /values/, '[1,2,3,4]', '[1,2,3,4,5]'],
    ['members', /more than 3 members/, '[{"a":1,"b":2,"c":3},{"d":4}]', '[{"x":{}},{"a":1,"b":{"e":1},"c":3,"d":4}]'],
    ['allMembers', /too many members/, '{"a":{"b":{"c":0}}}', '{"a":{"b":{"c":{"d":0}}}}'],
  ];
  for (const [limit, reason, at, beyond] of cases) {
    const limits = { ...FREE, [limit]: 3 };
    t.equal(refusalOf(at, limits), null, `${limit} reached`);
    t.match(refusalOf(beyond, limits), reason, `${limit} passed`);
    t.equal(refusalOf(beyond, FREE), null, `${limit} alone`);
  }
  t.end();
});

void t.test('what ends before it begins makes no room for more', t => {
  for (const text of [']', '[]]', `${']'.repeat(50)}${'['.repeat(50)}`, '"]"}']) {
    t.equal(refusalOf(text, FREE), 'it is not JSON', text);
  }
  t.end();
});

void t.test('what stands in a string does not count, wherever it is and whatever is escaped', t => {
  const none: JsonLimits = { depth: 1, containers: 1, values: 1, members: 1, allMembers: 1 };
  for (const filler of ['', 'x'.repeat(63), 'x'.repeat(64), 'x'.repeat(1_000)]) {
    for (const end of ['\\"[[{,,::', '\\\\', '\\\\\\"[[', '[[\\u005b\\n']) {
      t.equal(refusalOf(`["${filler}${end}","${filler}"]`, none), null, JSON.stringify(end));
      t.match(refusalOf(`["${filler}${end}",[]]`, none), /nested/, `behind ${JSON.stringify(end)}`);
    }
  }
  t.end();
});

void t.test('a text in parts is judged as the whole text is, wherever it is cut', t => {
  const piece = fc.constantFrom('"', '\\', '[', ']', '{', '}', ',', ':', 'x', '0', 'x'.repeat(70));
  const limits: JsonLimits = { depth: 3, containers: 6, values: 5, members: 2, allMembers: 4 };
  let [passed, refused] = [0, 0];
  fc.assert(
    fc.property(
      fc.array(piece, { maxLength: 60, size: 'max' }),
      fc.array(fc.nat(), { maxLength: 5 }),
      (pieces, cuts) => {
        const text = Buffer.from(`["${pieces.join('')}`);
        const places = [0, ...cuts.map(cut => cut % text.length).sort((a, b) => a - b), text.length];
        const parts = places.slice(1).map((to, i) => text.subarray(places[i], to));
        const whole = refusalOf(text.toString(), limits);
        if (whole === null) passed += 1;
        else refused += 1;
        return refusalInParts(parts, limits) === whole;
      },
    ),
    { numRuns: 3_000 },
  );
  t.ok(passed > 100 && refused > 100, `${passed} passed, ${refused} were refused`);
  t.end();
});
