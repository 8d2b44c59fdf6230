/**
 * Faults of whoever administers the head office's database: they change its tables under the running appliers. What a
 * branch's halt then names as the cure is carried out by cures.ts.
 */
import mysql from 'mysql2/promise';
import type { Connection } from 'mysql2/promise';
import { login } from './stage.ts';
import { briefly } from './fault.ts';
import type { FaultCall, Faults } from './fault.ts';

/** Each is a change: its statements in turn. */
const CHANGES: Readonly<Record<string, { readonly weight: number; readonly changes: readonly (readonly string[])[] }>> =
  {
    unique: {
      weight: 2,
      changes: [
        ['ALTER TABLE load_code ADD UNIQUE chaos_unique (code, n)'],
        ['ALTER TABLE load_stock ADD UNIQUE chaos_unique (sku, pieces, shop)'],
        ['ALTER TABLE chaos_big ADD UNIQUE chaos_unique (id, round)'],
        ['ALTER TABLE chaos_wide ADD UNIQUE chaos_unique (d, f)'],
      ],
    },
    narrower: {
      weight: 3,
      changes: [
        ['ALTER TABLE load_sale MODIFY sold DATETIME'],
        ['ALTER TABLE load_sale MODIFY price DECIMAL(12,1)'],
        ['ALTER TABLE chaos_wide MODIFY f FLOAT'],
        ['ALTER TABLE chaos_wide MODIFY d INT'],
        ['ALTER TABLE chaos_wide MODIFY ts DATETIME, MODIFY n DECIMAL(30,3)'],
        ['ALTER TABLE chaos_wide MODIFY t TIME'],
      ],
    },
    dropped: {
      weight: 3,
      changes: ['load_sale', 'load_stock', 'load_code', 'chaos_wide', 'chaos_big', 'chaos_ddl'].map(table => [
        `DROP TABLE ${table}`,
      ]),
    },
    column: {
      weight: 3,
      changes: [
        ['ALTER TABLE load_sale DROP COLUMN item'],
        ['ALTER TABLE load_code DROP COLUMN note'],
        ['ALTER TABLE chaos_wide DROP COLUMN g, DROP COLUMN bits'],
        ['ALTER TABLE chaos_big RENAME COLUMN filler TO filling'],
        ['ALTER TABLE load_sale MODIFY item VARCHAR(200) NOT NULL'],
        ["ALTER TABLE load_stock ADD COLUMN checked VARCHAR(10) NOT NULL DEFAULT 'no'"],
      ],
    },
    generated: {
      weight: 2,
      changes: [
        // A column of the administrator's own stays for the oracle to find, so it is taken away again.
        [
          'ALTER TABLE load_sale ADD COLUMN doubled DECIMAL(20,4) AS (price * 2)',
          'ALTER TABLE load_sale DROP COLUMN doubled',
        ],
        ['ALTER TABLE chaos_big DROP COLUMN filler, ADD COLUMN filler VARCHAR(200) AS (CONCAT(round)) STORED'],
      ],
    },
    trigger: {
      weight: 2,
      changes: [
        ["CREATE TRIGGER chaos_trigger BEFORE INSERT ON load_code FOR EACH ROW SET NEW.note = 'changed'"],
        ['CREATE TRIGGER chaos_trigger BEFORE INSERT ON load_sale FOR EACH ROW SET NEW.price = 0'],
        // Changes nothing that is ours.
        ['CREATE TRIGGER chaos_trigger AFTER INSERT ON load_stock FOR EACH ROW SET @chaos = NEW.pieces'],
      ],
    },
    'foreign-key': {
      weight: 2,
      changes: [
        // Refuses the codes that come later.
        [
          'CREATE TABLE chaos_parent (PRIMARY KEY (b, c)) AS SELECT _branch AS b, code AS c FROM load_code',
          'ALTER TABLE load_code ADD CONSTRAINT chaos_key FOREIGN KEY (_branch, code) REFERENCES chaos_parent (b, c)',
        ],
        // Takes rows of the one with those of the other.
        [
          `CREATE TABLE chaos_parent (PRIMARY KEY (b, c)) AS SELECT _branch AS b, id AS c FROM chaos_big
           UNION SELECT _branch, id FROM chaos_ddl`,
          `ALTER TABLE chaos_ddl ADD CONSTRAINT chaos_key FOREIGN KEY (_branch, id) REFERENCES chaos_parent (b, c)
           ON DELETE CASCADE`,
        ],
      ],
    },
    collation: {
      weight: 2,
      changes: [
        ['ALTER TABLE load_code MODIFY code VARCHAR(80) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL'],
        ['ALTER TABLE chaos_ddl MODIFY word VARCHAR(40) CHARACTER SET latin1'],
        ['ALTER TABLE load_stock MODIFY shop VARCHAR(80) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL'],
      ],
    },
    partitioned: {
      weight: 1,
      changes: [
        ['ALTER TABLE load_sale PARTITION BY KEY () PARTITIONS 3'],
        ['ALTER TABLE load_stock PARTITION BY KEY () PARTITIONS 2'],
      ],
    },
  };

/** What a change of an earlier round may have left. */
const REMAINS: readonly string[] = ['DROP TRIGGER IF EXISTS chaos_trigger', 'DROP TABLE IF EXISTS chaos_parent'];

async function change(call: FaultCall, statements: readonly string[]): Promise<void> {
  const db = await mysql.createConnection({ ...login(call.stage.headOffice), database: call.stage.world.database });
  try {
    await db.query('SET SESSION lock_wait_timeout = 20');
    for (const statement of REMAINS) await attempt(db, statement);
    for (const statement of statements) {
      const refusal = await attempt(db, statement);
      call.note(refusal === null ? statement : `${statement} was refused: ${refusal}`);
      if (refusal !== null) break;
    }
  } finally {
    db.destroy();
  }
  await briefly(call.chance);
}

/** What the server says against it; null: done. It may well refuse: the table is not there, its rows do not fit. */
async function attempt(db: Connection, statement: string): Promise<string | null> {
  try {
    await db.query(statement);
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

export const TARGET_FAULTS: Faults = Object.fromEntries(
  Object.entries(CHANGES).map(([name, { weight, changes }]) => [
    `target-ddl-${name}`,
    { weight, run: (call: FaultCall) => change(call, call.chance.pick(changes)) },
  ]),
);
