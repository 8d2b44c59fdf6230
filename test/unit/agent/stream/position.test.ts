import t from 'tap';
import { CapturedPosition, identityOf, requireSameGroup } from '../../../../agent/stream/position.ts';
import type { Position } from '../../../../agent/spool/spool.ts';

const UUID = '3e11fa47-71ca-11e1-9e33-c80aa9429562';
const FILE = 'binlog.000001';
const FIRST = '2026-11-23T09:59:59.000000Z';
const AT = '2026-11-23T10:00:00.000000Z';
const start: Position = {
  source: { server: UUID, gtidSet: `${UUID}:1-4`, file: FILE, offset: 4, committedAt: null },
  lastGroup: null,
};
const group = (gtid: string | null, startOffset = 100) => ({
  gtid,
  file: FILE,
  startOffset,
  committedAt: AT,
  originallyAt: FIRST,
  timestamp: 0,
});
const mark = (gtid: string | null) => ({ gtid, file: FILE, endOffset: 300, fingerprint: 'deadbeef' });

void t.test('a position names the end of the last group, and where to begin to read it again', t => {
  const position = new CapturedPosition(start, { server: UUID, gtids: true });
  t.equal(position.current, start);
  const gtid = `${UUID}:5`;
  position.take(identityOf(group(gtid), mark(gtid)), mark(gtid));
  t.notOk(position.saved);
  t.same(position.end, { file: FILE, offset: 300 });
  t.same(position.current, {
    source: { server: UUID, gtidSet: `${UUID}:1-5`, file: FILE, offset: 300, committedAt: AT },
    lastGroup: {
      gtid,
      file: FILE,
      startOffset: 100,
      committedAt: AT,
      originallyAt: FIRST,
      fingerprint: 'deadbeef',
      gtidSetBefore: `${UUID}:1-4`,
    },
  });
  t.end();
});

void t.test('without GTIDs, places alone count', t => {
  const source = { ...start.source, gtidSet: '' };
  const position = new CapturedPosition({ ...start, source }, { server: UUID, gtids: false });
  position.take(identityOf(group(null), mark(null)), mark(null));
  const { source: reached, lastGroup } = position.current;
  t.same([reached.gtidSet, lastGroup?.gtidSetBefore, lastGroup?.startOffset], ['', '', 100]);
  t.end();
});

void t.test('MariaDB: the last transaction of each domain, and what it was before the last group', t => {
  const source = { ...start.source, gtidSet: '0-1-4,7-2-9' };
  const position = new CapturedPosition({ ...start, source }, { server: UUID, gtids: false });
  const taken = (gtid: string): readonly (string | undefined)[] => {
    position.take(identityOf(group(gtid), mark(gtid)), mark(gtid));
    return [position.current.source.gtidSet, position.current.lastGroup?.gtidSetBefore];
  };
  t.same(taken('0-1-5'), ['0-1-5,7-2-9', '0-1-4,7-2-9']);
  t.same(taken('0-3-6'), ['0-3-6,7-2-9', '0-1-5,7-2-9']);
  t.same(taken('8-1-1'), ['0-3-6,7-2-9,8-1-1', '0-3-6,7-2-9']);
  t.equal(position.gtidSet, '', 'of MySQL there are none');
  const elsewhere = new CapturedPosition(position.current, { server: 'another', gtids: false });
  elsewhere.moveTo(identityOf(group('8-1-1'), mark('8-1-1')), { ...mark('8-1-1'), file: 'other.000007' });
  t.match(elsewhere.current, {
    source: { server: 'another', gtidSet: '0-3-6,7-2-9,8-1-1', file: 'other.000007' },
    lastGroup: { gtidSetBefore: '0-3-6,7-2-9' },
  });
  t.end();
});

void t.test('the last group is told from another by its GTID, its time and its events, wherever it stands', t => {
  const taken = identityOf(group(`${UUID}:5`), mark(`${UUID}:5`));
  requireSameGroup(taken, { ...taken, file: 'binlog.000007', startOffset: 4, gtidSetBefore: 'any' }, true);
  for (const other of [{ gtid: null }, { committedAt: null }, { fingerprint: '00000000' }]) {
    t.throws(() => requireSameGroup(taken, { ...taken, ...other }, true), { code: 'SOURCE_POSITION_LOST' });
  }
  t.end();
});

void t.test('at another server by its GTID and the time of its first commit', t => {
  const taken = identityOf(group(`${UUID}:5`), mark(`${UUID}:5`));
  const there = { ...taken, committedAt: '2026-11-23T10:00:07.000000Z', fingerprint: '00000000' };
  requireSameGroup(taken, there, false);
  for (const other of [{ gtid: `${UUID}:6` }, { originallyAt: AT }, { originallyAt: null }]) {
    t.throws(() => requireSameGroup(taken, { ...there, ...other }, false), { code: 'SOURCE_POSITION_LOST' });
  }
  const nameless = { ...taken, gtid: null };
  t.throws(
    () => requireSameGroup(nameless, nameless, false),
    { code: 'SOURCE_POSITION_LOST' },
    'without a GTID nothing tells',
  );
  t.end();
});
