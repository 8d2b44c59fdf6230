import t from 'tap';
import { readBranchList } from '../../../../applier/branches/branch-list.ts';

void t.test('ids stand alone, or in the column headed branch', t => {
  t.same(readBranchList('paris\nlyon\n', 'f'), ['paris', 'lyon']);
  t.same(readBranchList('\uFEFFCity,Branch\r\n"Paris, 1er",paris\r\nLyon,"lyon"\r\n', 'f'), ['paris', 'lyon']);
  t.same(readBranchList('name;branch\nLyon;lyon\n\n# later: nantes\n', 'f'), ['lyon']);
  t.end();
});

void t.test('every fault is told at once, with its line', t => {
  t.throws(() => readBranchList('paris\nLyon\n\nparis\nx_y\n', 'new.csv'), {
    code: 'CONFIG_INVALID',
    message:
      'Nothing was added, because of faults in new.csv:\n  line 2: "Lyon" must match [a-z0-9][a-z0-9-]{0,62}\n  line 4: paris is in line 1 already\n  line 5: "x_y" must match [a-z0-9][a-z0-9-]{0,62}',
  });
  t.throws(() => readBranchList('branch\n', 'f'), { message: /names no branch/ });
  t.end();
});
