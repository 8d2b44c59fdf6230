/** Memory that is released at once is gone for all its views, and memory that others share stays. */
import t from 'tap';
import { release } from '../../../shared/release.ts';

void t.test('a large buffer and all its views are empty afterwards', t => {
  const large = Buffer.alloc(1024 * 1024, 7);
  const view = large.subarray(10, 20);
  release(view);
  t.equal(large.length, 0);
  t.equal(view.length, 0);
  t.end();
});

void t.test('a buffer as large as the pool of small ones is none of them: chunks of sockets are', t => {
  const chunk = Buffer.from('x'.repeat(Buffer.poolSize));
  release(chunk);
  t.equal(chunk.length, 0);
  t.end();
});

void t.test('a small buffer stands among others and is left alone', t => {
  const small = Buffer.from('one of many');
  const neighbour = Buffer.from('another');
  release(small);
  t.equal(small.toString(), 'one of many');
  t.equal(neighbour.toString(), 'another');
  t.end();
});
