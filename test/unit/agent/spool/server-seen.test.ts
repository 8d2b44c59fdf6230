import { rmSync } from 'node:fs';
import t from 'tap';
import { openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';

const RUN = { server: 'server-1', startedAt: 1_795_000_000, connection: 100 };

void t.test(
  'another run of the server than the one seen last makes a comparison owed, over restarts, until it is asked for',
  t => {
    const directory = temporaryDirectory();
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    let spool = openSpool(directory);
    t.notOk(spool.serverSeen.see(RUN, true), 'the first run that is seen is no other one');
    const same = { ...RUN, startedAt: RUN.startedAt + 1, connection: 105 };
    t.notOk(spool.serverSeen.see(same, false), 'the same run: both times of its start are rounded');
    t.notOk(spool.serverSeen.asksToCompare);

    t.ok(
      spool.serverSeen.see({ ...RUN, startedAt: RUN.startedAt + 60, connection: 300 }, false),
      'it was started later',
    );
    t.ok(spool.serverSeen.asksToCompare);
    spool.close();
    spool = openSpool(directory);
    t.ok(spool.serverSeen.asksToCompare, 'a restart of the agent does not forget it');
    spool.serverSeen.askedFor();
    t.notOk(spool.serverSeen.asksToCompare);

    const clockless = { ...RUN, startedAt: RUN.startedAt + 60, connection: 9 };
    t.ok(
      spool.serverSeen.see(clockless, false),
      'a clock that begins at the same time: its connections are numbered anew',
    );
    t.ok(spool.serverSeen.see({ ...clockless, server: 'server-2' }, true), 'another server');
    t.notOk(spool.serverSeen.asksToCompare, 'what is copied need not be compared');
    spool.close();
    t.end();
  },
);
