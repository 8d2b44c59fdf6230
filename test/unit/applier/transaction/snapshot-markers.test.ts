import t from 'tap';
import { bringsMissingRows } from '../../../../applier/transaction/snapshot-markers.ts';

void t.test('only a snapshot that began after the last thing was left out mends the branch', t => {
  t.equal(bringsMissingRows({ startBatch: 8 }, { incompleteBatch: 7 }), true);
  t.equal(bringsMissingRows({ startBatch: 7 }, { incompleteBatch: 7 }), false, 'its own start left something out');
  t.equal(bringsMissingRows({ startBatch: 6 }, { incompleteBatch: 7 }), false, 'it ran already');
  t.end();
});
