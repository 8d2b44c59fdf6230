import t from 'tap';
import { Cascades } from '../../../../agent/source/cascades.ts';
import type { Cascade } from '../../../../agent/source/cascades.ts';

const cascade = (parent: string, child: string, ...columns: string[]): Cascade => ({
  name: `s.${child}.fk`,
  parent: { schema: 's', name: parent },
  child: { schema: 's', name: child },
  columns,
});

void t.test('what follows from a parent’s changes goes down to the last child, round circles as well', t => {
  const cascades = new Cascades([
    cascade('a', 'b', 'id'),
    cascade('a', 'c', 'id', 'code'),
    cascade('b', 'd', 'id'),
    cascade('d', 'a', 'id'),
    cascade('self', 'self', 'id'),
  ]);
  const names = (parent: string): string[] | undefined => cascades.of('s', parent)?.children.map(({ name }) => name);
  t.same(names('a')?.sort(), ['a', 'b', 'c', 'd']);
  t.same([...(cascades.of('s', 'a')?.columns ?? [])].sort(), ['code', 'id'], 'its own columns only');
  t.same(names('self'), ['self']);
  t.equal(cascades.of('s', 'c'), null);
  t.equal(cascades.of('other', 'a'), null);
  t.equal(cascades.tracked, true);
  t.equal(new Cascades(null).tracked, false, 'a server that logs them all');
  t.end();
});
