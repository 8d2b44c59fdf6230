import t from 'tap';
import { classifyStatement } from '../../../../agent/binlog/statements.ts';
import { MARIADB } from '../../../support/hand-made/dialects.ts';

function leavesRows(sql: string): boolean {
  const statement = classifyStatement(sql, 'shop', MARIADB);
  if (statement.kind !== 'ddl') throw new Error(`${sql} is ${statement.kind}`);
  return statement.ddl.leavesRows;
}

void t.test('an ALTER that provably leaves rows as they are needs no copy', t => {
  for (const clause of [
    'ADD COLUMN maybe INT',
    'ADD maybe VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL COMMENT "it, is" AFTER x',
    'ADD COLUMN IF NOT EXISTS maybe DECIMAL(10,2) UNSIGNED FIRST',
    "ADD kind ENUM('a,b','c)'), ADD INDEX (kind), ADD UNIQUE KEY u (a, b)",
    'DROP INDEX x, DROP FOREIGN KEY y, RENAME INDEX a TO b',
    'ALTER COLUMN v SET DEFAULT 5',
    "COMMENT = 'x', AUTO_INCREMENT 5, ALGORITHM=INPLACE, LOCK=NONE",
    'ENGINE=InnoDB',
    'ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES b (a) ON DELETE CASCADE',
    'ADD PARTITION (PARTITION p1 VALUES LESS THAN (5), PARTITION p2 VALUES LESS THAN (6))',
    'REORGANIZE PARTITION a, b INTO (PARTITION c VALUES LESS THAN (5))',
  ]) {
    t.ok(leavesRows(`ALTER TABLE t ${clause}`), clause);
  }
  t.end();
});

void t.test('any other ALTER copies the table', t => {
  for (const clause of [
    'ADD COLUMN a INT NOT NULL',
    'ADD COLUMN a INT DEFAULT 5',
    'ADD COLUMN a TIMESTAMP',
    'ADD COLUMN a SERIAL',
    'ADD COLUMN a INT AS (b + 1) STORED',
    'ADD COLUMN a INT AUTO_INCREMENT PRIMARY KEY',
    'ADD (a INT, b INT)',
    'ADD PRIMARY KEY (a)',
    'ADD CONSTRAINT x PRIMARY KEY (a)',
    'ADD INDEX (a), MODIFY b BIGINT',
    'ADD COLUMN a INT, DROP COLUMN b',
    'DROP PRIMARY KEY',
    'DROP INDEX `PRIMARY`',
    'DROP CONSTRAINT `primary`',
    'RENAME COLUMN a TO b',
    'CHANGE a b INT',
    'TRUNCATE PARTITION p0',
    'DROP PARTITION p0',
    'EXCHANGE PARTITION p0 WITH TABLE u',
    'CONVERT TO CHARACTER SET utf8mb4',
    "COMMENT = 'x' ENGINE = MEMORY",
    'ENGINE=MEMORY',
    'IMPORT TABLESPACE',
    '',
  ]) {
    t.notOk(leavesRows(`ALTER TABLE t ${clause}`), clause);
  }
  t.notOk(leavesRows('ALTER IGNORE TABLE t ADD UNIQUE KEY (a)'), 'MariaDB drops rows that are in the way');
  t.end();
});

void t.test('MariaDB’s CONVERT of partitions and tables names both tables', t => {
  const out = classifyStatement('ALTER TABLE t CONVERT PARTITION p TO TABLE other.u', 'shop', MARIADB);
  t.match(out, { ddl: { tables: [{ name: 't' }, { schema: 'other', name: 'u' }], renames: [], leavesRows: false } });
  const into = classifyStatement('ALTER TABLE t CONVERT TABLE u TO PARTITION p VALUES LESS THAN (5)', 'shop', MARIADB);
  t.match(into, { ddl: { renames: [{ from: { name: 'u' }, to: { name: 't' } }], leavesRows: false } });
  t.end();
});
