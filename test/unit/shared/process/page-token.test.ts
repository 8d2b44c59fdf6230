import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { pageToken, pageTokens, renewToken, tokenFileOf } from '../../../../shared/process/page-token.ts';

const directory = t.testdir();

void t.test('the token is made once, stays the same, and only its owner can read it', t => {
  const file = join(directory, 'a.token');
  const token = pageToken(file);
  t.match(token, /^[\w-]{32}$/);
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.equal(pageToken(file), token);
  t.not(pageToken(join(directory, 'b.token')), token);
  t.end();
});

void t.test('a token that others could read or have put there is replaced', t => {
  const file = join(directory, 'c.token');
  const token = pageToken(file);
  chmodSync(file, 0o644);
  t.not(pageToken(file), token, 'open to all');
  t.equal(statSync(file).mode & 0o777, 0o600);

  const theirs = join(directory, 'theirs');
  writeFileSync(theirs, `${'x'.repeat(32)}\n`, { mode: 0o600 });
  const link = join(directory, 'd.token');
  symlinkSync(theirs, link);
  t.not(pageToken(link), 'x'.repeat(32), 'a link');
  t.equal(readFileSync(theirs, 'utf8'), `${'x'.repeat(32)}\n`, 'what it named is untouched');
  t.end();
});

void t.test('what an attempt has left behind stands in no other’s way', t => {
  const file = join(directory, 'f.token');
  writeFileSync(`${file}.${process.pid}`, 'left by a process that had this number');
  t.match(pageToken(file), /^[\w-]{32}$/);

  const taken = join(directory, 'taken.token');
  mkdirSync(join(taken, 'by-a-folder'), { recursive: true });
  t.throws(() => pageToken(taken), { code: 'PAGE_UNAVAILABLE' });
  t.same(
    readdirSync(directory).filter(name => /^taken\.token\./.test(name)),
    [],
    'and it leaves nothing itself',
  );
  t.end();
});

void t.test('a folder that cannot be written is told with its name', t => {
  t.throws(() => pageToken(join(directory, 'nowhere', 'e.token')), { code: 'PAGE_UNAVAILABLE', message: /nowhere/ });
  t.end();
});

void t.test('each role has a token of its own, which can be renewed alone', t => {
  const file = join(directory, 'roles.token');
  const tokens = pageTokens(file, ['sync', 'operate']);
  t.not(tokens.sync, tokens.operate);
  t.equal(tokens.operate, pageToken(file), 'the one that there was before there were roles');
  const ofSync = tokenFileOf(file, 'sync');
  t.equal(ofSync, join(directory, 'roles.sync.token'));
  t.equal(statSync(ofSync).mode & 0o777, 0o600);
  t.not(renewToken(ofSync), tokens.sync);
  t.equal(pageTokens(file, ['operate']).operate, tokens.operate);
  t.end();
});
