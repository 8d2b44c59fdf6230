/**
 * Spools as earlier versions wrote them, kept so that every later version is tried on them: test/fixtures/spool/N.db.zst
 * is a spool of format N, N.json what is in it. Whoever brings in a new format runs `node test/support/hand-made/spool-fixture.ts`
 * once, before it is released; a fixture is never written again.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { MIGRATIONS, SPOOL_FILE_NAME } from '../../../agent/spool/spool-file.ts';
import type { StoredDefinition } from '../../../agent/spool/stored-definitions.ts';
import type { Spool } from '../../../agent/spool/spool.ts';
import { batch, openSpool, position, temporaryDirectory } from './spool-tools.ts';

const FOLDER = resolve(import.meta.dirname, '../../fixtures/spool');
const BATCHES = 6;
/** The head office has said that it received this many. */
const RECEIVED = 2;
const HELD = { key: 'held-1', xid: "X'78',X'',1" };

const SALE: StoredDefinition = {
  schema: 'shop',
  name: 'sale',
  state: 'in-force',
  columns: [
    { name: 'id', type: 'int', charset: null, nullable: false, invisible: false, key: 1 },
    { name: 'note', type: 'varchar(20)', charset: 'utf8mb4', nullable: true, invisible: false },
  ],
};

/** Everything of a spool that must outlive an upgrade, as plain data. */
export function spoolContents(spool: Spool): unknown {
  const stream = spool.stream();
  const batches = Array.from({ length: stream.head.seq }, (_, index) => {
    const stored = spool.read(index + 1);
    if (stored === null) return null;
    const { seq, previous, digest, rows, body } = stored;
    return { seq, previous, digest, rows, body: body.toString('base64') };
  });
  const held = spool.held().map(({ key, xid }) => ({
    key,
    xid,
    parts: [...spool.heldParts(key)].map(part => part.toString('base64')),
  }));
  const contents = {
    stream,
    batches,
    held,
    position: spool.position(),
    snapshot: spool.snapshot(),
    doneRequests: spool.doneRequests(),
    definitions: spool.definitions(),
    history: [...spool.history.names],
    standing: spool.standing.heard,
    rowsOfDay: spool.rowsOfDay.slots(),
    serverSeen: { last: spool.serverSeen.last, asksToCompare: spool.serverSeen.asksToCompare },
  };
  return JSON.parse(JSON.stringify(contents)) as unknown;
}

/** Formats of which there is a fixture, in order. */
export function fixtureFormats(): number[] {
  return readdirSync(FOLDER)
    .flatMap(name => /^(\d+)\.db\.zst$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

/** Puts the fixture into a folder as its spool. @returns what must be found in it */
export function layOutFixture(format: number, directory: string): unknown {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, SPOOL_FILE_NAME), zstdDecompressSync(readFileSync(join(FOLDER, `${format}.db.zst`))));
  return JSON.parse(readFileSync(join(FOLDER, `${format}.json`), 'utf8')) as unknown;
}

function fill(spool: Spool): void {
  spool.hold(HELD.key, 1, Buffer.from('prepared rows, first part'));
  spool.hold(HELD.key, 2, Buffer.from('prepared rows, second part'));
  for (let number = 1; number <= BATCHES; number++) {
    const last = number === BATCHES;
    spool.append(
      batch(number * 10, {
        rows: number,
        ...(number === 2 ? { committed: { rows: number, at: new Date().toISOString() } } : {}),
        ...(number === 3 ? { held: [{ do: 'keep', ...HELD }] } : {}),
        ...(last
          ? {
              definitions: [SALE],
              position: {
                ...position(number * 10),
                lastGroup: {
                  gtid: '3e11fa47-71ca-11e1-9e33-c80aa9429562:7',
                  file: 'binlog.000001',
                  startOffset: 55,
                  committedAt: '2026-11-22T10:00:00.123456Z',
                  originallyAt: '2026-11-22T09:59:59.123456Z',
                  fingerprint: '00c0ffee',
                  gtidSetBefore: '3e11fa47-71ca-11e1-9e33-c80aa9429562:1-6',
                },
              },
              snapshot: {
                id: 'snap-1',
                whole: true,
                requests: ['request-1'],
                started: true,
                finished: false,
                tables: [
                  { schema: 'shop', name: 'sales', state: 'copying', lastKey: [7, 'x'], rows: 10, estimatedRows: null },
                ],
                queued: [{ schema: 'shop', name: 'prices' }],
                queuedWhole: false,
                queuedRequests: ['request-2'],
                staleSince: '2026-11-22T09:00:00.000000Z',
                queuedStaleSince: null,
                rules: null,
                setAside: [],
                returnsTried: [],
                askedEpochs: [],
                askedCopies: [],
                epochReason: null,
              },
            }
          : {}),
      }),
    );
  }
  spool.serverSeen.see({ server: 'server-0', startedAt: 1_795_000_000, connection: 7 }, true);
  spool.serverSeen.see({ server: 'server-1', startedAt: 1_795_100_000, connection: 8 }, false);
  spool.history.keep(['sale']);
  spool.standing.note({
    heardAt: 1_795_100_100_000,
    epoch: spool.stream().epoch,
    appliedSeq: RECEIVED,
    aheadSeconds: 0,
    halted: null,
    said: {
      at: '2026-11-19T10:15:00.000Z',
      completeThrough: '2026-11-19T10:14:59.250000Z',
      incomplete: false,
      quarantined: 0,
      setAsideTables: 1,
      differentTables: 0,
    },
  });
  spool.advance(RECEIVED, '0e70c8f2-0000-4000-8000-000000000001');
}

if (import.meta.main) {
  const file = join(FOLDER, `${MIGRATIONS.length}.db.zst`);
  if (existsSync(file)) throw new Error(`${file} is there: a fixture is never written again`);
  const directory = temporaryDirectory();
  const spool = openSpool(directory);
  fill(spool);
  const contents = spoolContents(spool);
  spool.close();
  writeFileSync(file, zstdCompressSync(readFileSync(join(directory, SPOOL_FILE_NAME))));
  writeFileSync(join(FOLDER, `${MIGRATIONS.length}.json`), `${JSON.stringify(contents, null, 1)}\n`);
  rmSync(directory, { recursive: true });
  process.stdout.write(`wrote ${file}\n`);
}
