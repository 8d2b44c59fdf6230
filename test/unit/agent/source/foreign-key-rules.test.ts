import t from 'tap';
import { restrictingForeignKeys } from '../../../../agent/source/foreign-key-rules.ts';

void t.test('foreign keys that change no other rows are told by their rules, not by what stands in comments', t => {
  const statement = `CREATE TABLE \`c\` (
  \`id\` int NOT NULL COMMENT 'CONSTRAINT \`d\` FOREIGN KEY',
  \`a\` int DEFAULT NULL COMMENT 'ON DELETE CASCADE',
  KEY \`a\` (\`a\`),
  CONSTRAINT \`a, ON DELETE CASCADE\` FOREIGN KEY (\`a\`) REFERENCES \`p\` (\`id\`),
  CONSTRAINT \`b\` FOREIGN KEY (\`a\`) REFERENCES \`p\` (\`id\`) ON DELETE RESTRICT ON UPDATE RESTRICT,
  CONSTRAINT \`c\` FOREIGN KEY (\`a\`) REFERENCES \`p\` (\`id\`) ON DELETE RESTRICT ON UPDATE SET NULL,
  CONSTRAINT \`d\` FOREIGN KEY (\`a\`, \`id\`) REFERENCES \`o\`.\`p\` (\`id\`, \`ON UPDATE CASCADE\`) ON DELETE NO ACTION,
  CONSTRAINT e FOREIGN KEY (a) REFERENCES p (id) ON UPDATE CASCADE,
  CONSTRAINT \`f\` CHECK (\`a\` > 0),
  CONSTRAINT \`g\` FOREIGN KEY (\`a\`) REFERENCES \`p\` (\`id\`)
) ENGINE=InnoDB COMMENT='ON DELETE CASCADE'`;
  t.same([...restrictingForeignKeys(statement)], ['a, ON DELETE CASCADE', 'b', 'd', 'g']);
  t.end();
});
