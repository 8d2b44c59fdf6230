import t from 'tap';
import { TakenPosition, identityOf, verifySame } from '../../agent/capture/taken-position.ts';
import type { Position } from '../../agent/spool/spool.ts';

const UUID = '3e11fa47-71ca-11e1-9e33-c80aa9429562';
const FILE = 'binlog.000001';
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
  timestamp: 0,
});
const mark = (gtid: string | null) => ({ gtid, file: FILE, endOffset: 300, fingerprint: 'deadbeef' });

void t.test('a position names the end of the last group, and where to begin to read it again', t => {
  const position = new TakenPosition(start, { server: UUID, gtids: true });
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
      fingerprint: 'deadbeef',
      gtidSetBefore: `${UUID}:1-4`,
    },
  });
  t.end();
});

void t.test('without GTIDs, places alone count', t => {
  const source = { ...start.source, gtidSet: '' };
  const position = new TakenPosition({ ...start, source }, { server: UUID, gtids: false });
  position.take(identityOf(group('0-1-5'), mark('0-1-5')), mark('0-1-5'));
  const { source: reached, lastGroup } = position.current;
  t.same([reached.gtidSet, lastGroup?.gtidSetBefore, lastGroup?.startOffset], ['', '', 100]);
  t.end();
});

void t.test('the last group is told from another by its GTID, its time and its events, wherever it stands', t => {
  const taken = identityOf(group(`${UUID}:5`), mark(`${UUID}:5`));
  verifySame(taken, { ...taken, file: 'binlog.000007', startOffset: 4, gtidSetBefore: 'any' });
  for (const other of [{ gtid: null }, { committedAt: null }, { fingerprint: '00000000' }]) {
    t.throws(() => verifySame(taken, { ...taken, ...other }), { code: 'SOURCE_POSITION_LOST' });
  }
  t.end();
});
