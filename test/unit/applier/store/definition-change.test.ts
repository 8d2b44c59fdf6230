import t from 'tap';
import { definitionChange } from '../../../../applier/store/definition-change.ts';

const id = { name: 'id', type: 'bigint', key: 1 };
const note = { name: 'note', type: 'varchar(40)' };

void t.test('what has changed between two definitions is said by column', t => {
  t.equal(definitionChange([id, note], [{ ...id }, { ...note }]), null, 'the same is no change');
  t.equal(definitionChange([id], [id, note]), 'note was added');
  t.equal(definitionChange([id, note], [id]), 'note was dropped');
  t.equal(definitionChange([id, note], [id, { ...note, type: 'text' }]), 'note: varchar(40) is now text');
  t.equal(definitionChange([id, note], [id, { ...note, key: 2 }]), 'note has another place in the key');
  t.equal(definitionChange([id, note], [note, id]), 'the columns are in another order');
  t.equal(definitionChange([id, note], [id, { ...note, name: 'NOTE' }]), null, 'as the server compares names');
  t.end();
});

void t.test('a change of many columns names the first and counts the others', t => {
  const many = Array.from({ length: 40 }, (_, i) => ({ name: `c${i}`, type: 'int' }));
  const said = definitionChange([id], [id, ...many]) ?? '';
  t.match(said, /^c0 was added; .*c9 was added; and 30 more$/);
  t.end();
});
