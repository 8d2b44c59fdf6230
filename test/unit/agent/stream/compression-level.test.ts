import t from 'tap';
import { CompressionLevel } from '../../../../agent/stream/compression-level.ts';

await t.test('batches that follow one another at once are compressed quickly, others well', test => {
  const effort = new CompressionLevel(0);
  const full = 650_000;
  test.equal(effort.level(full, 10), 3, 'one batch after the other');
  test.equal(effort.level(full, 300), 3);
  test.equal(effort.level(full, 1_300), 8, 'a second apart');
  test.equal(effort.level(400, 1_301), 8, 'a lone commit is small: it costs nothing');
  test.equal(effort.level(400, 1_301), 3);
  test.equal(effort.level(full, 0), 3, 'a clock that was set back');
  test.equal(effort.level(full, 1_000), 8);
  test.end();
});
