/** Each branch prefers exactly one of the living appliers, and only those move whose applier comes or goes. */
import t from 'tap';
import { isPreferred } from '../../../../applier/consume/rendezvous.ts';

const branches = Array.from({ length: 2_000 }, (_, i) => `shop${i}`);
const first = (branch: string, living: readonly string[]): string[] =>
  living.filter(each => isPreferred(branch, each, living));

await t.test('each branch has one that comes first, equal preferences included, and each applier has its share', t => {
  const living = ['a:1', 'a:2', 'b:1'];
  const share = new Map<string, number>();
  for (const branch of branches) {
    const [its, ...more] = first(branch, living);
    t.same(more, [], branch);
    share.set(its!, (share.get(its!) ?? 0) + 1);
  }
  for (const each of living) t.ok(share.get(each)! > branches.length / 4, `${each}: ${share.get(each)}`);
  t.end();
});

await t.test('one that leaves moves its own branches only', t => {
  let moved = 0;
  for (const branch of branches) {
    const [before] = first(branch, ['a:1', 'a:2', 'b:1']);
    const [after] = first(branch, ['a:1', 'b:1']);
    if (before === 'a:2') moved += 1;
    else t.equal(after, before);
  }
  t.ok(moved > 0 && moved < branches.length / 2, `${moved} moved`);
  t.end();
});

await t.test('one that knows of nobody comes first', t => {
  t.ok(isPreferred('shop1', 'a:1', []));
  t.ok(isPreferred('shop1', 'a:1', ['a:1']));
  t.end();
});
