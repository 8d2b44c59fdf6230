/** When the rig takes a database group for whole, and a member for one of its majority. */
import t from 'tap';
import { isOfMajority, isWhole, primaryOf } from '../../../../deploy/rig/database-group.ts';
import type { Standing } from '../../../../deploy/rig/database-group.ts';

const SIZE = 3;
const standing = (sees: number, seesOnline: number, state = 'ONLINE', of = sees): Standing => ({
  id: 'one',
  of,
  state,
  primary: null,
  sees,
  seesOnline,
});

await t.test('a group is whole when each member sees all of them online', t => {
  const all = standing(3, 3);
  t.equal(isWhole([all, all, all], SIZE), true);
  t.equal(isWhole([all, all], SIZE), false, 'one does not answer');
  t.equal(isWhole([all, all, standing(1, 0, 'RECOVERING')], SIZE), false);
  t.equal(isWhole([standing(3, 2), standing(3, 2), standing(3, 2, 'RECOVERING')], SIZE), false);
  t.end();
});

await t.test('a group is not whole while a member that was frozen alone believes that it belongs to it', t => {
  t.equal(isWhole([standing(3, 3), standing(2, 2), standing(2, 2)], SIZE), false);
  t.end();
});

await t.test('a member that has lost most of its group is of no majority, and one that begins a group is', t => {
  t.equal(isOfMajority(standing(2, 2, 'ONLINE', 3)), true);
  t.equal(isOfMajority(standing(1, 1, 'ONLINE', 3)), false);
  t.equal(isOfMajority(standing(1, 1)), true);
  t.equal(isOfMajority(standing(3, 3, 'ERROR')), false);
  t.end();
});

await t.test('the primary is the one that a majority takes for it', t => {
  const all = ['one', 'two', 'three'].map(id => ({ ...standing(3, 3), id, primary: 'two' }));
  t.equal(primaryOf(all)?.id, 'two');
  const frozen = { ...standing(3, 3), id: 'two', primary: 'two' };
  const left = ['one', 'three'].map(id => ({ ...standing(2, 2), id, primary: 'one' }));
  t.equal(primaryOf([frozen, ...left])?.id, 'one', 'not the one that was frozen and still believes it');
  t.equal(primaryOf([frozen]), undefined, 'nobody else confirms it');
  t.end();
});
