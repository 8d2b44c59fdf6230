import fc from 'fast-check';
import t from 'tap';
import { KeyIndex } from '../../../../agent/stream/key-index.ts';
import type { KeyId } from '../../../../agent/stream/key-index.ts';

void t.test('whatever the keys, each one is found where it was put last', t => {
  const key: fc.Arbitrary<KeyId> = fc.oneof({ weight: 5, arbitrary: fc.nat({ max: 30 }) }, fc.constantFrom('1', 'a'));
  const run = fc.oneof(
    fc.array(fc.tuple(key, fc.boolean())),
    fc
      .uniqueArray(fc.integer({ min: -5, max: 30 }))
      .map(keys => keys.sort((a, b) => a - b).map(k => [k, false] as const)),
  );
  fc.assert(
    fc.property(fc.array(run, { maxLength: 4 }), runs => {
      const places = new KeyIndex();
      const model = new Map<KeyId, number>();
      let upserts = 0;
      let deletes = 0;
      for (const [id, isDelete] of runs.flat()) {
        const place = isDelete ? -1 - deletes++ : upserts++;
        if (places.set(id, place) !== model.get(id)) return false;
        model.set(id, place);
        if (places.size !== model.size) return false;
      }
      places.clear();
      return places.size === 0 && places.set(0, 0) === undefined;
    }),
    { numRuns: 2000 },
  );
  t.end();
});
